/** Tests that result files are written completely or not at all. */
import { chmod, lstat, mkdir, mkdtemp, readdir, readFile, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { beforeEach, expect, test } from 'vitest'
import { writeResultFile } from '../src/write-result-file.js'

let directory: string
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'fourierft-'))
})

test('replaces a file, and leaves no other file', async () => {
  const file = join(directory, 'result')
  await writeFile(file, 'a longer old result')
  await writeResultFile(file, 'new')
  await writeResultFile(file, Uint8Array.of(1, 2, 3))
  expect([...(await readFile(file))]).toEqual([1, 2, 3])
  expect(await readdir(directory)).toEqual(['result'])
})

test('keeps the permissions of a file', async () => {
  const file = join(directory, 'result')
  await writeFile(file, 'old')
  await chmod(file, 0o640)
  await writeResultFile(file, 'new')
  expect((await lstat(file)).mode & 0o777).toBe(0o640)
})

test('replaces the target of a symbolic link, and keeps the link', async () => {
  await writeFile(join(directory, 'target'), 'old')
  await symlink('target', join(directory, 'link'))
  await writeResultFile(join(directory, 'link'), 'new')
  expect((await lstat(join(directory, 'link'))).isSymbolicLink()).toBe(true)
  expect(await readFile(join(directory, 'target'), 'utf8')).toBe('new')
})

test('writes to a device, which stays a device', async () => {
  await writeResultFile('/dev/null', 'away')
  expect((await lstat('/dev/null')).isCharacterDevice()).toBe(true)
})

test('names the file in the error, and keeps the existing content', async () => {
  const file = join(directory, 'result')
  await mkdir(join(file, 'inside'), { recursive: true })
  await expect(writeResultFile(file, 'new')).rejects.toMatchObject({
    code: 'IO_ERROR',
    message: expect.stringContaining(file),
    details: { file },
  })
  expect(await readdir(directory)).toEqual(['result'])
  expect(await readdir(file)).toEqual(['inside'])
})
