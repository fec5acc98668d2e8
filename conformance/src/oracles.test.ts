/** The two oracles, core's reference and the vectors of PyTorch, agree with each other, and PyTorch's float32 results are within the limits of the levels. */
import { readFile } from 'node:fs/promises'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { loadAdapter, matchModules, parseConfig, referenceDelta } from '@fourierft/core'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { BACKWARD_LIMIT, finiteDifferences } from './levels/backward.js'
import { deltaLimit } from './levels/delta.js'
import { FORWARD_LIMIT } from './levels/forward.js'
import { TRAINING_LIMIT } from './levels/training.js'
import { makeLinearCase } from './linear-cases.js'
import { largestDifference, relativeError } from './measure.js'
import { layerOf, oracleBackward, oracleForward } from './reference-oracle.js'
import { seededValues } from './seeded-values.js'
import { loadVectors, type Vectors } from './vectors.js'

let vectors: Vectors
beforeAll(async () => {
  vectors = await loadVectors()
})

describe('vectors', () => {
  it('have the same inputs as Python', () => {
    expect(Array.from(seededValues(7, 16))).toEqual(Array.from(vectors.values))
    expect(Array.from(seededValues(7, 16, 4))).toEqual(Array.from(vectors.values, (value) => 4 * value))
  })

  it('name the versions that made them', () => {
    expect(Object.keys(vectors.versions)).toEqual(expect.arrayContaining(['torch', 'peft', 'python']))
  })

  describe('from a server', () => {
    let server: Server
    let base: URL
    beforeAll(async () => {
      const folder = new URL('../vectors/', import.meta.url)
      server = createServer(async (request, response) => {
        try {
          response.end(await readFile(new URL(`.${request.url}`, folder)))
        } catch {
          response.writeHead(404).end()
        }
      })
      await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
      base = new URL(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`)
    })
    afterAll(() => {
      server.close()
    })

    it('are the same as on disk', async () => {
      expect(await loadVectors(base)).toEqual(vectors)
    })

    it('a missing file is named in the error', async () => {
      await expect(loadVectors(new URL('elsewhere/', base))).rejects.toThrow(/elsewhere\/\S+\.json: 404/)
    })
  })
})

describe("core's reference agrees with PyTorch in float64", () => {
  it('on ΔW', () => {
    const small = vectors.delta.filter(({ positions }) => positions === undefined)
    expect(small.length).toBeGreaterThan(9)
    for (const vector of small) {
      // A sum of n products of a coefficient and a cosine of an exact angle: 4 roundings each, of numbers up to |c_l|·α/(d1·d2) ≤ α/(d1·d2).
      // PyTorch's transform has fewer roundings, hence the factor 2.
      const [d1, d2] = vector.shape
      const limit = (2 * 4 * vector.n * 2 ** -53 * vector.scaling) / (d1 * d2)
      expect(
        largestDifference(referenceDelta(layerOf(vector)), vector.float64),
        vector.name,
      ).toBeLessThanOrEqual(limit)
    }
  })

  it('on outputs and gradients', () => {
    for (const vector of vectors.linear) {
      const { weight, bias, layers, x, gradY, rows } = makeLinearCase(vector)
      // Sums of fewer than 2000 products, each of similar size to the result: 2000 roundings.
      const limit = 2000 * 2 ** -53
      expect(relativeError(oracleForward(weight, bias, layers, x, rows), vector.y)).toBeLessThan(limit)
      const gradients = oracleBackward(weight, layers, x, gradY, rows)
      expect(relativeError(gradients.x, vector.x)).toBeLessThan(limit)
      gradients.coefficients.forEach((c, layer) => {
        expect(relativeError(c, vector.coefficients[layer] ?? [])).toBeLessThan(limit)
      })
    }
  })
})

describe("core's reference agrees with finite differences", () => {
  it('on gradients', () => {
    const shape = [6, 9] as const
    const testCase = makeLinearCase({
      name: 'small',
      layers: [
        { shape, n: 7, seed: 1, coefficientsSeed: 2, scaling: 20 },
        { shape, n: 4, seed: 2, coefficientsSeed: 3, scaling: 10 },
      ],
      tokens: 2,
      bias: false,
      rows: null,
      seed: 4,
    })
    const exact = oracleBackward(testCase.weight, testCase.layers, testCase.x, testCase.gradY)
    const differences = finiteDifferences(testCase)
    // The loss sums 12 outputs of about 60 products each: 1000 roundings of numbers of similar size to the gradient.
    const limit = 1000 * 2 ** -53
    expect(relativeError(differences.x, exact.x)).toBeLessThan(limit)
    differences.coefficients.forEach((c, layer) => {
      expect(relativeError(c, exact.coefficients[layer] ?? [])).toBeLessThan(limit)
    })
  })
})

describe("PEFT's float32 results are within the limits", () => {
  it('of level 3', () => {
    for (const { name, shape, peftError } of vectors.delta) {
      expect(peftError, name).toBeLessThan(deltaLimit(shape))
    }
  })

  it('of levels 4 and 5', () => {
    const recorded = vectors.linear.filter(({ peft }) => peft !== undefined)
    expect(recorded.length).toBeGreaterThan(5)
    for (const { peft, y, x, coefficients } of recorded) {
      if (peft === undefined) continue
      expect(relativeError(peft.y, y)).toBeLessThan(FORWARD_LIMIT)
      expect(relativeError(peft.x, x)).toBeLessThan(BACKWARD_LIMIT)
      peft.coefficients.forEach((c, layer) => {
        expect(relativeError(c, coefficients[layer] ?? [])).toBeLessThan(BACKWARD_LIMIT)
      })
    }
  })

  it('of level 7', () => {
    const { peft, trajectory, losses } = vectors.training
    expect(relativeError(peft.trajectory, trajectory)).toBeLessThan(TRAINING_LIMIT)
    expect(relativeError(peft.losses, losses)).toBeLessThan(TRAINING_LIMIT)
  })
})

describe("PEFT's adapter files", () => {
  it('are read as PEFT reads them', async () => {
    expect(vectors.adapters.map(({ name }) => name)).toEqual(
      expect.arrayContaining(['linear-float16', 'linear-bfloat16', 'conv1d-float32', 'modules-to-save']),
    )
    for (const { name, dtype, layers, files } of vectors.adapters) {
      const adapter = await loadAdapter(files)
      const shapes = Object.fromEntries(layers.map((layer) => [layer.name, layer.shape]))
      const read = new Map(adapter.layers(shapes).map((layer) => [layer.name, layer]))
      expect([...read.keys()].sort(), name).toEqual(layers.map((layer) => layer.name).sort())
      for (const expected of layers) {
        const layer = read.get(expected.name)
        expect(Array.from(layer?.coefficients ?? [])).toEqual(Array.from(expected.coefficients))
        expect(layer).toMatchObject({ scaling: expected.scaling, entries: { n: expected.n } })
        expect(layer?.entries.recipe).toMatchObject({ sampler: 'uniform', seed: expected.seed })
        expect(adapter.modules.get(expected.name)?.dtype).toBe(dtype)
      }
    }
  })

  it('match the modules that PEFT adapted', () => {
    for (const { name, modules, layers, files } of vectors.adapters) {
      const config = parseConfig(files.config, `${name}/adapter_config.json`)
      const matched = matchModules(
        config,
        modules.map((module) => module.name),
      )
      expect(matched, name).toEqual(layers.map((layer) => layer.name))
    }
  })
})
