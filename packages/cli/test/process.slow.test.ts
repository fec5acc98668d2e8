/** Tests the command as users run it: as a process (`dist/main.js`), in a shell and in pipes. */
import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { chmod, cp, mkdir, mkdtemp, readFile, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { beforeAll, expect, test } from 'vitest'
import { backendNames } from '../src/backends.js'
import { type CapturedRun, peftAdapter } from './captured-run.js'
import { linearModel } from './linear-model.js'
import { recordedAdapters } from './recorded-adapters.js'

const main = fileURLToPath(new URL('../dist/main.js', import.meta.url))
let directory: string

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'fourierft-'))
  await writeFile(join(directory, 'fourierft'), `#!/bin/sh\nexec "${process.execPath}" "${main}" "$@"\n`)
  await chmod(join(directory, 'fourierft'), 0o755)
  await cp(peftAdapter('linear-float32'), join(directory, 'my-adapter'), { recursive: true })
  const layers = recordedAdapters.find(({ name }) => name === 'linear-float32')?.layers ?? []
  const shapes = Object.fromEntries(layers.map(({ name, shape }) => [name, shape]))
  await writeFile(join(directory, 'shapes.json'), JSON.stringify(shapes))
  await writeFile(join(directory, 'model.onnx'), linearModel(shapes))
  const model = fileURLToPath(new URL('../../transformers/test/__fixtures__/bert', import.meta.url))
  await cp(model, join(directory, 'my-model'), { recursive: true })
  const rows = ['calm', 'loud'].map((label) => JSON.stringify({ text: `the ${label} river`, label }))
  for (const file of ['train.jsonl', 'test.jsonl']) await writeFile(join(directory, file), rows.join('\n'))
})

function shell(script: string): Promise<CapturedRun> {
  const env = { ...process.env, PATH: [directory, process.env.PATH].join(delimiter) }
  return new Promise((resolve) => {
    execFile('bash', ['-c', script], { cwd: directory, env, maxBuffer: 2 ** 28 }, (error, stdout, stderr) => {
      resolve({ status: error === null ? 0 : Number(error.code), stdout, stderr })
    })
  })
}

test('--version prints the version of the package', async () => {
  const { version } = JSON.parse(await readFile(new URL('../package.json', import.meta.url), 'utf8'))
  expect(await shell('fourierft --version')).toEqual({ status: 0, stdout: `${version}\n`, stderr: '' })
})

test('--help lists every command and shows examples', async () => {
  const { status, stdout, stderr } = await shell('fourierft --help')
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
  for (const command of [
    'train',
    'evaluate',
    'inspect',
    'delta',
    'entries',
    'convert',
    'merge',
    'serve',
    'params',
    'conformance',
  ]) {
    expect(stdout).toMatch(new RegExp(`^  ${command} `, 'm'))
    const help = await shell(`fourierft ${command} --help`)
    expect(help).toMatchObject({ status: 0, stderr: '' })
    expect(help.stdout).toContain(`$ fourierft ${command}`)
  }
})

test.each([
  '',
  'nonsense',
  'entries --nonsense',
  'entries --shap 3,4 --n 1 --seed 1',
  'inspect',
  'inspect my-adapter other',
  'conformance --backend nonsense',
  'conformance --json --markdown',
  'conformance --level 9',
])('rejects the arguments %s in one line', async (args) => {
  const { status, stdout, stderr } = await shell(`fourierft ${args}`)
  expect({ status, stdout }).toEqual({ status: 2, stdout: '' })
  expect(stderr).toMatch(/^fourierft: USAGE: [^\n]+\n$/)
})

test('lists the backends if one is unknown', async () => {
  const { stderr } = await shell('fourierft conformance --backend nonsense')
  expect(stderr).toContain(`Expected one of ${backendNames.join(', ')}.`)
})

test.each(['', '--json'])(
  'succeeds if the other program closes the pipe early (entries %s | head)',
  async (json) => {
    const script = `fourierft entries --shape 2000,2000 --n 1000000 --seed 1 ${json} | head -c 10; echo " \${PIPESTATUS[0]}"`
    const { stdout, stderr } = await shell(script)
    expect(stderr).toBe('')
    expect(stdout).toMatch(/^.{10} 0\n$/s)
  },
)

