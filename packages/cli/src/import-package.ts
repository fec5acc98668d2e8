/** Imports an optional package of a command. */
import { CommandError } from './command-error.js'

/** @throws CommandError `NOT_INSTALLED` if the package, or a package that it needs, is not installed */
export async function importPackage<Module>(name: string, load: () => Promise<Module>): Promise<Module> {
  try {
    return await load()
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'ERR_MODULE_NOT_FOUND')) throw error
    const [, missing = name] = /Cannot find package '([^']+)'/.exec(error.message) ?? []
    throw new CommandError('NOT_INSTALLED', `this command needs ${name}: ${missing} is not installed`, {
      advice: `run npm i ${[...new Set([name, missing])].join(' ')}`,
    })
  }
}
