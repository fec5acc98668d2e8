/** The equations of `Einsum`. */
import { expect, test } from 'vitest'
import { readEquation } from './einsum-equation.js'

test('gives each axis of an ellipsis a letter of its own', () => {
  expect(readEquation('...qhd, ...khd -> ...hqk', [5, 5])).toEqual({
    terms: ['ABqhd', 'ABkhd'],
    result: 'ABhqk',
  })
})

test('aligns the last axes of ellipses of different lengths, and avoids letters of the equation', () => {
  expect(readEquation('...Aj,...jk->...Ak', [4, 3])).toEqual({
    terms: ['BCAj', 'Cjk'],
    result: 'BCAk',
  })
})

test('needs ranks only for an ellipsis', () => {
  expect(readEquation('ij,jk->ik', [undefined, undefined])?.terms).toEqual(['ij', 'jk'])
  expect(readEquation('...j,jk->...k', [undefined, 2])).toBeUndefined()
})

test.each(['ij,jk', '', undefined, '...ijk->...i'])('does not read %j', (text) => {
  expect(readEquation(text, [2, 2])).toBeUndefined()
})
