'use strict'

// Each system call fails once, in a build that can be told to. Whatever fails, the error names the call, nothing is
// left behind, and the next try works.

const { execFileSync, spawnSync } = require('node:child_process')
const fs = require('node:fs')
const os = require('node:os')
const path = require('node:path')

const root = path.join(__dirname, '..')
const hasCargo = spawnSync('cargo', ['--version']).status === 0
const addon = path.join(root, 'target', 'inject', 'wasm-hostmap.node')

/** Runs a function in a process that has the build; gives what it gives. */
function inChild(main) {
  const source = `
    const hostmap = require(${JSON.stringify(root)})
    const native = require(${JSON.stringify(path.join(root, 'lib/binding.js'))})
    const fs = require('node:fs')
    const EIO = 5, ENOMEM = 12
    // Installs the fault guard, whose own calls are not the ones that are to fail.
    hostmap.limits()
    const files = () => fs.readdirSync('/proc/self/fd').length
    const mapped = () => fs.readFileSync('/proc/self/maps', 'latin1').split('\\n').filter(line => line.includes('/memfd:')).length
    /** What the call gives or throws when this system call fails. */
    function failing(syscall, before, errno, call) {
      native.injectFailure(syscall, before, errno)
      let error = null
      try { call() } catch (caught) { error = caught }
      const went = !native.forgetFailures()
      return { went, code: error?.code, errno: error?.errno, syscall: error?.syscall }
    }
    console.log(JSON.stringify((${main})()))`
  const stdout = execFileSync(process.execPath, ['-e', source], {
    env: { ...process.env, NAPI_RS_NATIVE_LIBRARY_PATH: addon },
    encoding: 'utf8'
  })
  return JSON.parse(stdout)
}

// Nothing of it can be built without Rust, which a user of a tarball needs not have.
const suite = hasCargo ? describe : describe.skip

