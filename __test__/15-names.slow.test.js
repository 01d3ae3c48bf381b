'use strict'

// Names while processes replace each other, alter files, reuse numbers of descriptors, and are
// killed at any moment.

const { spawn } = require('node:child_process')
const { once } = require('node:events')
const path = require('node:path')
const { HostRegion } = require('..')
const { churn } = require('./share/churn')
const { thrownBy } = require('./support/errors')
const { temporaryDirectory } = require('./support/files')

const temporary = temporaryDirectory()

test('a finder gets what was published under the name or an error, and nothing is left', async () => {
  const { found, wrong, killed, left } = await churn(3000)
  expect({ wrong, left }).toEqual({ wrong: 0, left: [] })
  expect(found).toBeGreaterThan(1000)
  expect(killed).toBeGreaterThan(0)
})

test('of a process that ends by a signal, with much memory to free, the name is gone at once', async () => {
  const directory = temporary.file(undefined, 'names')
  const script = `
    const { HostRegion } = require(${JSON.stringify(path.join(__dirname, '..'))})
    const directory = ${JSON.stringify(directory)}
    HostRegion.copyFrom(Buffer.from('large')).publish('one', { directory })
    globalThis.kept = Array.from({ length: 4 }, () => {
      const region = HostRegion.allocate(2 ** 27)
      new Uint8Array(region.view()).fill(1)
      return region
    })
    console.log('ready')
    setInterval(() => {}, 1000)`
  const child = spawn(process.execPath, ['-e', script])
  await once(child.stdout, 'data')
  const ended = once(child, 'exit')
  child.kill('SIGKILL')
  const codes = new Set()
  while (!codes.has('ERR_HOSTMAP_NAME_NOT_FOUND')) {
    codes.add(thrownBy(() => HostRegion.find('one', { directory }).close())?.code)
  }
  // It need not have ended for another one to take its name.
  const next = HostRegion.copyFrom(Buffer.from('next'))
  next.publish('one', { directory })
  const found = HostRegion.find('one', { directory })
  expect(Buffer.from(found.view()).toString()).toBe('next')
  found.close()
  next.close()
  codes.delete(undefined)
  expect([...codes]).toEqual(['ERR_HOSTMAP_NAME_NOT_FOUND'])
  await ended
})
