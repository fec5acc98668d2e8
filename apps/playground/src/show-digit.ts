/** Shows the input of the model on a canvas of 28×28. */
import { imageSize } from '@fourierft/quickstart/browser'

/** @param pixels `[28, 28]`, 0 (paper) … 1 (ink). Default: paper */
export function showDigit(canvas: HTMLCanvasElement, pixels?: Float32Array): void {
  const context = canvas.getContext('2d')
  const image = new ImageData(imageSize, imageSize)
  pixels?.forEach((value, i) => {
    image.data[4 * i + 3] = Math.round(255 * value)
  })
  context?.putImageData(image, 0, 0)
}
