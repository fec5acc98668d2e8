/** Fetches the mails of the experiment `mails` (20 MB) for the tests. Prints a warning if that fails; the exit status is always 0. */
import { fileURLToPath } from 'node:url'
import { fetchMails } from './fine-tuning/mails.js'

try {
  await fetchMails(fileURLToPath(new URL('../../../.cache', import.meta.url)))
} catch (error) {
  console.error(`fourierft: the mails are missing: ${error instanceof Error ? error.message : String(error)}`)
}
