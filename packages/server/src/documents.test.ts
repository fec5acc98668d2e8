/** The README and docs/serving.md agree with the code and with the deployment files. */
import { readFile } from 'node:fs/promises'
import { expect, test } from 'vitest'
import { Metrics } from './metrics.js'

const read = (path: string) => readFile(new URL(path, import.meta.url), 'utf8')
const readme = await read('../README.md')
const serving = await read('../../../docs/serving.md')

test('the README lists every metric with its labels', async () => {
  const [, section = ''] = /^## Metrics$(.*?)^## /ms.exec(readme) ?? []
  const listed = Array.from(
    section.matchAll(/`(fourierft_\w+)(?:\{([\w,]+)\})?`/g),
    ([, name, labels = '']) => [name, labels],
  )
  const labelsOf = (metric: unknown) => (metric as { labelNames: readonly string[] }).labelNames.join()
  const { register } = new Metrics()
  const defined = register
    .getMetricsAsArray()
    .map(({ name }) => [name, labelsOf(register.getSingleMetric(name))])
  expect(listed.sort()).toEqual(defined.sort())
})

test('the queries name metrics that exist', () => {
  const names = new Metrics().register.getMetricsAsArray().map(({ name }) => name)
  const used = Array.from(serving.matchAll(/\bfourierft_\w+/g), ([name]) =>
    name.replace(/_(bucket|sum|count)$/, ''),
  )
  expect(used.length).toBeGreaterThan(5)
  expect(used.filter((name) => !names.includes(name))).toEqual([])
})

test('the README lists the status of every error code', async () => {
  const source = await read('errors.ts')
  const [, table = ''] = /^const STATUS[^{]*\{(.*?)^\}/ms.exec(source) ?? []
  const codes = Array.from(table.matchAll(/(\w+): (\d+)/g), ([, code, status]) => [code, status])
  expect(codes.length).toBeGreaterThan(10)
  const [, section = ''] = /^## Errors$(.*?)^## /ms.exec(readme) ?? []
  for (const [code, status] of codes)
    expect(section).toMatch(new RegExp(`^\\| ${status} \\| .*\`${code}\``, 'm'))
})

test('the README lists every option', async () => {
  const [, section = ''] = /^## Options$(.*?)^## /ms.exec(readme) ?? []
  for (const [file, name] of [
    ['serve.ts', 'ServeOptions'],
    ['model-engine.ts', 'EngineOptions'],
    ['handler.ts', 'HandlerOptions'],
    ['node.ts', 'ListenOptions'],
    ['resolver/hub.ts', 'HubResolverOptions'],
  ]) {
    const [, fields = ''] =
      new RegExp(`^export interface ${name}\\b.*?\\{$(.*?)^\\}`, 'ms').exec(await read(file)) ?? []
    const options = Array.from(fields.matchAll(/^ {2}readonly (\w+)/gm), ([, option]) => option)
    expect(options.length).toBeGreaterThan(2)
    expect([name, options.filter((option) => !section.includes(`\`${option}\``))]).toEqual([name, []])
  }
})

test("docs/serving.md shows the service of KServe's file", async () => {
  const [, shown = 'nothing'] = /^```yaml\n(.*?)^```$/ms.exec(serving) ?? []
  expect(shown).toContain('kind: InferenceService')
  expect((await read('../deploy/kserve.yaml')).split(/^---\n/m)).toContain(shown)
})