suite('when a system call fails', () => {
  beforeAll(() => {
    execFileSync('cargo', ['build', '--locked', '--features', 'inject', '--target-dir', 'target/inject'], {
      cwd: root,
      stdio: 'pipe'
    })
    fs.copyFileSync(path.join(root, 'target/inject/debug/libwasm_hostmap.so'), addon)
  }, 600_000)

  test('making a region leaves no descriptor', () => {
    const { outcomes, filesBefore, filesAfter } = inChild(() => {
      /* global hostmap, failing, files, EIO */
      const { HostRegion } = hostmap
      const bytes = Buffer.alloc(100, 1)
      HostRegion.copyFrom(bytes).close()
      const filesBefore = files()
      const outcomes = [
        ['memfd_create', () => HostRegion.allocate(1)],
        ['ftruncate', () => HostRegion.allocate(1)],
        ['fcntl', () => HostRegion.allocate(1)],
        ['fstat', () => HostRegion.allocate(1)],
        ['pwrite', () => HostRegion.copyFrom(bytes)],
        ['open', () => HostRegion.open(process.execPath)],
        ['fstat', () => HostRegion.open(process.execPath)],
        ['fcntl', () => HostRegion.open(process.execPath)],
        ['fcntl', () => HostRegion.fromFd(0)]
      ].map(([syscall, call]) => [syscall, failing(syscall, 0, EIO, call)])
      return { outcomes, filesBefore, filesAfter: files() }
    })
    for (const [syscall, outcome] of outcomes) {
      expect(outcome).toMatchObject({ went: true, errno: -5, syscall })
      expect(outcome.code).toMatch(/^ERR_HOSTMAP_/)
    }
    expect(filesAfter).toBe(filesBefore)
  })

  test('map past the end keeps the space that the memory grew by for the next map', () => {
    const seen = inChild(() => {
      const { HostRegion, GuardedMemory } = hostmap
      const region = HostRegion.copyFrom(Buffer.alloc(65536, 7))
      const guarded = new GuardedMemory({ initial: 1, maximum: 10 })
      const before = mapped()
      const outcome = failing('mmap', 0, ENOMEM, () => guarded.map(region))
      const left = mapped() - before
      const { byteLength } = guarded
      const mapping = guarded.map(region)
      const layout = guarded.layout().ranges.filter(({ kind }) => kind === 'mapped').length
      return { outcome, left, byteLength, again: guarded.byteLength, address: mapping.address, layout }
    })
    expect(seen).toMatchObject({
      outcome: { went: true, code: 'ERR_HOSTMAP_OUT_OF_MEMORY', errno: -12, syscall: 'mmap' },
      left: 0,
      byteLength: 131072,
      again: 131072,
      address: 65536,
      layout: 1
    })
  })

  test('map in a block gives the block back', () => {
    const seen = inChild(() => {
      const { HostRegion, GuardedMemory } = hostmap
      const region = HostRegion.allocate(100)
      const guarded = new GuardedMemory({ initial: 4 })
      const freed = []
      const allocator = { malloc: () => 1024, free: address => freed.push(address) }
      const outcome = failing('mmap', 0, ENOMEM, () => guarded.map(region, { allocator }))
      return { outcome, freed }
    })
    expect(seen).toEqual({ outcome: expect.objectContaining({ went: true, errno: -12 }), freed: [1024] })
  })

  test('unmap leaves the mapping as it was, and works the next time', () => {
    const seen = inChild(() => {
      const { HostRegion, GuardedMemory } = hostmap
      const region = HostRegion.copyFrom(Buffer.alloc(65536, 7))
      const guarded = new GuardedMemory({ initial: 4 })
      const mapping = guarded.map(region, { at: 65536 })
      const outcome = failing('mmap', 0, ENOMEM, () => mapping.unmap())
      const bytes = new Uint8Array(guarded.buffer)
      const during = { byte: bytes[65536], unmapped: mapping.unmapped }
      mapping.unmap()
      return { outcome, during, after: { byte: bytes[65536], unmapped: mapping.unmapped } }
    })
    expect(seen).toEqual({
      outcome: expect.objectContaining({ went: true, errno: -12, syscall: 'mmap' }),
      during: { byte: 7, unmapped: false },
      after: { byte: 0, unmapped: true }
    })
  })

  test('seal leaves views writable and shared', () => {
    const seen = inChild(() => {
      const { HostRegion } = hostmap
      const region = HostRegion.allocate(100)
      const [one, two] = [new Uint8Array(region.view()), new Uint8Array(region.view())]
      // The second view's turn, and the seal itself.
      const outcomes = [failing('mmap', 1, ENOMEM, () => region.seal())]
      one[0] = 1
      const first = two[0]
      region.seal()
      return { outcomes, first, sealed: region.sealed }
    })
    expect(seen).toEqual({
      outcomes: [expect.objectContaining({ went: true, errno: -12 })],
      first: 1,
      sealed: true
    })
  })

  test('what only gives advice may fail', () => {
    const seen = inChild(() => {
      const { HostRegion, GuardedMemory } = hostmap
      const region = HostRegion.allocate(65536)
      const guarded = new GuardedMemory({ initial: 4, maximum: 10 })
      const mapping = guarded.map(region, { at: 0 })
      const outcomes = [
        failing('madvise', 0, ENOMEM, () => guarded.map(region, { at: 65536, access: 'private' })),
        failing('madvise', 0, ENOMEM, () => guarded.map(region, { at: 131072, populate: true })),
        failing('madvise', 0, ENOMEM, () => mapping.unmap()),
        // Read-only mappings are protected again at the next call.
        failing('mprotect', 0, ENOMEM, () => guarded.grow(1))
      ]
      guarded.layout()
      return { outcomes, mapped: guarded.layout().ranges.filter(({ kind }) => kind === 'mapped').length }
    })
    for (const outcome of seen.outcomes) expect(outcome).toEqual({ went: true })
    expect(seen.mapped).toBe(2)
  })

  // Older kernels are not asked by ioctl.
  const [major, minor] = os.release().split('.').map(Number)
  const testQuery = major > 6 || (major === 6 && minor >= 11) ? test : test.skip
  testQuery('the process map that can not be read is an error, not a guard', () => {
    const seen = inChild(() => {
      const { GuardedMemory } = hostmap
      new GuardedMemory({ initial: 1 })
      return failing('ioctl', 0, EIO, () => new GuardedMemory({ initial: 1 }))
    })
    expect(seen).toMatchObject({ went: true, code: 'ERR_HOSTMAP_MEMORY_REFUSED', errno: -5 })
  })
})
