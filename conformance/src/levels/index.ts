/** The levels, in order. */
import type { Level } from '../level.js'
import { backwardLevel } from './backward.js'
import { badInputLevel } from './bad-input.js'
import { deltaLevel } from './delta.js'
import { entriesLevel } from './entries.js'
import { fileLevel } from './file.js'
import { forwardLevel } from './forward.js'
import { lifeCycleLevel } from './life-cycle.js'
import { trainingLevel } from './training.js'

export const LEVELS: readonly Level[] = [
  entriesLevel,
  fileLevel,
  deltaLevel,
  forwardLevel,
  backwardLevel,
  lifeCycleLevel,
  trainingLevel,
  badInputLevel,
]
