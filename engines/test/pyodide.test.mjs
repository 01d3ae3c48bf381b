// Pyodide goes back after whatever a request did: what it shows of itself, its files, its memory
// and what the process holds are as they were. And what happens without pyodideState.

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { test } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { capture, checkpoint } from 'wasm-hostmap'
import { emscriptenState } from 'wasm-hostmap/emscripten-state'
import { pyodideState } from 'wasm-hostmap/pyodide'
import { digestFS } from '../support/fs-digest.mjs'
import { hostDigest } from '../support/host-digest.mjs'
import { program, pythonDigest } from '../support/pyodide-program.mjs'
import { ENDS, LEAVINGS } from '../support/pyodide-requests.mjs'

const PAGE = 4096
const { make, init, accept } = program.poolOptions()

const codeOf = code => error => error.code === code

// Taken before a capture may put another one there.
const V8Registry = FinalizationRegistry

setFlagsFromString('--expose-gc')
const collect = runInNewContext('gc')

const memoryOf = ({ _module }, byteLength) => Buffer.from(_module.HEAPU8.slice(0, byteLength))

/** The pages in which a memory differs from what it was, up to where it ended then. */
function changedPages(pyodide, then) {
  const now = memoryOf(pyodide, then.length)
  if (now.equals(then)) return []
  const pages = Array.from({ length: then.length / PAGE }, (_, page) => page)
  const pageOf = (bytes, page) => bytes.subarray(page * PAGE, (page + 1) * PAGE)
  return pages.filter(page => !pageOf(now, page).equals(pageOf(then, page)))
}

async function booted() {
  const { value: pyodide, unit } = await capture(async () => {
    const value = await make()
    await init({ value })
    return value
  })
  return { pyodide, unit, clean: checkpoint(unit, { accept, state: [pyodideState(pyodide)] }) }
}

// A boot takes seconds. The second one is what the first has to look like, and fails in the end.
const first = await booted()
const second = await booted()

test('Pyodide is one unit of all its instances', () => {
  assert.equal(first.unit.memoryCount, 1)
  assert.ok(first.unit.instanceCount >= 200, `${first.unit.instanceCount} instances`)
})

test('nothing is left of a request', async t => {
  const { pyodide, clean } = first
  const digest = pythonDigest(pyodide)
  clean.restore()
  const memory = memoryOf(pyodide)
  const files = digestFS(pyodide.FS)
  const shown = Reflect.ownKeys(pyodide)
  for (const [name, request] of Object.entries(LEAVINGS)) {
    await t.test(name, async () => {
      const host = hostDigest()
      await request(pyodide)
      clean.restore()
      assert.deepEqual(changedPages(pyodide, memory), [])
      assert.equal(digestFS(pyodide.FS), files)
      assert.deepEqual(pythonDigest(pyodide), digest)
      clean.restore()
      assert.deepEqual(Reflect.ownKeys(pyodide), shown)
      assert.deepEqual(hostDigest(), host)
    })
  }
  assert.deepEqual(pythonDigest(second.pyodide), digest)
  second.clean.restore()
})

test('proxies of a request are destroyed with it, and say so', () => {
  const { pyodide, clean } = first
  const kept = LEAVINGS.proxies(pyodide)
  clean.restore()
  assert.throws(() => kept[0](), /This proxy is of a request that is over/)
  kept[0].destroy()
  assert.equal(pyodide.runPython('(lambda: [1])()').get(0), 1)
  clean.restore()
})

test('a request that destroys what was there before it can not be undone', async () => {
  const { pyodide, unit } = first
  const before = pyodide.runPython('lambda: 1')
  first.clean.restore()
  const own = pyodide.globals.copy()
  // Of what Pyodide keeps itself, the pointers are known.
  pyodide.pyodide_py.destroy()
  first.clean.restore()
  assert.equal(pyodide.pyodide_py.__name__, 'pyodide')
  assert.throws(() => own.get('visits'), /request that is over/)
  assert.throws(() => before(), /request that is over/)
  assert.equal(unit.memoryCount, 1)
})

