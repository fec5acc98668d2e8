import { startTensorFlow } from '@fourierft/quickstart'
import { beforeAll, describe, expect, it } from 'vitest'
import { clusters } from './clusters.js'

beforeAll(async () => {
  await startTensorFlow()
})

const options = { classes: 8, pointsPerClass: 30, radius: 4, deviation: 0.5, seed: 1 }

describe('clusters', () => {
  it('depend only on the seed', () => {
    expect(clusters(options)).toEqual(clusters(options))
    expect(clusters({ ...options, seed: 2 }).points).not.toEqual(clusters(options).points)
  })

  it('have thirty points around each of eight centres on a circle', () => {
    const { count, points, labels } = clusters({ ...options, deviation: 0 })
    expect(count).toBe(240)
    expect(points).toHaveLength(480)
    for (let label = 0; label < 8; label++) {
      const members = [...labels.keys()].filter((point) => labels[point] === label)
      expect(members).toHaveLength(30)
      for (const point of members) {
        const angle = (label * Math.PI) / 4
        // Coordinates are at most 4 in float32, where half a unit in the last place is 2⁻²².
        expect(Math.abs((points[2 * point] ?? 0) - 4 * Math.cos(angle))).toBeLessThanOrEqual(2 ** -22)
        expect(Math.abs((points[2 * point + 1] ?? 0) - 4 * Math.sin(angle))).toBeLessThanOrEqual(2 ** -22)
      }
    }
  })

  it('have the requested noise', () => {
    const exact = clusters({ ...options, deviation: 0 }).points
    const noise = clusters(options).points.map((value, index) => value - (exact[index] ?? 0))
    const deviation = Math.sqrt(noise.reduce((sum, value) => sum + value * value, 0) / noise.length)
    // The deviation of 480 normal numbers is accurate to 1/√960 = 3.2 %; the limit is four times that.
    expect(Math.abs(deviation / options.deviation - 1)).toBeLessThan(0.13)
  })
})
