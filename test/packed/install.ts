/**
 * Packs every published package, and installs the tarballs into an empty project outside the workspace, once for all tests of this folder. This is a
 * global set-up, because that has no time limit.
 */
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { TestProject } from 'vitest/node'
import { run } from './run.js'

declare module 'vitest' {
  export interface ProvidedContext {
    packages: readonly PackedPackage[]
    /** The folder of the project in which the packages are installed. */
    project: string
  }
}

export interface PackedPackage {
  readonly manifest: Manifest
  /** The source folder. */
  readonly folder: string
  readonly tarball: string
}

interface Manifest {
  readonly name: string
  readonly version: string
  readonly license: string
  /** The packages of platforms have `main`, all others `exports`. */
  readonly main?: string
  readonly exports?: Readonly<Record<string, unknown>>
  readonly os?: readonly string[]
  readonly cpu?: readonly string[]
  readonly libc?: readonly string[]
}

/** Packages that users install together with ours. */
const PEERS = [
  '@tensorflow/tfjs-backend-wasm@4.22.0',
  '@tensorflow/tfjs-core@4.22.0',
  '@tensorflow/tfjs-layers@4.22.0',
  '@tensorflow/tfjs-backend-cpu@4.22.0',
  'onnxruntime-node@1.30.0',
  '@huggingface/transformers@4.3.1',
  'openai@6',
  '@types/node@20',
]

const root = fileURLToPath(new URL('../..', import.meta.url))

export default function setup({ provide }: TestProject): void {
  const temporary = mkdtempSync(join(tmpdir(), 'fourierft-packages-'))
  // Deleted when the process ends, which has no time limit either.
  process.once('exit', () => rmSync(temporary, { recursive: true, force: true }))

  const packages = published().map(({ folder, manifest }) => {
    const output = run('pnpm', ['pack', '--json', '--pack-destination', temporary], folder)
    // The script `prepack` of a package may print something before the JSON.
    return { folder, manifest, tarball: JSON.parse(output.slice(output.search(/^\{/m))).filename as string }
  })
  const project = join(temporary, 'project')
  mkdirSync(project)
  writeFileSync(
    join(project, 'package.json'),
    JSON.stringify({ name: 'user', private: true, type: 'module' }),
  )
  const tarballs = packages.map(({ tarball }) => tarball)
  run('npm', ['install', '--no-audit', '--no-fund', '--ignore-scripts', ...tarballs, ...PEERS], project)
  provide('packages', packages)
  provide('project', project)
}

/** Returns the published packages. Of the packages of platforms, only the one for this machine is included, if it is compiled. */
function published(): { readonly folder: string; readonly manifest: Manifest }[] {
  return ['conformance', ...foldersIn('packages'), ...foldersIn('packages/native/platforms')]
    .map((path) => join(root, path))
    .map((folder) => ({
      folder,
      manifest: JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as Manifest,
    }))
    .filter(
      ({ folder, manifest }) =>
        !manifest.main || (isForThisMachine(manifest) && existsSync(join(folder, manifest.main))),
    )
}

function foldersIn(parent: string): string[] {
  return readdirSync(join(root, parent)).map((name) => `${parent}/${name}`)
}

function isForThisMachine({ os, cpu, libc }: Manifest): boolean {
  const { header } = process.report.getReport() as { header: { glibcVersionRuntime?: string } }
  const installedLibc = header.glibcVersionRuntime ? 'glibc' : 'musl'
  return Boolean(
    os?.includes(process.platform) && cpu?.includes(process.arch) && (libc?.includes(installedLibc) ?? true),
  )
}
