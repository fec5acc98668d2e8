/** Milliseconds after which a test counts as hanging. No test depends on the speed of the machine. */
export const TEST_TIMEOUT = 300_000
