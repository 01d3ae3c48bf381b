'use strict'

// `wasm-hostmap chunks`: makes a file of frames, each packed by itself, which a region can be paged
// in from.

const fs = require('node:fs')
const { codecs, DEFAULT_CODEC } = require('./codecs.js')
const { pack } = require('./pack.js')
const { parseSize, sizeInWords } = require('./size.js')

const FAILED = 1
const WRONG_USE = 2

// What the format takes, and what lib/paging/providers/frames.js reads.
const MOST_FRAME_BYTES = 2 ** 30

const help = `Usage: npx wasm-hostmap chunks INPUT OUTPUT [OPTIONS]

Packs INPUT (a file, or - for standard input) into OUTPUT, chunk by chunk, so that

  await HostRegion.paged({ provider: { frames: 'OUTPUT' } })

unpacks only the chunks that are touched. By zstd, OUTPUT is in zstd's seekable format: \`zstd -d\`
unpacks it as a whole.

  --chunk SIZE    bytes of a chunk before it is packed: 4096 to 1GiB, such as 64KiB (default 256KiB).
                  Chunks of the region are as long if that is a multiple of 64 KiB, 16 MiB at most.
  --codec NAME    zstd or deflate (default ${DEFAULT_CODEC} here: zstd needs Node.js 22.15 or later, to
                  pack and to read)
  --level N       how hard to try: zstd 1 to 22 (default 3), deflate 1 to 9 (default 6)
  --force         replace OUTPUT if it is there

OUTPUT appears when it is whole. Exit status: 0 done, 1 failed, 2 wrong use.
`

function wrongUse(message) {
  process.stderr.write(`${message}\n\n${help}`)
  return WRONG_USE
}

async function run({ values, positionals }) {
  if (positionals.length !== 2) return wrongUse('chunks takes INPUT and OUTPUT.')
  const [input, output] = positionals
  const chunkBytes = parseSize(values.chunk ?? '256KiB')
  if (!(chunkBytes >= 4096 && chunkBytes <= MOST_FRAME_BYTES)) {
    return wrongUse(`--chunk must be from 4096 to 1GiB; it is '${values.chunk}'.`)
  }
  const codec = codecs.get(values.codec ?? DEFAULT_CODEC)
  if (codec === undefined) {
    return wrongUse(`--codec must be ${[...codecs.keys()].join(' or ')}; it is '${values.codec}'.`)
  }
  if (codec.pack === undefined) {
    return wrongUse(
      `Node.js ${process.version} has no ${values.codec}; use --codec deflate, or Node.js 22.15 or later.`
    )
  }
  const level = values.level === undefined ? codec.level : Number(values.level)
  if (!(Number.isInteger(level) && level >= 1 && level <= codec.mostLevel)) {
    return wrongUse(`--level must be from 1 to ${codec.mostLevel}; it is '${values.level}'.`)
  }
  if (!values.force && fs.existsSync(output)) {
    process.stderr.write(`${output} is there already; --force replaces it.\n`)
    return FAILED
  }
  try {
    const { bytes, packedBytes, frames } = await pack({ input, output, chunkBytes, codec, level })
    process.stdout.write(
      `${output}: ${sizeInWords(bytes)} in ${frames} chunks, packed to ${sizeInWords(packedBytes)} (${((packedBytes / bytes) * 100).toFixed(1)} %)\n`
    )
    return 0
  } catch (error) {
    process.stderr.write(`wasm-hostmap chunks: ${error.message}\n`)
    return FAILED
  }
}

module.exports = {
  summary: 'packs a file chunk by chunk, for HostRegion.paged',
  help,
  options: {
    chunk: { type: 'string' },
    codec: { type: 'string' },
    level: { type: 'string' },
    force: { type: 'boolean' }
  },
  allowPositionals: true,
  run
}
