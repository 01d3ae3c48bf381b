// The command line, and what the machine allows of it.
import { freemem } from 'node:os'
import { parseArgs } from 'node:util'
import { InputError } from './dataset.mjs'
import { WASM_PAGE_BYTES } from './program.mjs'
import { formatBytes, formatCount, parseBytes } from './units.mjs'

const MiB = 1024 ** 2

export const help = `Usage: npm run demo -- [FILE] [--size BYTES] [--modules N] [--workers N]

Runs a Wasm program (statistics and a histogram of float32 values) over a file:
with its bytes copied or read into every module's memory, and with the file
mapped there.

  FILE           any file; its bytes are taken as float32, little-endian.
                 Without it, one is made in demo/data/ and kept for the next run
  --size BYTES   how large a file to make, or how much of FILE to take:
                 4096, 64MiB, 1.5GiB. Default: 1GiB, or all of FILE
  --modules N    modules at once in one thread, 1 to 64. Default: 4
  --workers N    worker threads, a module in each, 1 to 64. Default: 2
  --help         shows this

Exit code: 0 if all results are equal, 1 if not or if a measurement failed,
2 if the arguments or the file can't be used.
`

/** @throws {InputError} for anything that is not as the help says */
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
    throw new InputError(`${error.message.split('. ')[0]}; --help shows what there is`)
  }
  const { values, positionals } = parsed
  if (positionals.length > 1) throw new InputError(`one FILE at most, not ${positionals.length}`)
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
 * How many bytes and how many modules are taken, with a note for everything that is less than was
 * asked for. Both ways get the same, so that they can be compared.
 *
 * @param {{ size?: number, modules: number, workers: number, fileBytes: number }} wanted
 */
export function makePlan({ size = Infinity, modules, workers, fileBytes }, { wasm }) {
  const notes = []
  let byteLength = Math.min(size, fileBytes)

  // Room for the module's own page, and for the gap that aligns a mapping for huge pages.
  const largest = wasm.maxPages32 * WASM_PAGE_BYTES - 4 * MiB
  if (byteLength > largest) {
    byteLength = largest
    notes.push(
      `the first ${formatBytes(largest)} are taken: more does not fit into a 32-bit memory.`
    )
  }

  // In memory at once: the file in the page cache, the host's copy, and a copy for each module. An
  // eighth stays free.
  const available = (process.availableMemory?.() ?? freemem()) * (7 / 8)
  const mostBytes = Math.floor(available / 3)
  if (byteLength > mostBytes) {
    byteLength = mostBytes
    notes.push(
      `the first ${formatBytes(byteLength)} are taken: there is no memory for more copies.`
    )
  }
  const mostModules = Math.floor(available / byteLength) - 2
  for (const [noun, count] of Object.entries({ module: modules, worker: workers })) {
    if (count <= mostModules) continue
    notes.push(
      `${formatCount(mostModules, noun)} instead of ${count}: there is no memory for more copies.`
    )
  }

  const rest = byteLength % 4
  if (rest !== 0) {
    byteLength -= rest
    if (byteLength + rest === fileBytes) {
      notes.push(
        `the file's last ${rest === 1 ? 'byte is' : `${rest} bytes are`} ignored: a float32 takes 4.`
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
