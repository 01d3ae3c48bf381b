'use strict'

// What packs a frame. Both say themselves whether they were altered: zstd by a checksum that is
// asked for, deflate in zlib's format always.

const zlib = require('node:zlib')
const { promisify } = require('node:util')

const zstd = zlib.zstdCompress && promisify(zlib.zstdCompress)
const deflate = promisify(zlib.deflate)

// A skippable frame of zstd: a program that takes the file for one of zstd's passes over it.
function deflateHead() {
  const text = Buffer.from('wasm-hostmap deflate 1\0\0', 'latin1')
  const head = Buffer.alloc(8)
  head.writeUInt32LE(0x184d2a50, 0)
  head.writeUInt32LE(text.length, 4)
  return Buffer.concat([head, text])
}

const codecs = new Map([
  [
    'zstd',
    {
      level: 3,
      mostLevel: 22,
      head: Buffer.alloc(0),
      pack:
        zstd &&
        ((bytes, level) => {
          const { ZSTD_c_compressionLevel, ZSTD_c_checksumFlag } = zlib.constants
          return zstd(bytes, {
            params: { [ZSTD_c_compressionLevel]: level, [ZSTD_c_checksumFlag]: 1 }
          })
        })
    }
  ],
  [
    'deflate',
    {
      level: 6,
      mostLevel: 9,
      head: deflateHead(),
      pack: (bytes, level) => deflate(bytes, { level })
    }
  ]
])

module.exports = { codecs, DEFAULT_CODEC: zstd === undefined ? 'deflate' : 'zstd' }
