'use strict'

// Windows over regions larger than the memory: each byte is shown, and few are resident at once.

const { temporaryDirectory } = require('./support/files')
const { inChild } = require('./support/child')
const { MiB, GiB } = require('./support/wasm')

const directory = temporaryDirectory().path
const library = require.resolve('./soak/large-windows')

/**
 * Streams a file in full, in a process that does nothing else, and gives what was found and what
 * grew.
 */
const streamed = args =>
  inChild(
    async ({ require, args: { library, ...options } }) => {
      const { streamInFull, growth } = require(library)
      const result = await streamInFull(options)
      const { found, expected, samples } = result
      return {
        found,
        expected,
        samples: samples.length,
        growth: growth(result, options.windowBytes)
      }
    },
    { args: { library, directory, ...args } }
  )

describe.each([
  ['with read-ahead', {}],
  ['without read-ahead', { readAhead: false, leaveBehind: false }]
])('a sparse file that is 64 times the window, %s', (_, options) => {
  test('is read in full, and resident memory stays the same', async () => {
    const { found, expected, samples, growth } = await streamed({
      byteLength: GiB,
      windowBytes: 16 * MiB,
      ...options
    })
    expect(found).toEqual(expected)
    expect(expected.sum).toBeGreaterThan(0)
    expect(samples).toBe(expected.chunks)
    expect(growth.filter(({ isConstant }) => !isConstant)).toEqual([])
  })
})

test.each(['file', 'memfd'])(
  '1 TiB of a sparse %s is slid over, and all marks are right',
  async backing => {
    const { found, expected, heldBytes } = await inChild(
      ({ require, args: { library, ...options } }) => require(library).slideOver(options),
      { args: { library, directory, backing, byteLength: 1024 * GiB, windowBytes: GiB } }
    )
    expect(found).toEqual(expected)
    expect(expected.chunks).toBeGreaterThan(1024)
    // Two marks for each border, on two pages at most each: all else is still a hole.
    expect(heldBytes).toBeLessThan(expected.chunks * 4 * 65_536)
    expect(heldBytes).toBeGreaterThan(0)
  }
)
