/** Maps of modules to nodes: names, patterns, and malformed maps. */
import { expect, test } from 'vitest'
import { type Counted, countCalls } from '../__fixtures__/count-calls.js'
import { type ModuleMap, modulesInMap, readModuleMap } from './module-map.js'

test('a pattern names the nodes of many modules; the key of one module has priority', () => {
  const nodeOf = readModuleMap({
    'layers.*.blocks.*.attn.qkv': '/layers.*/blocks.*/attn/qkv/MatMul',
    'base_model.model.h.*.c_attn': ['h.*', 'again.*'],
    'encoder_*.q': 'node_*:q',
    'layers.0.blocks.1.attn.qkv': 'first',
    '*.pooler.dense': null,
  })
  expect(nodeOf('layers.0.blocks.0.attn.qkv')).toBe('/layers.0/blocks.0/attn/qkv/MatMul')
  expect(nodeOf('base_model.model.layers.11.blocks.2.attn.qkv')).toBe('/layers.11/blocks.2/attn/qkv/MatMul')
  expect(nodeOf('layers.0.blocks.1.attn.qkv')).toBe('first')
  expect(nodeOf('h.3.c_attn')).toEqual(['h.3', 'again.3'])
  expect(nodeOf('encoder_2.q')).toBe('node_2:q')
  expect(nodeOf('bert.pooler.dense')).toBeNull()
  // A * is one segment or a part of one, and not empty.
  for (const module of ['layers.0.1.blocks.0.attn.qkv', 'encoder_.q', 'encoder.q', 'pooler.dense', 'q'])
    expect(nodeOf(module)).toBeUndefined()
})

test('the modules of a map are its keys, and the names that its patterns make from the names of nodes', () => {
  const map = {
    'my.head': 'MatMul_9',
    'layers.*.blocks.*.qkv': '/layers.*/blocks.*/qkv/MatMul',
    'h.*.q': ['h.*', 'again.*'],
    'encoder_*.v': 'node_*:v',
    'layers.0.blocks.1.qkv': 'first',
    'my.pooler': null,
    '*.pooler': null,
  }
  const labels = [
    '/layers.0/blocks.0/qkv/MatMul',
    '/layers.0/blocks.1/qkv/MatMul',
    'h.3',
    'again.3',
    'node_2:v',
  ]
  // The map does not match these, and `first` belongs to a key without a pattern.
  const others = ['node_2', 'x/layers.0/blocks.0/qkv/MatMul', '/layers./blocks.0/qkv/MatMul', 'h.3.4']
  expect(modulesInMap(map, [...labels, ...others])).toEqual([
    'my.head',
    'layers.0.blocks.1.qkv',
    'layers.0.blocks.0.qkv',
    'h.3.q',
    'encoder_2.v',
  ])
})

test('a module may have the name of a property of every object', () => {
  const nodeOf = readModuleMap({ 'a.b': 'c' })
  for (const module of ['constructor', 'toString', '__proto__', 'base_model.model.valueOf'])
    expect(nodeOf(module)).toBeUndefined()
  expect(readModuleMap({ toString: 'c' })('toString')).toBe('c')
})

test.each([
  [{ 'a.**.q': 'n' }, /"a\.\*\*\.q": expected at most one \* between two dots/],
  [{ 'a.*.q': 'n' }, /expected as many \* in the node's name as in the key: 1; received "n"/],
  [{ 'a.*.q': 'n*_*' }, /in the key: 1/],
  [{ 'a.*.q': ['n*', 'm'] }, /in the key: 1; received "m"/],
  [{ 'a.q': '' }, /expected the name of a node, a list of names, or null; received ""/],
  [{ 'a.q': [] }, /expected the name of a node/],
] satisfies [ModuleMap, RegExp][])('rejects %o', (map, message) => {
  expect(() => readModuleMap(map, 'moduleNames')).toThrow(message)
  expect(() => readModuleMap(map, 'moduleNames')).toThrow(
    expect.objectContaining({
      code: 'INVALID_OPTION',
      details: expect.objectContaining({ option: 'moduleNames' }),
    }),
  )
})

test.each([null, ['a'], 'a'])('rejects %o, which is not an object of modules', (map) => {
  // @ts-expect-error not a `ModuleMap`
  expect(() => readModuleMap(map)).toThrow(/^map: expected an object of modules.*received/)
})

test('rejects two patterns that name different nodes for one module', () => {
  const nodeOf = readModuleMap({ 'a.*.q': 'n*', '*.0.q': 'm*', 'b.*.q': 'm*' })
  expect(() => nodeOf('a.0.q')).toThrow(
    /"\*\.0\.q": another pattern also matches a\.0\.q.*received "a\.\*\.q"; remove one/,
  )
  expect(nodeOf('a.1.q')).toBe('n1')
  expect(readModuleMap({ 'a.*.q': null, '*.0.q': null } satisfies ModuleMap)('a.0.q')).toBeNull()
})

test('a name of thousands of segments is compared segment by segment', () => {
  const key = `${'a*.'.repeat(2000)}q`
  const nodeOf = readModuleMap({ [key]: '*'.repeat(2000) })
  const compared: Counted[] = [
    [String.prototype, 'startsWith'],
    [String.prototype, 'endsWith'],
  ]
  const comparisons = countCalls(compared, () => {
    expect(nodeOf(`${'aaaa.'.repeat(2000)}x`)).toBeUndefined()
    expect(nodeOf(`${'aaaa.'.repeat(2000)}q`)).toBe('aaa'.repeat(2000))
  })
  // Two names of 2000 segments, and the start and end of each.
  expect(comparisons).toBe(2 * 2000 * 2)
})
