/** Milliseconds after which a test counts as hanging. No test depends on the speed of the machine. */
export const HANG_LIMIT = 300_000
