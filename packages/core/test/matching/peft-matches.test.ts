/** Compares matching with PEFT itself, in small models with real names; make-matches.py recorded PEFT's results. */
import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { parseConfig } from '../../src/adapter/config.js'
import { findModules, type ModelFacts, matchModules, nFrequencyOf } from '../../src/adapter/module-matcher.js'
import { FourierFTError } from '../../src/errors.js'

interface Case {
  readonly model: string
  readonly config: string
  readonly matched?: number[]
  readonly frequencies?: number[]
  readonly error?: string
}

const fixture: { models: Record<string, ModelFacts & { names: string[] }>; cases: Case[] } = JSON.parse(
  readFileSync(new URL('./__fixtures__/peft-matches.json', import.meta.url), 'utf8'),
)

describe('modules that PEFT adapts', () => {
  it('the fixture has enough cases of each kind', () => {
    const count = (test: (one: Case) => unknown) => fixture.cases.filter(test).length
    expect(count((one) => one.matched?.length)).toBeGreaterThan(200)
    expect(count((one) => new Set(one.frequencies).size > 1)).toBeGreaterThan(40)
    for (const code of ['MODULE_NOT_FOUND', 'INVALID_PATTERN', 'INVALID_OPTION']) {
      expect(count((one) => one.error === code)).toBeGreaterThan(1)
    }
  })

  it.each(fixture.cases)('$model $config', ({ model, config: text, matched, frequencies, error }) => {
    const { names, ...facts } = fixture.models[model] ?? { names: [] }
    const config = parseConfig(text, 'adapter_config.json')
    const run = () => {
      const modules = matchModules(config, names, facts)
      return { modules, frequencies: modules.map((module) => nFrequencyOf(config, module)) }
    }
    if (error !== undefined) {
      let thrown: unknown
      try {
        run()
      } catch (caught) {
        thrown = caught
      }
      expect(thrown).toBeInstanceOf(FourierFTError)
      expect(thrown).toMatchObject({ code: error })
      return
    }
    const expected = matched?.map((i) => names[i]) ?? []
    if (frequencies) expect(run()).toEqual({ modules: expected, frequencies })
    // Without frequencies, PEFT matched a module that FourierFT cannot adapt, or none. Then only the matching is compared.
    else expect(findModules(config, names, facts)).toEqual(expected)
  })
})
