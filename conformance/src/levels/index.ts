/** The levels, in order. */
import type { Level } from '../level.js'
import { backwardLevel } from './backward.js'
import { deltaLevel } from './delta.js'
import { entriesLevel } from './entries.js'
import { forwardLevel } from './forward.js'
import { lifeCycleLevel } from './life-cycle.js'
import { trainingLevel } from './training.js'

export const LEVELS: readonly Level[] = [
  entriesLevel,
  deltaLevel,
  forwardLevel,
  backwardLevel,
  lifeCycleLevel,
  trainingLevel,
]
