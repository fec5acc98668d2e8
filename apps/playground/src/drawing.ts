/** A canvas for drawing with mouse, pen or finger. */

const inkWidth = 22

export class Drawing {
  readonly #context: CanvasRenderingContext2D
  readonly #canvas: HTMLCanvasElement
  readonly #changed: () => void

  /** @param changed called after each segment of a line */
  constructor(canvas: HTMLCanvasElement, changed: () => void) {
    const context = canvas.getContext('2d', { willReadFrequently: true })
    if (context === null) throw new Error('this browser has no canvas to draw on')
    this.#context = context
    this.#canvas = canvas
    this.#changed = changed
    Object.assign(context, { lineWidth: inkWidth, lineCap: 'round', lineJoin: 'round', strokeStyle: '#111' })
    canvas.addEventListener('pointerdown', (event) => {
      canvas.setPointerCapture(event.pointerId)
      this.#line([event, event])
    })
    let last: PointerEvent | undefined
    canvas.addEventListener('pointermove', (event) => {
      if (canvas.hasPointerCapture(event.pointerId)) this.#line([last ?? event, event])
      last = canvas.hasPointerCapture(event.pointerId) ? event : undefined
    })
    canvas.addEventListener('lostpointercapture', () => {
      last = undefined
    })
  }

  /** Width and height in pixels. */
  get size(): number {
    return this.#canvas.width
  }

  /** `[size, size]`, row-major, 0 (paper) … 1 (ink). */
  get ink(): Float32Array {
    const { data } = this.#context.getImageData(0, 0, this.size, this.size)
    return Float32Array.from({ length: this.size ** 2 }, (_, i) => (data[4 * i + 3] ?? 0) / 255)
  }

  clear(): void {
    this.#context.clearRect(0, 0, this.size, this.size)
    this.#changed()
  }

  #line(events: readonly PointerEvent[]): void {
    const box = this.#canvas.getBoundingClientRect()
    this.#context.beginPath()
    for (const { clientX, clientY } of events) {
      const x = ((clientX - box.left) / box.width) * this.size
      const y = ((clientY - box.top) / box.height) * this.size
      this.#context.lineTo(x, y)
    }
    this.#context.stroke()
    this.#changed()
  }
}
