/** A model with linear layers: each reads the input of its width, such as `x8`, and its output is its module's name. */
import { createModel, DataType } from '@fourierft/onnx'

/** @param shapes module → `[out, in]` */
export function linearModel(shapes: Readonly<Record<string, readonly [number, number]>>): Uint8Array {
  const value = (name: string, width: number) => ({ name, dataType: DataType.float, dims: ['rows', width] })
  const layers = Object.entries(shapes)
  const widths = new Set(layers.map(([, [, width]]) => width))
  return createModel(
    {
      name: 'main',
      inputs: Array.from(widths, (width) => value(`x${width}`, width)),
      outputs: layers.map(([module, [width]]) => value(module, width)),
      nodes: layers.map(([module, [, width]]) => ({
        name: `/${module.replaceAll('.', '/')}/MatMul`,
        opType: 'MatMul',
        inputs: [`x${width}`, `${module}.weight`],
        outputs: [module],
      })),
      initializers: layers.map(([module, [d1, d2]]) => ({
        name: `${module}.weight`,
        dims: [d2, d1],
        dataType: DataType.float,
        data: new Uint8Array(Float32Array.from({ length: d1 * d2 }, (_, i) => Math.cos(i)).buffer),
      })),
    },
    { opset: 17 },
  ).toBytes()
}
