'use strict'

// Other code of the process may close any number, ours too. What is mapped is what the region was
// made of, or it is an error.

const fs = require('node:fs')
const { inChild } = require('./support/child')
const { fdOf, openFiles } = require('./support/procfs')
const { HostRegion, GuardedMemory } = require('..')

// For children: which numbers stand for a memfd or file of this name.

test('a duplicate is the callers own: he reads, moves and closes it, and the region goes on', () => {
  const region = HostRegion.copyFrom(Buffer.from('bytes of the region'))
  const [one, two] = [region.duplicateFd(), region.duplicateFd()]
  expect(one).not.toBe(two)
  const bytes = Buffer.alloc(5)
  expect(fs.readSync(one, bytes)).toBe(5)
  expect(bytes.toString()).toBe('bytes')
  fs.readSync(two, bytes)
  expect(bytes.toString()).toBe('bytes')
  fs.writeSync(one, 'BYTES', 0)
  fs.closeSync(one)
  fs.closeSync(two)
  const guarded = new GuardedMemory({ initial: 1 })
  const { address } = guarded.map(region)
  expect(Buffer.from(guarded.buffer, address, 19).toString()).toBe('BYTES of the region')
  region.close()
  expect(() => region.duplicateFd()).toThrow(
    expect.objectContaining({ code: 'ERR_HOSTMAP_REGION_CLOSED' })
  )
})

test('a duplicate of a region that can only be read can only be read', () => {
  const region = HostRegion.open(__filename)
  expect(() => fs.writeSync(fdOf(region), 'x')).toThrow(/EBADF/)
  region.close()
})

test('the position of a descriptor that a region was made from stays the callers', () => {
  const fd = fs.openSync(__filename)
  const [first, second] = [Buffer.alloc(6), Buffer.alloc(6)]
  fs.readSync(fd, first)
  const region = HostRegion.fromFd(fd)
  fs.readSync(fd, second)
  const view = Buffer.from(region.view())
  expect([first, second]).toEqual([view.subarray(0, 6), view.subarray(6, 12)])
  fs.closeSync(fd)
  region.close()
})

test('regions and snapshots keep descriptors of high numbers, apart from those that files get', () => {
  const region = HostRegion.allocate(4096, { name: 'high number' })
  const [[fd]] = Object.entries(openFiles()).filter(([, file]) => file.includes('high number'))
  expect(Number(fd)).toBeGreaterThan(30)
  expect(fs.openSync('/dev/null')).toBeLessThan(Number(fd))
  region.close()
})

describe.each(['nothing', 'a file', 'the same file', 'huge pages'])(
  'a region whose descriptor was closed, and its number is of %s now,',
  other => {
    test('is an error for each call, and harms no memory and no file', async () => {
      const seen = await inChild(
        async ({ hostmap, probe, openFiles, require, failure, args }) => {
          const fs = require('node:fs')
          const { HostRegion, GuardedMemory } = hostmap
          const numbersOf = name =>
            Object.entries(openFiles())
              .filter(([, file]) => file.includes(name))
              .map(([number]) => Number(number))
          const guarded = new GuardedMemory({ initial: 33 })
          const guest = await probe(guarded.memory)
          const end = guarded.byteLength
          const outside = () =>
            [0, 4096, 1_000_000].map(skew => {
              try {
                return guest.load8(end + skew)
              } catch ({ message }) {
                return message
              }
            })
          const before = outside()
          const region = HostRegion.copyFrom(Buffer.alloc(4096, 7), { name: 'lost' })
          const window = guarded.window({ byteLength: 65536, at: 0 })
          const early = guarded.map(region, { at: 65536 })
          const spare = region.duplicateFd()
          const [fd] = numbersOf('lost').filter(number => number !== spare)
          fs.closeSync(fd)
          // Nobody but the library makes descriptors of such numbers: it stands for all others.
          const makers = {
            nothing: () => null,
            'a file': () => HostRegion.copyFrom(Buffer.alloc(4 << 20, 9), { name: 'another' }),
            'the same file': () => HostRegion.fromFd(spare),
            'huge pages': () => HostRegion.allocate(2 << 20, { hugePages: true, name: 'another' })
          }
          const instead = makers[args.other]()
          if (instead && !(fd in openFiles())) throw new Error('the number did not come back')
          const failures = [
            await failure(() => guarded.map(region, { at: end - 65536 })),
            await failure(() => guarded.map(region)),
            await failure(() => window.slide(region, 0)),
            await failure(() => region.view()),
            await failure(() => region.duplicateFd()),
            await failure(() => region.seal())
          ]
          const contents = [guest.load8(early.pointer), guest.load8(end - 65536)]
          region.close()
          const left = instead && instead.byteLength && new Uint8Array(instead.view())[0]
          instead?.close()
          return {
            before,
            after: outside(),
            codes: failures.map(each => each?.code),
            contents,
            left
          }
        },
        { args: { other } }
      )
      expect(seen.after).toEqual(seen.before)
      expect(seen.codes).toEqual(Array(6).fill('ERR_HOSTMAP_DESCRIPTOR_LOST'))
      expect(seen.contents).toEqual([7, 0])
      expect(seen.left).toBe(
        { nothing: null, 'a file': 9, 'the same file': 7, 'huge pages': 0 }[other]
      )
    })
  }
)

test('a snapshot whose descriptor was closed is not restored from another file', async () => {
  const seen = await inChild(async ({ hostmap, openFiles, require, failure }) => {
    const fs = require('node:fs')
    const numbersOf = name =>
      Object.entries(openFiles())
        .filter(([, file]) => file.includes(name))
        .map(([number]) => Number(number))
    const guarded = new hostmap.GuardedMemory({ initial: 4 })
    new Uint8Array(guarded.buffer).fill(3)
    const snapshot = guarded.snapshot({ name: 'lost' })
    const [fd] = numbersOf('lost')
    fs.closeSync(fd)
    const other = hostmap.HostRegion.copyFrom(Buffer.alloc(1 << 20, 9))
    const empty = new hostmap.GuardedMemory({ initial: 4 })
    const { code } = await failure(() => empty.restore(snapshot))
    const duplicate = await failure(() => snapshot.duplicateFd())
    snapshot.close()
    const bytes = new Set(new Uint8Array(empty.buffer))
    return {
      code,
      duplicate: duplicate.code,
      bytes: [...bytes],
      other: new Uint8Array(other.view())[5]
    }
  })
  expect(seen).toEqual({
    code: 'ERR_HOSTMAP_DESCRIPTOR_LOST',
    duplicate: 'ERR_HOSTMAP_DESCRIPTOR_LOST',
    bytes: [0],
    other: 9
  })
})
