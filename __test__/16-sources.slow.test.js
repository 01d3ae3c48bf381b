'use strict'

// HostRegion.from: what it takes beside its region.

const { inChild } = require('./support/child')
const { temporaryDirectory } = require('./support/files')
const { MiB } = require('./support/wasm')

const directory = temporaryDirectory()

test.each(['a stream of a file', 'new chunks', 'a web stream', 'a response'])(
  'beside the region, %s takes at most 64 MiB of memory',
  async kind => {
    const file = directory.sparse(512 * MiB)
    const { byteLength, grown, allocated } = await inChild(
      async ({ hostmap: { HostRegion }, require, args: { kind, file } }) => {
        const fs = require('node:fs')
        const byteLength = 512 * 2 ** 20
        async function* chunks() {
          for (let at = 0; at < byteLength; at += 65_536) yield Buffer.alloc(65_536, 1)
        }
        const web = () => {
          const iterator = chunks()
          const pull = async controller => {
            const { done, value } = await iterator.next()
            if (done) controller.close()
            else controller.enqueue(value)
          }
          return new ReadableStream({ pull })
        }
        const sources = {
          'a stream of a file': () => fs.createReadStream(file),
          'new chunks': chunks,
          'a web stream': web,
          'a response': () => new Response(web())
        }
        const peak = () =>
          Number(/VmHWM:\s+(\d+)/.exec(fs.readFileSync('/proc/self/status', 'latin1'))[1]) * 1024
        ;(await HostRegion.from([Buffer.alloc(1)])).close()
        // What V8 has not collected yet of a source's chunks it has with or without a region.
        const drained = sources[kind]()
        for await (const chunk of drained.body ?? drained) void chunk
        const before = peak()
        const region = await HostRegion.from(sources[kind]())
        const grown = peak() - before
        const fd = region.duplicateFd()
        return { byteLength: region.byteLength, grown, allocated: fs.fstatSync(fd).blocks * 512 }
      },
      { args: { kind, file } }
    )
    expect(byteLength).toBe(512 * MiB)
    expect(allocated).toBe(512 * MiB)
    // The pages of the region are in no page table of the process.
    expect(grown).toBeLessThan(64 * MiB)
  }
)
