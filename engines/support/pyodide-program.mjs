// Pyodide: Python with its standard library, which each request finds as its start left it.

import assert from 'node:assert/strict'
import { loadPyodide } from 'pyodide'
import { pyodideState } from 'wasm-hostmap/pyodide'
import { DIGEST, PRELUDE, answerOf, scriptOf } from './pyodide-scripts.mjs'

const quiet = { stdout() {}, stderr() {} }

/** What Python says of itself. It leaves modules behind that it imports. */
export function pythonDigest(pyodide) {
  const dict = pyodide.globals.get('dict')
  const globals = dict()
  const digest = JSON.parse(pyodide.runPython(DIGEST, { globals }))
  globals.destroy()
  dict.destroy()
  return digest
}

export const program = {
  name: 'Pyodide',
  package: 'pyodide',
  bar: 200,
  nodes: '>=20',
  poolOptions: () => ({
    make: () => loadPyodide(quiet),
    init: ({ value }) => void value.runPython(PRELUDE),
    // The mark of an error, a struct without fields.
    accept: ['gc-objects'],
    // What a request writes: pages that are copied back cost less than pages that are mapped anew.
    keepResidentBytes: 4 * 2 ** 20,
    state: [({ value }) => pyodideState(value)()],
    // The state that each request starts in has one of random's, too.
    before: ({ value }) => void value.runPython('random.seed()')
  }),
  request: ({ value }, n) => value.runPython(scriptOf(n)),
  check: (answer, n) => assert.deepEqual(JSON.parse(answer), answerOf(n)),
  digest: ({ value }) => pythonDigest(value)
}
