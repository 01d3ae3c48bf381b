// A C program with its own malloc (wasm32-wasi) counts the words of a text file without loading it:
// the file's pages are mapped into its memory, past the end or in a block from that malloc.

import assert from 'node:assert/strict'
import { closeSync, readSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { setFlagsFromString } from 'node:v8'
import { WASI } from 'node:wasi'
import Table from 'cli-table3'
import { GuardedMemory, HostRegion } from 'wasm-hostmap'
import * as cli from '../support/cli.mjs'
import { dataset } from '../support/dataset.mjs'
import { makeText } from '../support/text.mjs'

const usage = `Usage: node examples/c-module/index.mjs [FILE] [--size MIB]

Counts the words of FILE (smaller than 2 GiB), or of a text that is made on the first run.

  --size MIB    size of that text (default: 64)`

// With memories this large, V8's fast calls into node:wasi may collect garbage where V8 does not
// allow it, which ends the process (nodejs/node#46777). This flag disables fast calls.
setFlagsFromString('--no-turbo-fast-api-calls')

async function main() {
  const { values, positionals } = cli.parseCommandLine(
    usage,
    { size: { type: 'string', default: '64' } },
    true
  )
  if (positionals.length > 1) throw new cli.UsageError(`takes one FILE, not ${positionals.length}`)
  const sizeMiB = cli.wholeNumber('--size', values.size, 1, 2047)
  const path = positionals[0] ?? (await dataset(`text-${sizeMiB}.txt`, makeText(sizeMiB * cli.MiB)))

  const region = HostRegion.open(path)
  try {
    // The copy needs a block from malloc, whose large blocks are powers of two, in a memory of at
    // most 4 GiB.
    if (region.byteLength > 2047 * cli.MiB) {
      throw new cli.UsageError(
        `takes a FILE smaller than 2 GiB; ${path} has ${cli.formatBytes(region.byteLength)}`
      )
    }
    const module = await WebAssembly.compile(await readFile(new URL('words.wasm', import.meta.url)))
    await compareWays(module, region)
    await showMallocNextToMapping(module, region)
  } finally {
    region.close()
  }
}

/** An instance of the C program. */
async function start(module) {
  const wasi = new WASI({ version: 'preview1' })
  const instance = await WebAssembly.instantiate(module, wasi.getImportObject())
  wasi.initialize(instance)
  return instance.exports
}

// Three ways to give the program the text. Each returns the text's address, and a function that
// undoes it.

function copyIn(program, region) {
  const address = program.malloc(region.byteLength) >>> 0
  if (address === 0)
    throw new cli.UsageError(
      `malloc has no ${cli.formatBytes(region.byteLength)} for a copy of the text`
    )
  const block = new Uint8Array(program.memory.buffer, address, region.byteLength)
  const fd = region.duplicateFd()
  for (let done = 0; done < block.length;) {
    const read = readSync(fd, block, done, Math.min(block.length - done, 2 ** 30), done)
    if (read === 0) throw new cli.UsageError('the file became shorter while it was read')
    done += read
  }
  closeSync(fd)
  return { address, release: () => program.free(address) }
}

function mapIntoBlock(program, region) {
  const { malloc, free } = program
  const mapping = GuardedMemory.from(program.memory).map(region, { allocator: { malloc, free } })
  return { address: mapping.pointer, release: () => mapping.unmap() }
}

function mapPastEnd(program, region) {
  const mapping = GuardedMemory.from(program.memory).map(region)
  return { address: mapping.pointer, release: () => mapping.unmap() }
}

async function compareWays(module, region) {
  const ways = [
    ['copied into a block of malloc', copyIn],
    ['mapped into a block of malloc', mapIntoBlock],
    ['mapped past the end', mapPastEnd]
  ]
  const table = new Table({
    head: ['text', 'at address', 'ready in', 'counted in', 'words', 'distinct'],
    colAligns: ['left', 'right', 'right', 'right', 'right', 'right'],
    style: { head: [], border: [] }
  })
  await warmUp(module, region)
  let first
  for (const [name, bring] of ways) {
    const program = await start(module)
    const begin = performance.now()
    const text = bring(program, region)
    const ready = performance.now()
    const tally = countWords(program, text.address, region.byteLength)
    const end = performance.now()

    const counted = {
      total: program.tally_total(tally),
      distinct: program.tally_distinct(tally),
      digest: program.tally_digest(tally)
    }
    if (first === undefined) {
      console.log(
        `The most frequent words of ${region.name}, ${cli.formatBytes(region.byteLength)}:`
      )
      if (!program.tally_print(tally, 5)) throw new cli.UsageError('malloc has no more memory')
    }
    first ??= counted
    assert.deepEqual(counted, first, `${name}: the counts differ`)

    table.push([
      name,
      `0x${text.address.toString(16)}`,
      cli.formatMilliseconds(ready - begin),
      cli.formatMilliseconds(end - ready),
      cli.formatCount(counted.total),
      cli.formatCount(counted.distinct)
    ])
    program.tally_free(tally)
    text.release()
  }
  console.log(`\nOne program, one text, three ways to read it:\n${table}`)
}

/** Counts the text's first words, so that V8 optimizes the program before it is timed. */
async function warmUp(module, region) {
  const program = await start(module)
  const byteLength = Math.min(region.byteLength, 4 * cli.MiB)
  const mapping = GuardedMemory.from(program.memory).map(region, { byteLength })
  program.tally_free(countWords(program, mapping.pointer, byteLength))
  mapping.unmap()
}

function countWords(program, address, byteLength) {
  const tally = program.tally_words(address, byteLength)
  if (tally === 0) throw new cli.UsageError('malloc has no more memory for the table of words')
  return tally
}

/**
 * malloc gets more memory from memory.grow and never touches pages that it did not ask for. So a
 * mapping past the end and the allocator coexist, whichever came first.
 */
async function showMallocNextToMapping(module, region) {
  const program = await start(module)
  const guarded = GuardedMemory.from(program.memory)
  const blocks = new MarkedBlocks(program)

  blocks.allocateMany()
  const before = blocks.count
  const mapping = guarded.map(region)
  blocks.allocateMany()
  const tally = countWords(program, mapping.pointer, mapping.byteLength)
  blocks.allocateMany()

  const mappingEnd = mapping.address + mapping.byteLength
  const beyond = blocks.countFrom(mappingEnd)
  assert(beyond > 0, 'malloc had to grow the memory past the mapping')
  assert.equal(
    blocks.countIn(mapping.address, mappingEnd),
    0,
    'malloc gave a block inside the mapping'
  )
  blocks.check()
  const mapped = Buffer.from(program.memory.buffer, mapping.address, mapping.byteLength)
  assert(mapped.equals(Buffer.from(region.view())), 'the mapping does not show the file')

  console.log(`
malloc returned ${before} blocks before the mapping and ${blocks.count - before} after it, ${beyond} of them past the mapping.
No block overlaps the mapping, every block kept its bytes, and the mapping shows the file:`)
  console.log(guarded.layout())

  program.tally_free(tally)
  mapping.unmap()
  blocks.check()
  const byteLength = guarded.byteLength
  const again = guarded.map(region)
  assert.equal(again.address, mapping.address, 'the space of the first mapping was not reused')
  assert.equal(guarded.byteLength, byteLength, 'the memory grew')
  again.unmap()
  blocks.freeAll()
  console.log('\nUnmapped and mapped again: the same address, and the memory did not grow.')
}

/** Blocks from malloc, each filled with its own byte, which reveals writes to the wrong one. */
class MarkedBlocks {
  #program
  #blocks = []

  constructor(program) {
    this.#program = program
  }

  get count() {
    return this.#blocks.length
  }

  /** Allocates small blocks, which share pages, and a few for which malloc must grow the memory. */
  allocateMany() {
    for (let size = 24; size < 64 * 1024; size = Math.ceil(size * 1.3)) this.#allocate(size)
    for (let i = 0; i < 3; i++) this.#allocate(cli.MiB)
  }

  countFrom(start) {
    return this.#blocks.filter(block => block.address >= start).length
  }

  countIn(start, end) {
    return this.#blocks.filter(
      block => block.address < end && block.address + block.byteLength > start
    ).length
  }

  check() {
    for (const block of this.#blocks) {
      assert(
        this.#bytes(block).equals(Buffer.alloc(block.byteLength, block.mark)),
        'a block of malloc was overwritten'
      )
    }
  }

  freeAll() {
    for (const { address } of this.#blocks.splice(0)) this.#program.free(address)
  }

  #allocate(byteLength) {
    const address = this.#program.malloc(byteLength) >>> 0
    if (address === 0) throw new cli.UsageError('malloc has no more memory')
    const block = { address, byteLength, mark: 1 + (this.#blocks.length % 255) }
    this.#bytes(block).fill(block.mark)
    this.#blocks.push(block)
  }

  #bytes({ address, byteLength }) {
    return Buffer.from(this.#program.memory.buffer, address, byteLength)
  }
}

await cli.run(main)
