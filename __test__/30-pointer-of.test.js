'use strict'

// Mapping.pointerOf: the address of bytes that JavaScript holds as a view, of the memory or of the
// region that is mapped there.

const { GuardedMemory, HostRegion, limits } = require('..')
const { expectError, thrownBy } = require('./support/errors')
const { noise } = require('./support/files')
const { MiB, probe, hasMemory64 } = require('./support/wasm')

const HOST_PAGE = limits().pageSize

const made = []
const keep = region => (made.push(region), region)
afterEach(() => made.splice(0).forEach(region => region.close()))

describe.each(hasMemory64 ? ['i32', 'i64'] : ['i32'])('pointerOf, %s', address => {
  const number = value => (address === 'i64' ? BigInt(value) : value)
  const bytes = noise(MiB)

  const map = async (options = {}) => {
    const guarded = new GuardedMemory({ initial: 64, maximum: 256, address })
    const guest = await probe(guarded.memory, { address })
    const region = keep(HostRegion.copyFrom(bytes))
    return { guarded, guest, region, mapping: guarded.map(region, { at: MiB, ...options }) }
  }

  test('of views of the memory is where they are', async () => {
    const { guarded, mapping } = await map()
    const over = (View, offset, length) => new View(guarded.buffer, MiB + offset, length)
    for (const view of [
      over(Uint8Array, 5, 7),
      over(Float64Array, 64, 3),
      over(DataView, 11, 1),
      Buffer.from(guarded.buffer, MiB + 100, 10).subarray(3),
      over(Uint8Array, MiB, 0)
    ]) {
      expect(mapping.pointerOf(view)).toBe(number(view.byteOffset))
    }
    expect(mapping.pointerOf(over(Uint8Array, 0, MiB))).toBe(mapping.pointer)
  })

  test('of views of the region is where the module finds the same bytes', async () => {
    const { guest, region, mapping } = await map({ byteOffset: HOST_PAGE })
    const whole = region.view()
    const part = region.view(HOST_PAGE + 100, 5000)
    for (const [view, offset] of [
      [new Uint8Array(whole, HOST_PAGE, 4), HOST_PAGE],
      [new Uint16Array(whole, HOST_PAGE + 34, 100), HOST_PAGE + 34],
      [new DataView(part), HOST_PAGE + 100],
      [Buffer.from(part).subarray(7, 50), HOST_PAGE + 107],
      [region.bytes({ byteOffset: HOST_PAGE + 9 }).subarray(1), HOST_PAGE + 10],
      [region.bytes({ access: 'readonly' }).subarray(HOST_PAGE + 3), HOST_PAGE + 3]
    ]) {
      const pointer = mapping.pointerOf(view)
      expect(pointer).toBe(number(MiB + offset - HOST_PAGE))
      expect(guest.bytes(Number(pointer), 4).equals(bytes.subarray(offset, offset + 4))).toBe(true)
    }
  })

  test('follows the memory when it grows, and refuses views of before', async () => {
    const { guarded, guest, mapping } = await map()
    const old = new Uint8Array(guarded.buffer, MiB, 4)
    guest.grow(1)
    expectError(
      thrownBy(() => mapping.pointerOf(old)),
      { code: 'ERR_INVALID_ARG_VALUE', says: [/detached/] }
    )
    expect(mapping.pointerOf(new Uint8Array(guarded.memory.buffer, MiB + 1, 4))).toBe(
      number(MiB + 1)
    )
  })

  test.each([
    ['before it', MiB - 1, 1],
    ['across its start', MiB - 1, 2],
    ['across its end', 2 * MiB - 1, 2],
    ['past it', 2 * MiB, 1]
  ])('of bytes of the memory %s is refused', async (_, offset, length) => {
    const { guarded, mapping } = await map()
    expectError(
      thrownBy(() => mapping.pointerOf(new Uint8Array(guarded.buffer, offset, length))),
      {
        code: 'ERR_OUT_OF_RANGE',
        says: [/inside the mapping, \[1048576, 2097152\) of the memory/, String(offset)]
      }
    )
  })

  test('of bytes of the region that are not mapped is refused', async () => {
    const { region, mapping } = await map({ byteOffset: HOST_PAGE, byteLength: 2 * HOST_PAGE })
    const view = region.view()
    for (const [offset, length] of [
      [0, 1],
      [HOST_PAGE - 1, 2],
      [3 * HOST_PAGE - 1, 2],
      [0, MiB]
    ])
      // prettier-ignore
      expectError(
        thrownBy(() => mapping.pointerOf(new Uint8Array(view, offset, length))),
        { code: 'ERR_OUT_OF_RANGE', says: [/of the region/, String(offset + length)] }
      )
  })

  test('of what is no view of either is refused, and says what was given', async () => {
    const { guarded, region, mapping } = await map()
    const other = keep(HostRegion.copyFrom(bytes))
    const elsewhere = new WebAssembly.Memory({ initial: 64 })
    for (const view of [
      new Uint8Array(8),
      Buffer.alloc(8),
      new Uint8Array(new SharedArrayBuffer(8)),
      new Uint8Array(other.view()),
      new Uint8Array(elsewhere.buffer, MiB, 8)
    ]) {
      expectError(
        thrownBy(() => mapping.pointerOf(view)),
        {
          code: 'ERR_INVALID_ARG_VALUE',
          says: [/view of the memory/, `of ${view.byteLength} bytes`]
        }
      )
    }
    for (const value of [undefined, null, MiB, 8n, 'x', [], {}, guarded.buffer, region, mapping]) {
      expectError(
        thrownBy(() => mapping.pointerOf(value)),
        { code: 'ERR_INVALID_ARG_TYPE', says: [/typed array/] }
      )
    }
    expectError(
      thrownBy(() => mapping.pointerOf(region.view())),
      { code: 'ERR_INVALID_ARG_TYPE', says: [/new Uint8Array/] }
    )
  })

  test('asks no class of its own where it is', async () => {
    const { guarded, mapping } = await map()
    class Elsewhere extends Uint8Array {
      get byteOffset() {
        throw new Error('asked')
      }
      get buffer() {
        return guarded.buffer
      }
    }
    expect(mapping.pointerOf(new Elsewhere(guarded.buffer, MiB + 3, 1))).toBe(number(MiB + 3))
    expectError(
      thrownBy(() => mapping.pointerOf(new Elsewhere(8))),
      { code: 'ERR_INVALID_ARG_VALUE' }
    )
  })

  test('of an unmapped mapping, or a view of a closed region, is refused', async () => {
    const { region, mapping } = await map()
    const view = new Uint8Array(region.view())
    const kept = region.bytes().subarray(5)
    region.close()
    expectError(
      thrownBy(() => mapping.pointerOf(view)),
      { code: 'ERR_INVALID_ARG_VALUE', says: [/detached/, /region was closed/] }
    )
    // A Buffer keeps its pages.
    expect(mapping.pointerOf(kept)).toBe(number(MiB + 5))
    const own = new Uint8Array(mapping.memory.buffer, MiB, 1)
    expect(mapping.pointerOf(own)).toBe(number(MiB))
    mapping.unmap()
    expectError(
      thrownBy(() => mapping.pointerOf(own)),
      { code: 'ERR_HOSTMAP_MAPPING_UNMAPPED', says: [/unmapped/] }
    )
  })
})

test('pointerOf knows every buffer of a shared memory', () => {
  const guarded = new GuardedMemory({ initial: 64, maximum: 128, shared: true })
  const mapping = guarded.map(keep(HostRegion.copyFrom(noise(MiB))), { at: MiB })
  const old = guarded.buffer
  guarded.grow(1)
  for (const buffer of [old, guarded.buffer, structuredClone(old)])
    expect(mapping.pointerOf(new Uint8Array(buffer, MiB + 1, 1))).toBe(MiB + 1)
})