test('what is no Pyodide is refused', () => {
  for (const wrong of [undefined, null, 1, 'pyodide', () => {}]) {
    assert.throws(() => pyodideState(wrong), codeOf('ERR_INVALID_ARG_TYPE'))
  }
  for (const wrong of [{}, [], Promise.resolve(), { _module: {}, _api: {} }]) {
    assert.throws(() => pyodideState(wrong), codeOf('ERR_HOSTMAP_ENGINE_UNSUPPORTED'))
  }
})

test('where Map.prototype is frozen it says so', () => {
  const script = `
    const { pyodideState } = require('wasm-hostmap/pyodide')
    const none = () => 0
    const _module = { finalizationRegistry: { register: none }, PyProxy_getAttrsQuiet: none,
      _hiwire_new_deduplicate: none, _hiwire_decref: none }
    const _api = { config: {}, isPyProxy: none, packageManager: {} }
    const say = () => {
      try { pyodideState({ _module, _api, loadedPackages: {} }) } catch (error) {
        console.log(error.code, error.message)
      }
    }
    say()
    Object.freeze(Map.prototype)
    say()`
  const printed = execFileSync(process.execPath, ['-e', script], {
    cwd: new URL('..', import.meta.url),
    encoding: 'utf8'
  })
  const [unknown, frozen] = printed.split('\n')
  assert.match(unknown, /^ERR_HOSTMAP_ENGINE_UNSUPPORTED .*references/)
  assert.match(frozen, /^ERR_HOSTMAP_ENGINE_UNSUPPORTED .*Map\.prototype is frozen/)
})

// From here on it is spoilt bit by bit, by what is not brought back.

/** What `request` gives in three requests, with a state or another. */
function answers({ pyodide, unit }, state, request) {
  const clean = checkpoint(unit, { accept, state: [state] })
  const seen = [1, 2, 3].map(round => {
    let answer
    try {
      answer = request(pyodide, round)
    } catch (error) {
      answer = String(error.message).trim().split('\n').at(-1)
    }
    clean.restore()
    return answer
  })
  clean.close()
  return seen
}

const filesAlone = ({ pyodide }) => emscriptenState(pyodide._module)

test('a part of a line is the next tenant’s without it', () => {
  const { pyodide } = first
  const lines = []
  pyodide.setStdout({ batched: line => lines.push(line) })
  const printing = (_, round) => {
    pyodide.runPython(`print('line'); print('secret ${round}', end='', flush=True)`)
    return lines.pop()
  }
  assert.deepEqual(answers(first, pyodideState(pyodide), printing), ['line', 'line', 'line'])
  const mixed = ['line', 'secret 1line', 'secret 2line']
  assert.deepEqual(answers(first, filesAlone(first), printing), mixed)
})

test('the handler of one tenant gets what others print without it', () => {
  const { pyodide } = first
  let lines
  const printing = (_, round) => {
    if (round === 1) {
      lines = []
      pyodide.setStdout({ batched: line => lines.push(line) })
    }
    // Which opens all three streams again.
    pyodide.setStderr({ batched() {} })
    pyodide.runPython(`print('secret ${round}')`)
    return lines.join()
  }
  const right = Array.from({ length: 3 }, () => 'secret 1')
  assert.deepEqual(answers(first, pyodideState(pyodide), printing), right)
  const wrong = ['secret 1', 'secret 1,secret 2', 'secret 1,secret 2,secret 3']
  assert.deepEqual(answers(first, filesAlone(first), printing), wrong)
  pyodide.setStdout({ batched() {} })
})

test('packages count as loaded without it', () => {
  const loading = pyodide => {
    const seen = Object.keys(pyodide.loadedPackages).join()
    pyodide.loadedPackages[`of-${seen.length}`] = 'default channel'
    return seen
  }
  assert.deepEqual(answers(first, pyodideState(first.pyodide), loading), ['', '', ''])
  assert.deepEqual(answers(first, filesAlone(first), loading), ['', 'of-0', 'of-0,of-4'])
})