const noFullDevice = existsSync('/dev/full') ? '' : ' (skipped: there is no /dev/full)'

test.skipIf(noFullDevice !== '').each(['', '--json'])(
  `fails in one line if standard output cannot be written (entries %s)${noFullDevice}`,
  async (json) => {
    const { status, stderr } = await shell(
      `fourierft entries --shape 768,768 --n 1000 --seed 2024 ${json} > /dev/full`,
    )
    expect(status).toBe(1)
    expect(stderr).toMatch(/^fourierft: IO_ERROR: standard output: [^\n]*ENOSPC[^\n]*\n$/)
  },
)

test('writes a result to standard output', async () => {
  const args = '--module encoder.layer.0.attention.query --shape 20,24'
  const { status } = await shell(
    `fourierft delta my-adapter ${args} --out a.bin && fourierft delta my-adapter ${args} --out /dev/stdout | cmp - a.bin`,
  )
  expect(status).toBe(0)
})

test.each(['tfjs-cpu', 'tfjs-wasm'])('runs %s if its packages are installed', async (backend) => {
  const { status, stdout } = await shell(
    `fourierft conformance --backend ${backend} --level 4 --quick --json`,
  )
  expect(status).toBe(0)
  expect(JSON.parse(stdout)).toMatchObject([{ backend, level: 4, status: 'pass' }])
})

/** A Vulkan driver that runs on the CPU, from Debian's package chromium. */
const SWIFTSHADER = '/usr/lib/chromium/vk_swiftshader_icd.json'
const noDriver = existsSync(SWIFTSHADER)
  ? ''
  : ` (skipped: there is no ${SWIFTSHADER}; apt-get install chromium libvulkan1)`

test.skipIf(noDriver !== '')(`tfjs-webgpu runs in Node and names its GPU${noDriver}`, async () => {
  const { status, stdout } = await shell(
    `VK_ICD_FILENAMES=${SWIFTSHADER} fourierft conformance --backend tfjs-webgpu --level 7 --quick --json`,
  )
  expect(status).toBe(0)
  const device = expect.stringContaining('SwiftShader')
  expect(JSON.parse(stdout)).toMatchObject([{ backend: 'tfjs-webgpu', device, level: 7, status: 'pass' }])
})

test('skips a backend whose packages are missing, and names them', async () => {
  const project = join(directory, 'without-packages')
  await mkdir(join(project, 'node_modules', '@fourierft'), { recursive: true })
  const packageFolder = fileURLToPath(new URL('..', import.meta.url))
  for (const name of ['dist', 'package.json'])
    await cp(join(packageFolder, name), join(project, name), { recursive: true })
  for (const name of ['cli-progress', 'commander', 'vega', '@fourierft/core', '@fourierft/conformance']) {
    await symlink(join(packageFolder, 'node_modules', name), join(project, 'node_modules', name))
  }
  const { status, stdout, stderr } = await shell(
    `"${process.execPath}" without-packages/dist/main.js conformance --backend tfjs-wasm --level 1 --json`,
  )
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
  const reason = '@fourierft/tfjs is not installed'
  const row = { backend: 'tfjs-wasm', device: 'unavailable', level: 1, maxError: null, limit: null }
  expect(JSON.parse(stdout)).toEqual([{ ...row, status: 'skip', reason }])
})

test('runs every command of the README in order', async () => {
  const readme = await readFile(new URL('../README.md', import.meta.url), 'utf8')
  const blocks = Array.from(readme.matchAll(/^```sh\n(.*?)^```$/gms), ([, block]) => block ?? '')
  const commands = blocks
    .flatMap((block) => block.split('\n'))
    .filter((line) => line.startsWith('fourierft '))
  expect(commands.length).toBeGreaterThanOrEqual(9)
  for (const command of commands) {
    const { status, stderr } = await shell(command)
    expect({ command, status, stderr }).toEqual({ command, status: 0, stderr: '' })
  }
})
