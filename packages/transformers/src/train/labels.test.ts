import { describe, expect, test } from 'vitest'
import { checkLabels, type Label, LabelIds, labelsOf, type ProblemType, targetOf } from './labels.js'

const rowsOf = (labels: readonly (Label | readonly Label[])[]) =>
  labels.map((label, position) => ({ label, position }))
const model = ['bad', 'neutral', 'good']

describe('labels of a training', () => {
  test.each([
    ['names that the model has', ['good', 'bad'], model, model, false],
    ['numbers that the model has', [2, 0, 1], model, model, false],
    ['numbers and names', [2, 'bad'], model, model, false],
    ['new names, sorted', ['spam', 'ham', 'spam', 'Ham'], model, ['Ham', 'ham', 'spam'], true],
    ['some new names', ['good', 'spam', 0], model, ['bad', 'good', 'spam'], true],
    ['names for a model without a head', ['no', 'yes'], [], ['no', 'yes'], true],
    ['numbers for a model without a head', [0, 2], [], ['LABEL_0', 'LABEL_1', 'LABEL_2'], true],
    ['numbers as text are names', ['1', '0'], model, ['0', '1'], true],
  ])('%s', (_, labels, known, names, isNew) => {
    expect(labelsOf(rowsOf(labels), { names: known })).toEqual({
      problemType: 'single_label_classification',
      names,
      isNew,
    })
  })

  test('arrays are several labels', () => {
    const labels = labelsOf(rowsOf([['good'], [], ['bad', 2]]), { names: model })
    // A head for one label has other scores.
    expect(labels).toEqual({ problemType: 'multi_label_classification', names: model, isNew: true })
    expect(labelsOf(rowsOf([['x'], []]), { names: model })).toMatchObject({ names: ['x'], isNew: true })
    const known = { names: model, problemType: 'multi_label_classification' }
    expect(labelsOf(rowsOf(['good']), known)).toMatchObject({
      problemType: 'multi_label_classification',
      isNew: false,
    })
    expect(labelsOf(rowsOf([['good'], []]), known).isNew).toBe(false)
  })

  test('numbers for one output, or with fractions, are a regression', () => {
    const regression = { problemType: 'regression', names: ['LABEL_0'] }
    expect(labelsOf(rowsOf([1, 5, '2.5']), { names: ['LABEL_0'] })).toEqual({ ...regression, isNew: false })
    expect(labelsOf(rowsOf([1, 5, 2.5]), { names: model })).toEqual({ ...regression, isNew: true })
    expect(labelsOf(rowsOf([1, 0.5]), { names: [] })).toEqual({ ...regression, isNew: true })
  })

  test.each([
    ['a number that the model does not have', [0, 3], model, 1, /class in \[0, 3\); received 3/],
    ['a negative number', [0, -1], [], 1, /received -1/],
    ['an array among single labels', [['good'], 'bad'], model, 1, /expected an array/],
    ['a name among new numbers', [0, 'x'], [], 1, /expected a number/],
    ['one class', ['x', 'x'], model, undefined, /all rows have the label "x"/],
    ['rows without a class', [[], []], model, undefined, /no row has a label/],
  ])('%s is rejected', (_, labels, known, row, message) => {
    const { length } = known
    expect(length >= 0).toBe(true)
    let error: unknown
    try {
      // A model without classes has no labels that empty arrays could be of.
      labelsOf(rowsOf(labels), { names: message.source.startsWith('no row') ? [] : known })
    } catch (cause) {
      error = cause
    }
    expect(error).toMatchObject({ code: 'INVALID_OPTION', message: expect.stringMatching(message) })
    if (row !== undefined) expect(error).toMatchObject({ details: { row, option: 'label' } })
  })
})

describe('targets', () => {
  const settings = (problemType: ProblemType) => ({ problemType, ids: new LabelIds(model), count: 3 })
  test('are classes, several classes, or numbers', () => {
    expect(targetOf('good', settings('single_label_classification'), 0)).toEqual([2])
    expect(targetOf(1, settings('single_label_classification'), 0)).toEqual([1])
    expect(targetOf(['good', 0], settings('multi_label_classification'), 0)).toEqual([1, 0, 1])
    expect(targetOf([], settings('multi_label_classification'), 0)).toEqual([0, 0, 0])
    expect(targetOf('2.5', settings('regression'), 0)).toEqual([2.5])
  })

  test('reject labels that the training does not have, with the row and the nearest labels', () => {
    const settingsOf = settings('single_label_classification')
    for (const [label, message] of [
      ['goood', /^row 7 \(from 0\), label: there is no label "goood"; the nearest labels are good/],
      [4, /\[0, 3\)/],
      [['good'], /received an array/],
    ] as const)
      expect(() => targetOf(label, settingsOf, 7)).toThrow(
        expect.objectContaining({
          code: 'INVALID_OPTION',
          message: expect.stringMatching(message),
          details: expect.objectContaining({ row: 7, option: 'label' }),
        }),
      )
    expect(() => targetOf('x', settings('regression'), 1)).toThrow(/row 1 .*finite number/)
  })
})

test.each([null, Number.NaN, '', {}, [['a']]])('%j is not a label', (label) => {
  expect(() => checkLabels(label, 'label', 3)).toThrow(
    expect.objectContaining({ code: 'INVALID_OPTION', details: expect.objectContaining({ row: 3 }) }),
  )
})
