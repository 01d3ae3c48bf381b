'use strict'

// Writes the file: lib/paging/providers/frames.js says what is in it.

const fs = require('node:fs')
const os = require('node:os')
const { randomBytes } = require('node:crypto')

const SKIPPABLE = 0x184d2a5e
const SEEKABLE = 0x8f92eab1
const MOST_FRAMES = 0x8000000
const ENDS = ['SIGINT', 'SIGTERM', 'SIGHUP']

/** Pieces of any length as chunks of one length; the last may be shorter. */
async function* chunksOf(stream, chunkBytes) {
  let pieces = []
  let length = 0
  for await (const piece of stream) {
    for (let at = 0; at < piece.length;) {
      const part = piece.subarray(at, at + chunkBytes - length)
      pieces.push(part)
      length += part.length
      at += part.length
      if (length < chunkBytes) continue
      yield Buffer.concat(pieces, length)
      pieces = []
      length = 0
    }
  }
  if (length > 0) yield Buffer.concat(pieces, length)
}

function tableOf(entries) {
  const table = Buffer.alloc(8 + entries.length * 8 + 9)
  table.writeUInt32LE(SKIPPABLE, 0)
  table.writeUInt32LE(table.length - 8, 4)
  entries.forEach(([packedBytes, bytes], index) => {
    table.writeUInt32LE(packedBytes, 8 + index * 8)
    table.writeUInt32LE(bytes, 12 + index * 8)
  })
  table.writeUInt32LE(entries.length, table.length - 9)
  table.writeUInt32LE(SEEKABLE, table.length - 4)
  return table
}

/** `{ bytes, packedBytes, frames }`. The output appears whole or not at all. */
async function pack({ input, output, chunkBytes, codec, level }) {
  const read = input === '-' ? undefined : await fs.promises.open(input)
  const source = read?.createReadStream({ highWaterMark: 2 ** 20 }) ?? process.stdin
  const name = `${output}.${randomBytes(6).toString('hex')}.tmp`
  const goOn = removeAtEnd(name)
  let file
  try {
    file = await fs.promises.open(name, 'wx')
    const made = await write(file, source, { chunkBytes, codec, level })
    await file.sync()
    await file.close()
    await fs.promises.rename(name, output)
    return made
  } catch (error) {
    await file?.close().catch(() => {})
    if (file !== undefined) await fs.promises.rm(name, { force: true })
    throw error
  } finally {
    goOn()
    source.destroy()
  }
}

/** What is half done goes with the process when it is ended. Gives what stops that. */
function removeAtEnd(name) {
  const end = signal => {
    goOn()
    fs.rmSync(name, { force: true })
    // With nobody who handles it, it ends the process as it should.
    process.kill(process.pid, signal)
  }
  const goOn = () => ENDS.forEach(signal => process.off(signal, end))
  ENDS.forEach(signal => process.on(signal, end))
  return goOn
}

async function write(file, source, { chunkBytes, codec, level }) {
  const entries = []
  let bytes = 0
  let packedBytes = 0
  const append = async packed => {
    for (let at = 0; at < packed.length;) {
      at += (await file.write(packed, at, packed.length - at)).bytesWritten
    }
    packedBytes += packed.length
  }
  if (codec.head.length > 0) {
    await append(codec.head)
    entries.push([codec.head.length, 0])
  }
  // As many at a time as there are threads for it; written in their order.
  const most = Math.min(4, os.availableParallelism())
  const begun = []
  const finish = async () => {
    const [packing, length] = begun.shift()
    const packed = await packing
    await append(packed)
    entries.push([packed.length, length])
    if (entries.length > MOST_FRAMES) {
      throw new Error(`there would be more than ${MOST_FRAMES} chunks; take a larger --chunk`)
    }
  }
  try {
    for await (const chunk of chunksOf(source, chunkBytes)) {
      bytes += chunk.length
      const packing = codec.pack(chunk, level)
      // Its turn may come later than its failure.
      packing.catch(() => {})
      begun.push([packing, chunk.length])
      if (begun.length >= most) await finish()
    }
    while (begun.length > 0) await finish()
  } catch (error) {
    await Promise.allSettled(begun.map(([packing]) => packing))
    throw error
  }
  if (bytes === 0) throw new Error('the input has no bytes; a region has at least 1')
  const frames = entries.filter(([, length]) => length > 0).length
  await append(tableOf(entries))
  return { bytes, packedBytes, frames }
}

module.exports = { pack }
