/** Parsers of option values. Each throws commander's `InvalidArgumentError` if the value is invalid; commander adds the name of the option. */
import type { Shape } from '@fourierft/core'
import { InvalidArgumentError } from 'commander'

export function parsePositiveInteger(text: string): number {
  const value = Number(text)
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(value) || value < 1) {
    throw new InvalidArgumentError('Expected a positive integer, such as 1000.')
  }
  return value
}

/** Parses `OUT,IN`. Does not limit the product of the dimensions; core limits it to 2³². */
export function parseShape(text: string): Shape {
  const match = /^(\d{1,10}),(\d{1,10})$/.exec(text)
  const [d1, d2] = [Number(match?.[1]), Number(match?.[2])]
  if (!(d1 >= 1 && d2 >= 1)) {
    throw new InvalidArgumentError('Expected OUT,IN: two positive integers, such as 3072,768.')
  }
  return [d1, d2]
}

/** Parses a 64-bit integer. The result is a bigint, because a double holds only 53 bits. */
export function parseSeed(text: string): bigint {
  if (!/^-?\d{1,20}$/.test(text)) throw new InvalidArgumentError('Expected an integer, such as 2024.')
  return BigInt(text)
}

export interface BandPass {
  readonly centerFrequency: number
  readonly bandwidth: number
}

/** Parses `FC,W`: centre frequency and bandwidth. */
export function parseBandPass(text: string): BandPass {
  const number = String.raw`\d+(?:\.\d+)?`
  const match = new RegExp(`^(${number}),(${number})$`).exec(text)
  const [centerFrequency, bandwidth] = [Number(match?.[1]), Number(match?.[2])]
  if (!(centerFrequency >= 0 && bandwidth > 0)) {
    throw new InvalidArgumentError('Expected FC,W: centre frequency and bandwidth, such as 100,200.')
  }
  return { centerFrequency, bandwidth }
}

/** Parses a JSON object that maps modules to nodes. The packages check its values. */
export function parseModuleNames(text: string): Readonly<Record<string, string | readonly string[] | null>> {
  try {
    const value: unknown = JSON.parse(text)
    if (typeof value === 'object' && value !== null && !Array.isArray(value))
      return value as Record<string, string>
  } catch {
    // Reported below.
  }
  throw new InvalidArgumentError('Expected a JSON object, such as {"pooler.dense": null}.')
}

export function parseCount(text: string): number {
  const value = Number(text)
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(value)) {
    throw new InvalidArgumentError('Expected an integer of at least 0.')
  }
  return value
}

/** Parses a positive number: a learning rate or a scaling. */
export function parseRate(text: string): number {
  const value = Number(text)
  if (text.trim() === '' || !Number.isFinite(value) || value <= 0) {
    throw new InvalidArgumentError('Expected a positive number, such as 0.05.')
  }
  return value
}

/** Parses names that are separated by commas. */
export function parseNames(text: string): readonly string[] {
  const names = text.split(',').map((name) => name.trim())
  if (names.includes('')) throw new InvalidArgumentError('Expected names, separated by commas: query,value.')
  return names
}

export function parseToken(text: string): string {
  if (!/^\S+$/.test(text)) throw new InvalidArgumentError('Expected a text without spaces.')
  return text
}

export function parsePort(text: string): number {
  const value = Number(text)
  if (!/^\d{1,5}$/.test(text) || value > 65535)
    throw new InvalidArgumentError('Expected a port from 0 to 65535.')
  return value
}

const UNITS: ReadonlyMap<string, number> = new Map([
  ['', 1],
  ['KB', 1e3],
  ['MB', 1e6],
  ['GB', 1e9],
])

/** Parses a size: bytes, or with a unit. */
export function parseBytes(text: string): number {
  const [, number = '', unit = ''] = /^(\d+(?:\.\d+)?)\s*([KMG]B)?$/i.exec(text) ?? []
  const value = Math.round(Number(number) * (UNITS.get(unit.toUpperCase()) ?? 1))
  if (number === '' || !Number.isSafeInteger(value) || value < 1)
    throw new InvalidArgumentError('Expected bytes, such as 500MB or 2GB.')
  return value
}
