// Helpers for command lines: arguments, one-line errors, figures with units.

import { basename, dirname } from 'node:path'
import { parseArgs } from 'node:util'

export { formatBytes } from '../../lib/support/bytes.js'

export const MiB = 2 ** 20

/** A user's mistake, reported without a stack. */
export class UsageError extends Error {}

/**
 * Parses the command line. With --help, prints `usage` and ends the process.
 * @param options as in `parseArgs`, without --help
 */
export function parseCommandLine(usage, options, allowPositionals = false) {
  const config = {
    options: { ...options, help: { type: 'boolean', short: 'h' } },
    allowPositionals
  }
  let parsed
  try {
    parsed = parseArgs(config)
  } catch (error) {
    throw new UsageError(error.message)
  }
  if (parsed.values.help) {
    console.log(usage)
    process.exit(0)
  }
  return parsed
}

/** Parses a whole number, such as the value of --size. */
export function wholeNumber(option, text, least, most) {
  const number = Number(text)
  if (!/^\d+$/.test(text) || number < least || number > most) {
    throw new UsageError(`${option} takes a whole number from ${least} to ${most}, not '${text}'`)
  }
  return number
}

/**
 * Runs `main`. An error that the user or the system caused (a UsageError, or any error with a code)
 * is printed as one line. Everything else is a bug, and keeps its stack.
 */
export async function run(main) {
  try {
    await main()
  } catch (error) {
    const expected =
      error instanceof UsageError ||
      (typeof error?.code === 'string' && error.code !== 'ERR_ASSERTION')
    console.error(expected ? `${scriptName()}: ${error.message}` : error)
    process.exitCode = error instanceof UsageError ? 2 : 1
  }
}

function scriptName() {
  const path = process.argv[1]
  return basename(path) === 'index.mjs' ? basename(dirname(path)) : basename(path)
}

export function formatMilliseconds(milliseconds) {
  if (milliseconds < 0.1) return `${(milliseconds * 1000).toFixed(0)} us`
  if (milliseconds < 100) return `${milliseconds.toFixed(milliseconds < 10 ? 2 : 1)} ms`
  return `${Math.round(milliseconds).toLocaleString('en')} ms`
}

export function formatCount(count) {
  return count.toLocaleString('en')
}
