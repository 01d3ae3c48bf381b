// Random requests for Pyodide, by a seed: each is a script of a few pieces that leave something
// behind, and what JavaScript does with its results.

/** Numbers from 0 to 1, the same for the same seed (mulberry32). */
export function randomOf(seed) {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

/** Pieces of scripts: `n` is a small number, `name` a name that other pieces may have, too. */
const PIECES = [
  ({ name, n }) => `${name} = [${n}] * ${n}`,
  ({ name }) => `globals().pop('${name}', None)`,
  ({ name, n }) => `class ${name}(dict):\n    size = ${n}\n    def __del__(self): self.size += 1`,
  ({ name, n }) => `import builtins; builtins.${name} = ${n}`,
  ({ n }) => `products.sort(key=lambda it: (it.cents * ${n + 1}) % 97); del products[${n}:]`,
  () => 'import sys; sys.modules.pop("json", None); import json; json.dumps = repr',
  ({ n }) => `import sys; sys.setrecursionlimit(${200 + n}); sys.path.append('/tmp/${n}')`,
  ({ name, n }) => `import os; os.environ['${name}'] = '${n}'; os.umask(${n % 64})`,
  ({ n }) => `import random; random.seed(${n})`,

  ({ name, n }) => `open('/tmp/${name}', 'w').write('x' * ${n * 1000})`,
  ({ name, n }) => `${name} = [open(f'/tmp/${name}{i}', 'w+b') for i in range(${n})]`,
  ({ name }) =>
    `import os; os.makedirs('/home/pyodide/${name}/in', exist_ok=True); os.chdir('/home/pyodide/${name}')`,
  ({ name }) => `import os, shutil; shutil.rmtree('/home/pyodide/${name}', ignore_errors=True)`,
  ({ n }) => `import os; os.truncate('/lib/python314.zip', ${n * 1000})`,
  () => `import os; os.path.exists('/dev/null') and os.unlink('/dev/null')`,
  ({ n }) => `import os; r, w = os.pipe(); os.write(w, b'p' * ${n})`,
  ({ n }) => `import os; os.dup2(os.open('/tmp/out${n}', os.O_CREAT | os.O_RDWR), ${n % 3})`,
  ({ name }) => `import tempfile; ${name} = tempfile.TemporaryFile(); ${name}.write(b'kept')`,
  ({ n }) => `print('a part of line ${n}', end='', flush=True)`,

  ({ name, n }) => `${name} = bytearray(b'm' * ${n * 2 ** 17})`,
  ({ name, n }) => `${name} = [{i: [i]} for i in range(${n * 300})]; ${name}.append(${name})`,
  ({ n }) =>
    `try:\n    def deep(i): return deep(i + ${n})\n    deep(0)\nexcept RecursionError: pass`,
  ({ name, n }) => `
def ${name}():
    with open('/tmp/half', 'a') as file:
        for i in range(100): yield [i]
half_${name} = ${name}()
for _ in range(${n % 9}): next(half_${name})`,

  ({ name, n }) => `import js; ${name} = [js.Object.new() for _ in range(${n * 40})]`,
  ({ name }) =>
    `import js; ${name} = js.console, js.JSON, js.URL, js.Map.new(), js.eval('(x) => x')`,
  ({ name, n }) => `
from pyodide.ffi import create_once_callable, create_proxy, to_js
${name} = [create_proxy(lambda: ${n}) for _ in range(${n})], to_js({'a': [${n}]})
[create_once_callable(print) for _ in range(${n})]`,
  ({ n }) => `
import ctypes
kept_back = [ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)(lambda i: i + ${n}) for _ in range(${n % 9})]`,
  () =>
    `import js\ntry: js.eval('throw new TypeError("of a tenant")')\nexcept Exception as e: caught = e`
]

const NAMES = ['apple', 'brick', 'cloud', 'drawer']

/** An iterator that is left half-way, and proxies of it that nobody destroys. */
function firstOf(list) {
  const lists = list[Symbol.iterator]()
  return [lists.next().value.get(1), lists.next().value.get(1), lists]
}

/** How a script ends, and what is done with that. */
const ENDS = [
  { code: 'len(globals())' },
  { code: '[{1: [i]} for i in range(50)]', use: firstOf },
  { code: 'lambda *given: [given]', use: it => [it(1), it({ a: 1 }), it.toString()] },
  { code: 'Product', use: it => it(1, 'made', 2).name },
  { code: 'raise ValueError([1, 2, 3])', fails: /ValueError/ },
  { code: 'import sys; sys.exit(4)', fails: /SystemExit/ },
  { code: 'await __import__("asyncio").sleep(0.001)', isAsync: true },
  {
    code: `
import asyncio
async def part(i):
    await asyncio.sleep(0)
    return [i]
await asyncio.gather(*[part(i) for i in range(10)])`,
    isAsync: true,
    use: list => list.toJs()
  }
]

const pick = (random, list) => list[Math.floor(random() * list.length)]

/** A request: `script`, for a failure to be understood, and `run(pyodide)`. */
export function randomRequest(random) {
  const parts = Array.from({ length: 1 + Math.floor(random() * 6) }, () =>
    pick(random, PIECES)({ name: pick(random, NAMES), n: 1 + Math.floor(random() * 40) })
  )
  const { code, use, fails, isAsync } = pick(random, ENDS)
  const script = [...parts, code].join('\n')
  const run = async pyodide => {
    let result
    try {
      result = isAsync ? await pyodide.runPythonAsync(script) : pyodide.runPython(script)
    } catch (error) {
      // Pieces may fail for what other pieces did, and JavaScript keeps what was thrown.
      if (error.constructor.name !== 'PythonError') throw error
      return error
    }
    if (fails !== undefined) throw new Error(`It did not fail: ${script}`)
    return [result, use?.(result)]
  }
  return { script, run }
}
