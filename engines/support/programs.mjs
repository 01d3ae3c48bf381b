// The programs that a pool of factories is tried with, and what each of them has to tell. A program
// is a module of its own beside this one, NAME-program.mjs, that exports `program`:
//
//   name         as the tables have it
//   package      the npm package, of which the tables give the version; or `version`
//   bar          optional: how many times sooner than booting anew a clean request has to be
//   nodes        the versions of Node.js, such as '>=20'
//   poolOptions() => options of InstancePool.create: make, init, state, before, after, accept, ...
//                (without size and max). `make` and `init` are all of a boot; `init` uses `value`
//                alone of what it gets, so that booting anew can call it without a pool.
//   request(lent, n) => answer     one request, usual for the program: a small script or page. It
//                leaves something behind each time: globals, files, errors. May be async. Of what
//                it gets, it uses `lent.value`. `n` makes it differ.
//   check(answer, n)               throws if the answer is wrong
//   digest(lent) => JSON           what a fresh boot shows of itself: globals, files, descriptors.
//                May be async, and may leave things behind: it is called in a request of its own.
//   close(value)                   optional: what a boot must let go of, such as descriptors
//
// The bench, the examples and the tests use the same modules.

import { readFileSync } from 'node:fs'
import { InstancePool } from 'wasm-hostmap'

/** In the order of the tables. Those whose module is not there yet are left out. */
export const NAMES = ['pyodide', 'php', 'ruby', 'quickjs-emscripten', 'quickjs-wasi', 'wasi']

export async function programOf(name) {
  if (!NAMES.includes(name)) throw new Error(`no program is called ${name}, but ${NAMES}`)
  const { program } = await import(`./${name}-program.mjs`)
  return { version: versionOf(program), ...program }
}

function versionOf({ package: name }) {
  if (name === undefined) return undefined
  const manifest = new URL(`../node_modules/${name}/package.json`, import.meta.url)
  return JSON.parse(readFileSync(manifest, 'utf8')).version
}

/** Boots a program without a pool: what there is to compare with. */
export async function bootAnew({ poolOptions, boot }) {
  if (boot !== undefined) return { value: await boot() }
  const { make, init } = poolOptions()
  const value = await make(TOOLS)
  await init?.({ value })
  return { value }
}

/** A pool of so many. */
export const poolOf = ({ poolOptions }, size) =>
  InstancePool.create({ ...poolOptions(), size, max: size })

// What `make` gets, without a capture.
const TOOLS = {
  instantiateWasm: source => (imports, receive) => {
    const made = (module, instance) => receive(instance, module)
    if (source instanceof WebAssembly.Module) {
      WebAssembly.instantiate(source, imports).then(instance => made(source, instance))
    } else {
      WebAssembly.instantiate(source, imports).then(({ module, instance }) =>
        made(module, instance)
      )
    }
    return {}
  }
}
