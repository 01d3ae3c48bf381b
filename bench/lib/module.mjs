// Makes the modules of the benchmarks from text.

import wabtInit from 'wabt'

/** The bytes of a module. `features`: those that wabt leaves out unless it is told. */
export async function assemble(name, wat, features) {
  const wabt = await wabtInit()
  const parsed = wabt.parseWat(`${name}.wat`, wat, features)
  const { buffer } = parsed.toBinary({})
  parsed.destroy()
  return buffer
}

export const compile = async (name, wat, features) =>
  new WebAssembly.Module(await assemble(name, wat, features))

/**
 * Calls what calls a module's functions often, until V8 has replaced their first code by optimized
 * code for all instances.
 */
export async function warmUp(callOften) {
  for (let round = 0; round < 20; round++) {
    callOften()
    // V8 compiles on other threads.
    await new Promise(resolve => setTimeout(resolve, 5))
  }
}
