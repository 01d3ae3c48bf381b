// Scripts of several tenants in one Pyodide, which is clean for each of them: out of a pool, beside
// booting one anew, and beside Pyodide's own snapshots, which make a boot shorter.
//
//   node engines/examples/pyodide.mjs [--requests 500] [--boots 9] [--copies 6]

import { loadPyodide } from 'pyodide'
import { InstancePool } from 'wasm-hostmap'
import { pyodideState } from 'wasm-hostmap/pyodide'
import { formatMilliseconds } from '../../examples/support/cli.mjs'
import { compareWithBooting } from '../support/pool-example.mjs'

const LIBRARY = `
import json, random
cart = []
def add(item):
    cart.append(item)
    return len(cart)`

// The third tenant finds no built-in that the second one has broken, no file, and nobody's cart.
const TENANTS = [
  'open("/tmp/tenant", "w").write("secret"); add("lamp")',
  'import builtins; builtins.len = lambda it: 99; cart.append("chair"); add("chair") - 98',
  'import os; add("kettle") + len(os.listdir("/tmp"))'
]

const pool = await InstancePool.create({
  make: () => loadPyodide(),
  init: ({ value: pyodide }) => void pyodide.runPython(LIBRARY),
  state: [({ value: pyodide }) => pyodideState(pyodide)()],
  // Else all requests get the same random numbers.
  before: ({ value: pyodide }) => void pyodide.runPython('random.seed()'),
  accept: ['gc-objects'],
  keepResidentBytes: 4 * 2 ** 20
})
const found = []
for (const script of TENANTS) {
  found.push(await pool.run(({ value: pyodide }) => pyodide.runPython(script)))
}
console.log(`Each tenant has so much in its cart: ${found.join(', ')}`)
if (found.some(count => count !== 1)) process.exitCode = 1
pool.close()

/** How long a boot takes that starts from the bytes that another one has kept of its memory. */
async function ownSnapshotMs() {
  const pyodide = await loadPyodide({ _makeSnapshot: true })
  pyodide.runPython(LIBRARY)
  const snapshot = pyodide.makeMemorySnapshot()
  const times = []
  for (let n = 0; n < 5; n++) {
    const started = performance.now()
    const booted = await loadPyodide({ _loadSnapshot: snapshot })
    times.push(performance.now() - started)
    if (booted.runPython('add("lamp")') !== 1) throw new Error('The snapshot has another state')
  }
  return times.toSorted((a, b) => a - b)[2]
}

const own = formatMilliseconds(await ownSnapshotMs())
console.log(`A boot from Pyodide's own snapshot, for comparison: ${own}`)

await compareWithBooting(['pyodide'])