test('a method that a proxy has cached is any other object without it', () => {
  const { pyodide } = first
  pyodide.runPython(`
class App:
    def handle(self, n):
        return f'answer {n}'
app = App()`)
  const app = pyodide.globals.get('app')
  const handling = (_, round) => {
    const answer = app.handle(round)
    // Which has the memory that the next request's method would have had.
    pyodide.runPython('others = [[lambda: 1] for _ in range(50)]')
    return answer
  }
  const right = ['answer 1', 'answer 2', 'answer 3']
  assert.deepEqual(answers(first, pyodideState(pyodide), handling), right)
  assert.notDeepEqual(answers(first, filesAlone(first), handling), right)
})

test('references of JavaScript objects break without it', () => {
  const NAMES = ['console JSON Math Reflect', 'process Math URL console', 'Atomics Intl console']
  // It leaves the objects behind, so that Python refers to them until the end.
  const asking = (pyodide, round) =>
    pyodide.runPython(`
import js
found = [getattr(js, it) for it in '${NAMES[round - 1]}'.split()]
js.URL.name + ''.join(str(it)[8:-1] for it in found if it != js.URL)`)
  const right = ['URLconsoleJSONMathReflect', 'URLprocessMathconsole', 'URLAtomicsIntlconsole']
  assert.deepEqual(answers(first, pyodideState(first.pyodide), asking), right)
  const wrong = answers(first, filesAlone(first), asking)
  assert.equal(wrong[0], right[0])
  assert.match(wrong[1], /invalid reference/)
})

/**
 * What the next tenant's lists are that are no longer `[1, 2, 3]`, after proxies of the tenant
 * before it were collected.
 */
async function listsAfter({ pyodide, clean }) {
  try {
    for (let i = 0; i < 300; i++) pyodide.runPython('[1, 2, 3]')
    clean.restore()
    pyodide.runPython('kept = [[1, 2, 3] for _ in range(2000)]')
    collect()
    for (let i = 0; i < 4; i++) await turn()
    pyodide.runPython('import ast; trees = [ast.parse("[1, 2, 3]") for _ in range(200)]')
    return pyodide.runPython('str([it for it in kept if it != [1, 2, 3]])')
  } catch (error) {
    return String(error)
  }
}

test('finalizers of a request spoil the next one where V8 calls them', async () => {
  const it = first
  it.clean.restore()
  assert.equal(await listsAfter(it), '[]')
  it.clean.restore()
  assert.equal(await listsAfter(it), '[]')
  it.clean.restore()
  // As Pyodide has it, without a capture.
  let calls = 0
  const { _module } = it.pyodide
  _module.finalizationRegistry = new V8Registry(({ ptr }) => {
    calls += 1
    try {
      _module._Py_DecRef(ptr)
    } catch {
      // Out of bounds, mostly.
    }
  })
  assert.notEqual(await listsAfter(it), '[]')
  assert.ok(calls > 0)
})

test('a Pyodide that has failed can not go back, and says why', async () => {
  const { pyodide, clean } = second
  const [code, says] = ENDS['a stack overflow']
  const { error: log } = console
  console.error = () => {}
  try {
    assert.throws(() => pyodide.runPython(code), says)
  } finally {
    console.error = log
  }
  assert.throws(
    () => clean.restore(),
    ({ code, cause }) => {
      assert.equal(code, 'ERR_HOSTMAP_CHECKPOINT_BROKEN')
      assert.equal(cause.code, 'ERR_HOSTMAP_NOT_RESTORABLE')
      assert.match(cause.message, /Pyodide already fatally failed/)
      return true
    }
  )
  assert.throws(() => pyodideState(pyodide), codeOf('ERR_HOSTMAP_NOT_RESTORABLE'))
})
