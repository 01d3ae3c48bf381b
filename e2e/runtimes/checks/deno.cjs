'use strict'
const assert = require('node:assert/strict')
const test = require('node:test')
const { spawnSync } = require('node:child_process')
const { runUnder, writeScript } = require('./support.cjs')

const PERMITTED = ['run', '--no-prompt', '--allow-read', '--allow-ffi']

test('two permissions are enough to map a file', () => {
  const answer = runUnder(PERMITTED, async ({ HostRegion, GuardedMemory }) => {
    const guarded = new GuardedMemory({ initial: 1 })
    const mapping = guarded.map(HostRegion.open(__filename))
    return String.fromCharCode(...new Uint8Array(guarded.buffer, mapping.address, 12))
  })
  assert.equal(answer, 'const report')
})

test('and Deno asks for no other, where there is a terminal', () => {
  const file = writeScript(({ GuardedMemory, HostRegion, limits, metrics }) => {
    limits()
    metrics.prometheus()
    const guarded = new GuardedMemory({ initial: 1 })
    guarded.map(HostRegion.allocate(65536))
    guarded.restore(guarded.snapshot())
    return 'done'
  })
  // What it asks is answered by no.
  const inTerminal = `import os, pty, select, sys
pid, terminal = pty.fork()
if pid == 0: os.execv(sys.argv[1], sys.argv[1:])
said = b''
try:
    while True:
        more = os.read(terminal, 65536)
        if not more: break
        if b'Allow?' in more: os.write(terminal, b'n\\n')
        said += more
except OSError: pass
sys.stdout.buffer.write(said)`
  const { stdout, stderr } = spawnSync(
    'python3',
    ['-c', inTerminal, process.env.HOSTMAP_RUNTIME, 'run', '--allow-read', '--allow-ffi', file],
    { encoding: 'utf8', timeout: 60_000, killSignal: 'SIGKILL' }
  )
  assert.match(stdout, /"done"/, stdout + stderr)
  assert.doesNotMatch(stdout, /requests|Allow\?/)
})

test('without them the error says which', () => {
  for (const missing of ['--allow-read', '--allow-ffi']) {
    const { load } = runUnder(
      PERMITTED.filter(argument => argument !== missing),
      () => 'loaded'
    )
    // Without permission to read, Deno does not find the package either.
    if (load.code === undefined) assert.match(load.message, /allow-read/)
    else {
      assert.equal(load.code, 'ERR_HOSTMAP_LOAD_FAILED')
      assert.match(load.message, /--allow-read --allow-ffi/)
    }
  }
})

test('Deno has no guards, says so, and checks bounds all the same', () => {
  const answer = runUnder(PERMITTED, ({ GuardedMemory, limits }) => {
    const { guarded } = new GuardedMemory({ initial: 1 })
    const { wasm, faultGuard } = limits()
    return { guarded, trapHandler: wasm.trapHandler, faultGuard }
  })
  assert.deepEqual(answer, {
    guarded: false,
    trapHandler: false,
    faultGuard: { handler: 'first', traps: false, reason: "Deno leaves V8's trap handler off" }
  })
})

test('a pool of a factory is refused, since Deno does not tell of I/O that is outstanding', () => {
  const answer = runUnder(PERMITTED, async ({ InstancePool }) => {
    const { createHook } = require('node:async_hooks')
    const seen = []
    createHook({ init: (id, type) => seen.push(type) }).enable()
    require('node:fs').stat(__filename, () => {})
    const code = await InstancePool.create({ make: () => 1 }).catch(error => error.code)
    return { code, seesFiles: seen.some(type => type.startsWith('FSREQ')) }
  })
  // If this fails because `seesFiles` is true: see SEES_REQUESTS in lib/platform/engine.js.
  assert.deepEqual(answer, { code: 'ERR_HOSTMAP_UNSUPPORTED_RUNTIME', seesFiles: false })
})
