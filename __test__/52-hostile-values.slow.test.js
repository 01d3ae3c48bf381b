'use strict'

// Whatever is passed to whatever is public: an error has a code, or is the caller's own; and
// nothing but an error.

const hostmap = require('..')
const { attack } = require('./support/hostile')
const { inChild } = require('./support/child')

test('every argument, option and receiver is refused with a code', async () => {
  const { bad, calls } = await inChild(
    ({ hostmap, require }) => require('./hostile').attack(hostmap),
    {
      flags: ['--no-warnings']
    }
  )
  expect(bad).toEqual([])
  expect(calls).toBeGreaterThan(8000)
})

test('the same in a realm of its own', async () => {
  const { bad } = await attack(hostmap)
  expect(bad).toEqual([])
})

test('a method that was taken off its object says so', () => {
  const { map } = new hostmap.GuardedMemory({ initial: 1 })
  const region = hostmap.HostRegion.allocate(1)
  expect(() => map(region)).toThrow(
    expect.objectContaining({
      code: 'ERR_INVALID_THIS',
      message: expect.stringMatching(
        /GuardedMemory\.prototype\.map was called on undefined.*object\.map, or bind it/
      )
    })
  )
  const get = Object.getOwnPropertyDescriptor(hostmap.HostRegion.prototype, 'byteLength').get
  expect(() => get.call({})).toThrow(expect.objectContaining({ code: 'ERR_INVALID_THIS' }))
  region.close()
})

test('methods keep their names and lengths', () => {
  const { prototype } = hostmap.GuardedMemory
  expect([prototype.map.name, prototype.map.length]).toEqual(['map', 2])
  expect(Object.keys(prototype)).toEqual([])
})

test('a method of one class does nothing to an object of another', async () => {
  const region = hostmap.HostRegion.allocate(1)
  const { dispose } = Symbol
  for (const Class of [
    hostmap.Snapshot,
    hostmap.InstancePool,
    hostmap.PooledInstance,
    hostmap.Mapping
  ]) {
    expect(() => Class.prototype[dispose].call(region)).toThrow(
      expect.objectContaining({ code: 'ERR_INVALID_THIS' })
    )
  }
  expect(region.closed).toBe(false)
  region.close()
})
