// What requests leave behind in a Pyodide: each of these changes what the next one would find, if
// nothing brought it back.

import assert from 'node:assert/strict'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'

const python = code => pyodide => pyodide.runPython(code)

const failing = (code, says) => pyodide => assert.throws(() => pyodide.runPython(code), says)

/** A file of the host, in a folder that the process leaves behind in /tmp. */
const HOST_FOLDER = fs.mkdtempSync(path.join(os.tmpdir(), 'hostmap-pyodide-'))
process.once('exit', () => fs.rmSync(HOST_FOLDER, { recursive: true, force: true }))

/** Of each kind of leaving: what is done, which may be asynchronous. */
export const LEAVINGS = {
  'globals and modules': python(`
import builtins, html.parser, json, sys, os
secret = 'of a tenant'
json.dumps = len
builtins.print = None
builtins.leaked = secret
sys.path.insert(0, '/tmp'); sys.argv.append(secret)
os.environ['SECRET'] = secret; os.environ.pop('HOME')
sys.setrecursionlimit(500)
sys.modules['made_up'] = sys
del sys.modules['html.parser']`),

  hooks: python(`
import atexit, gc, signal, sys, threading, warnings
sys.excepthook = sys.displayhook = lambda *given: None
sys.setprofile(lambda *given: None); sys.settrace(None)
signal.signal(signal.SIGINT, signal.SIG_IGN)
warnings.simplefilter('error')
gc.disable(); gc.set_threshold(1, 1, 1)
atexit.register(print, 'late')
try:
    threading.Thread(target=print).start()
except RuntimeError:
    pass`),

  'files, folders and a current folder': python(`
import os, shutil, tempfile
os.makedirs('/home/pyodide/deep/er')
os.chdir('/home/pyodide/deep')
open('er/file', 'w').write('secret' * 10_000)
os.symlink('er/file', 'link'); os.chmod('er', 0o500); os.utime('er/file', (1, 1))
shutil.copy('/lib/python314.zip', '/tmp/copy.zip')
with open('/lib/python314.zip', 'r+b') as library:
    library.seek(100); library.write(b'spoilt'); library.truncate(1000)
os.unlink('/dev/null')
kept = tempfile.NamedTemporaryFile()
os.umask(0)`),

  'a thousand open files': python(`
opened = [open(f'/tmp/{i}', 'w+') for i in range(1000)]
for it in opened:
    it.write('left'); it.flush()`),

  'open streams': python(`
import os, sys
reader, writer = os.pipe()
os.write(writer, b'in a pipe')
sys.stdout.write('no end of a line'); sys.stdout.flush()
sys.stderr.close()
os.dup2(os.open('/tmp/out', os.O_CREAT | os.O_WRONLY), 1)
os.close(0)
print('to the file', flush=True)`),

  'a grown memory': python('much = [bytearray(b"x" * 2**20) for _ in range(24)]'),

  'grown tables': python(`
import ctypes, js
objects = [js.Object.new() for _ in range(5000)]
callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)
callbacks = [callback(lambda n: n + 1) for _ in range(20)]
assert callbacks[7](1) == 2`),

  'references of JavaScript': python(`
import js
found = [js.URL, js.console, js.JSON, js.Math, js.process, js.Map.new(), js.Symbol.iterator]
js.JSON.parse('[1]'), js.Array.new(1, 2)`),

  generators(pyodide) {
    const generator = pyodide.runPython(`
def lines():
    with open('/tmp/generated', 'w') as file:
        for i in range(10):
            file.write('line'); file.flush()
            yield [i]
half_way = lines()
next(half_way)
half_way`)
    assert.equal(generator.next().value.get(0), 1)
    const list = pyodide.runPython('[[1], [2]]')[Symbol.iterator]()
    assert.equal(list.next().value.get(0), 1)
  },

  proxies(pyodide) {
    const kept = Array.from({ length: 200 }, (_, i) => pyodide.runPython(`lambda: [${i}]`))
    assert.equal(kept[7]().get(0), 7)
    kept[8].destroy()
    pyodide.toPy({ a: [1, new Map()] })
    pyodide.pyimport('collections').OrderedDict()
    pyodide.globals.set('planted', kept[9])
    pyodide.runPython('from pyodide.ffi import create_once_callable, create_proxy, to_js')
    pyodide.runPython('create_once_callable(print)')
    return kept
  },

  'errors of all kinds'(pyodide) {
    failing('def deep(n): return deep(n + 1)\ndeep(0)', /RecursionError/)(pyodide)
    failing('import sys; sys.exit(3)', /SystemExit: 3/)(pyodide)
    failing('open("/none")', /FileNotFoundError/)(pyodide)
    failing('(', /SyntaxError/)(pyodide)
    failing('import js; js.eval("throw new Error(1)")', /JsException/)(pyodide)
    failing('import os; os.fork()', /OSError/)(pyodide)
    failing('import subprocess; subprocess.run(["ls"])', /OSError/)(pyodide)
  },

  async 'calls that wait'(pyodide) {
    const waited = await pyodide.runPythonAsync(`
import asyncio, js
async def worker(queue):
    while True:
        queue.task_done() if await queue.get() is None else None
queue = asyncio.Queue()
await asyncio.gather(*[asyncio.sleep(0.001) for _ in range(20)])
await js.Promise.resolve(7)`)
    assert.equal(waited, 7)
  },

  'handlers of standard streams'(pyodide) {
    const seen = []
    pyodide.setStdout({ batched: text => seen.push(text) })
    pyodide.setStdin({ stdin: () => 'one line\nand another' })
    pyodide.runPython("print(input()); print('part of a line', end='', flush=True)")
    pyodide.setStderr({ raw: code => seen.push(code) })
    pyodide.runPython('import sys; print("x", file=sys.stderr)')
    assert.deepEqual(seen[0], 'one line')
  },

  'what the pyodide object has'(pyodide) {
    pyodide.loadedPackages['made-up'] = 'default channel'
    pyodide.setDebug(true)
    pyodide.setInterruptBuffer(new Uint8Array(1))
    pyodide.registerJsModule('tenant', { secret: 1 })
    pyodide.runPython('import tenant; tenant.secret')
    pyodide.runPython = pyodide.runPython.bind(pyodide)
    pyodide.mine = 1
    delete pyodide.version
  },

  'an unpacked archive'(pyodide) {
    const bytes = pyodide.runPython(`
import io, zipfile
buffer = io.BytesIO()
with zipfile.ZipFile(buffer, 'w') as archive:
    archive.writestr('tenant_module.py', 'answer = 42')
buffer.getvalue()`)
    pyodide.unpackArchive(bytes.toJs(), 'zip')
    assert.equal(pyodide.runPython('import tenant_module; tenant_module.answer'), 42)
  },

  'a folder of the host'(pyodide) {
    pyodide.mountNodeFS('/host', HOST_FOLDER)
    pyodide.runPython(`
import os
kept_open = [open(f'/host/{i}', 'w') for i in range(10)]
os.chdir('/host')`)
  },

  'names of hosts, sockets and libraries': python(`
import ctypes, socket
open('/tmp/made.so', 'w').write('up')
try:
    ctypes.CDLL('/tmp/made.so')
except OSError:
    pass
looked_up = socket.getaddrinfo('tenant.example', 80)
kept_open = socket.socket()`),

  // A list makes room before it asks for what it is to have, so that no page of it is touched.
  'a memory that is full': failing(
    `
class Nested:
    def __length_hint__(self): return 2**29 - 2**10
    def __iter__(self): return self
    def __next__(self): return list(Nested())
list(Nested())`,
    /MemoryError/
  )
}

/** Requests after which Pyodide can't go on. */
export const ENDS = {
  'a stack overflow': ['x = []\nfor i in range(10**6): x = [x]\nrepr(x)', /call stack size/],
  'an access out of bounds': ['import ctypes; ctypes.string_at(2**32 - 16, 40)', /out of bounds/],
  _exit: ['import os; os._exit(2)', /exit\(2\)/],
  abort: ['import os; os.abort()', /unreachable/]
}
