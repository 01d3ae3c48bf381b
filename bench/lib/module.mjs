// Assembles the benchmarks' modules.

import wabtInit from 'wabt'

/** Assembles a module. `features`: those that wabt does not enable by default. */
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
 * Runs a function that calls a module's functions, until V8 has optimized them for all instances.
 */
export async function warmUp(callOften) {
  for (let round = 0; round < 20; round++) {
    callOften()
    // V8 compiles on other threads.
    await new Promise(resolve => setTimeout(resolve, 5))
  }
}
