'use strict'

// The packed package, where it is installed: what it holds, and that it works in CommonJS, ES
// modules and workers.

const { execFileSync } = require('node:child_process')
const fs = require('node:fs')
const path = require('node:path')
const hostmap = require('..')
const manifest = require('../package.json')
const { inChild } = require('./support/child')
const { temporaryDirectory } = require('./support/files')

const root = path.join(__dirname, '..')
const directory = temporaryDirectory()

/** What a script that ends with an error's JSON prints. */
const run = (...args) => JSON.parse(execFileSync(process.execPath, args, { encoding: 'utf8' }))

describe('the package', () => {
  test('exports the nouns and eight functions', () => {
    expect(Object.keys(hostmap).sort()).toEqual([
      'AdoptedBuffer',
      'CapturedUnit',
      'Checkpoint',
      'GuardedMemory',
      'HostRegion',
      'InstancePool',
      'InstrumentedModule',
      'Layout',
      'Mapping',
      'PooledInstance',
      'Publication',
      'Snapshot',
      'Window',
      'WindowSource',
      'allowInspect',
      'capture',
      'checkpoint',
      'exposeState',
      'inspect',
      'instrumentGrowth',
      'limits',
      'metrics',
      'observe',
      'once'
    ])
  })

  test('is one instance, whether it is required or imported', async () => {
    const same = await inChild(async ({ hostmap, require }) => {
      const { pathToFileURL } = require('node:url')
      const main = require.resolve('../..')
      const imported = await import(pathToFileURL(main.replace(/\.js$/, '.mjs')))
      const named = Object.keys(hostmap).map(name => imported[name] === hostmap[name])
      return [...named, imported.default === hostmap]
    })
    expect(same).toHaveLength(Object.keys(hostmap).length + 1)
    expect(same.every(isSame => isSame)).toBe(true)
  })

  // In a process of its own, as users load it: jest has its own way to find subpaths.
  test('has subpaths that are one by require and by import, without an engine', () => {
    const copy = fs.mkdtempSync(path.join(directory.path, 'subpaths-'))
    fs.mkdirSync(path.join(copy, 'node_modules'))
    fs.symlinkSync(root, path.join(copy, 'node_modules/wasm-hostmap'))
    const script = path.join(copy, 'subpaths.mjs')
    fs.writeFileSync(
      script,
      `import { createRequire } from 'node:module'
       const require = createRequire(import.meta.url)
       const found = {}
       const subpaths = Object.keys(require('wasm-hostmap/package.json').exports)
       for (const subpath of subpaths.filter(name => !name.endsWith('.json'))) {
         const from = 'wasm-hostmap' + subpath.slice(1)
         const [imported, required] = [await import(from), require(from)]
         const names = Object.keys(required)
         found[subpath] = names.length > 0 && names.every(name => imported[name] === required[name])
       }
       console.log(JSON.stringify(found))`
    )
    const subpaths = Object.keys(manifest.exports).filter(name => !name.endsWith('.json'))
    expect(run(script)).toEqual(Object.fromEntries(subpaths.map(name => [name, true])))
  })

  test('packs the types and the code of each subpath', () => {
    const targets = Object.entries(manifest.exports).filter(([name]) => !/^\.$|json$/.test(name))
    for (const [, target] of targets) {
      expect(Object.keys(target)).toEqual(['types', 'default'])
      const missing = Object.values(target).filter(file => !fs.existsSync(path.join(root, file)))
      expect(missing).toEqual([])
      for (const file of Object.values(target)) expect(manifest.files).toContain(file.split('/')[1])
    }
  })

  test('works in a worker and in the main thread at once, and after the worker has ended', async () => {
    const bytes = await inChild(async ({ hostmap, require }) => {
      const { Worker } = require('node:worker_threads')
      const { once } = require('node:events')
      const region = hostmap.HostRegion.copyFrom(Buffer.from('abc'))
      const body = `
        const { HostRegion } = require(${JSON.stringify(require.resolve('../..'))})
        const { parentPort, workerData } = require('node:worker_threads')
        parentPort.postMessage(Buffer.from(HostRegion.fromFd(workerData).view()).toString())`
      const seen = []
      for (let i = 0; i < 3; i++) {
        const worker = new Worker(body, { eval: true, workerData: region.duplicateFd() })
        const exited = once(worker, 'exit')
        seen.push((await once(worker, 'message'))[0])
        await exited
      }
      return [...seen, Buffer.from(region.view()).toString()]
    })
    expect(bytes).toEqual(['abc', 'abc', 'abc', 'abc'])
  })

  test.each([
    ['win32', 'x64'],
    ['darwin', 'arm64'],
    ['linux', 'ia32'],
    ['linux', 'riscv64']
  ])('says at load that %s on %s is not supported, and what is', (platform, arch) => {
    const script = `
      Object.defineProperty(process, 'platform', { value: ${JSON.stringify(platform)} })
      Object.defineProperty(process, 'arch', { value: ${JSON.stringify(arch)} })
      try { require(${JSON.stringify(root)}) }
      catch ({ name, code, message }) { console.log(JSON.stringify({ name, code, message })) }`
    const error = run('-e', script)
    expect(error).toMatchObject({ name: 'Error', code: 'ERR_HOSTMAP_UNSUPPORTED_PLATFORM' })
    for (const part of [platform, arch, /linux/i, /x64/, /arm64/])
      expect(error.message).toMatch(part)
  })

  test.each([
    ['is missing', undefined],
    ['is not an ELF file', 'not a binary'],
    ['is cut off', '\x7fELF\x02\x01\x01']
  ])('says at load how to mend a native part that %s', (_, binary) => {
    const copy = fs.mkdtempSync(path.join(directory.path, 'package-'))
    for (const file of ['package.json', 'Cargo.toml', 'lib', 'index.js'])
      fs.cpSync(path.join(root, file), path.join(copy, file), { recursive: true })
    if (binary !== undefined) {
      const natives = fs.readdirSync(root).filter(name => name.endsWith('.node'))
      for (const name of natives) fs.writeFileSync(path.join(copy, name), binary, 'latin1')
      expect(natives).not.toEqual([])
    }
    const script = `
      try { require(${JSON.stringify(copy)}) }
      catch ({ name, code, message }) { console.log(JSON.stringify({ name, code, message })) }`
    const error = run('-e', script)
    expect(error).toMatchObject({ name: 'Error', code: 'ERR_HOSTMAP_LOAD_FAILED' })
    expect(error.message).toMatch(/1\. Build it.*`npm run build`/)
  })
})
