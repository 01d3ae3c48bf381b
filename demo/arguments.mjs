// Parses the command line, and reduces it to what the machine allows.
import { freemem } from 'node:os'
import { parseArgs } from 'node:util'
import { InputError } from './dataset.mjs'
import { WASM_PAGE_BYTES } from './program.mjs'
import { formatBytes, formatCount, parseBytes } from './units.mjs'

const MiB = 1024 ** 2

export const help = `Usage: npm run demo -- [FILE] [--size BYTES] [--modules N] [--workers N]

Runs a Wasm program (statistics and a histogram of float32 values) over a file:
with the file copied, read, and mapped into each module's memory.

  FILE           any file, read as little-endian float32 values. Default: a file
                 in demo/data/, made on the first run
  --size BYTES   the size of that file, or how much of FILE to use, such as
                 4096, 64MiB or 1.5GiB. Default: 1GiB, or all of FILE
  --modules N    modules at once in one thread, 1 to 64. Default: 4
  --workers N    worker threads with a module each, 1 to 64. Default: 2
  --help         shows this text

Exit code: 0 if all results are equal; 1 if not, or if a measurement failed;
2 if the arguments or the file can't be used.
`

/** @throws {InputError} for anything that the help text does not allow */
export function readArguments(args) {
  let parsed
  try {
    parsed = parseArgs({
      args,
      allowPositionals: true,
      options: {
        size: { type: 'string' },
        modules: { type: 'string', default: '4' },
        workers: { type: 'string', default: '2' },
        help: { type: 'boolean', short: 'h' }
      }
    })
  } catch (error) {
    throw new InputError(`${error.message.split('. ')[0]}; see --help`)
  }
  const { values, positionals } = parsed
  if (positionals.length > 1)
    throw new InputError(`takes at most one FILE, not ${positionals.length}`)
  return {
    help: values.help,
    file: positionals[0],
    size: values.size === undefined ? undefined : readSize(values.size),
    modules: readCount('--modules', values.modules),
    workers: readCount('--workers', values.workers)
  }
}

function readSize(text) {
  const size = parseBytes(text)
  if (!(size >= 4 && size <= Number.MAX_SAFE_INTEGER)) {
    throw new InputError(
      `--size takes 4 bytes or more, such as 4096, 64MiB or 1.5GiB, not '${text}'`
    )
  }
  return size
}

function readCount(option, text) {
  const count = /^\d+$/.test(text) ? Number(text) : NaN
  if (!(count >= 1 && count <= 64))
    throw new InputError(`${option} takes a number from 1 to 64, not '${text}'`)
  return count
}

/**
 * Decides how many bytes and modules to use, with a note for everything that is less than what the
 * user asked for. All ways get the same, so that they can be compared.
 *
 * @param {{ size?: number, modules: number, workers: number, fileBytes: number }} wanted
 */
export function makePlan({ size = Infinity, modules, workers, fileBytes }, { wasm }) {
  const notes = []
  let byteLength = Math.min(size, fileBytes)

  // Leave room for the module's own page, and for the gap that aligns a mapping for huge pages.
  const largest = wasm.maxPages32 * WASM_PAGE_BYTES - 4 * MiB
  if (byteLength > largest) {
    byteLength = largest
    notes.push(`using the first ${formatBytes(largest)}: more does not fit into a 32-bit memory.`)
  }

  // In memory at once: the file in the page cache, the host's copy, and one copy per module. Leave
  // an eighth free.
  const available = (process.availableMemory?.() ?? freemem()) * (7 / 8)
  const mostBytes = Math.floor(available / 3)
  if (byteLength > mostBytes) {
    byteLength = mostBytes
    notes.push(`using the first ${formatBytes(byteLength)}: there is no memory for more copies.`)
  }
  const mostModules = Math.floor(available / byteLength) - 2
  for (const [noun, count] of Object.entries({ module: modules, worker: workers })) {
    if (count <= mostModules) continue
    notes.push(
      `using ${formatCount(mostModules, noun)} instead of ${count}: there is no memory for more copies.`
    )
  }

  const rest = byteLength % 4
  if (rest !== 0) {
    byteLength -= rest
    if (byteLength + rest === fileBytes) {
      notes.push(
        `ignoring the file's last ${rest === 1 ? 'byte' : `${rest} bytes`}: a float32 takes 4.`
      )
    }
  }
  return {
    byteLength,
    modules: Math.min(modules, mostModules),
    workers: Math.min(workers, mostModules),
    notes
  }
}
