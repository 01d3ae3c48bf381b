/**
 * The JavaScript half of Pyodide: its files and streams, and what it keeps of its memory in
 * JavaScript.
 *
 * Hooks of Pyodide that it leans on: `_module` and `_api` of what `loadPyodide` gives, with
 * `_module.finalizationRegistry`, `PyProxy_getAttrsQuiet`, `_hiwire_new_deduplicate` and
 * `_hiwire_decref`, `_api.config`, `isPyProxy` and `packageManager`. docs/engines.md names the
 * version tried.
 *
 * @module wasm-hostmap/pyodide
 */

/**
 * Returns a state function for a checkpoint or a pool: a function that records what is there when
 * it is called, and returns one that brings it back, any number of times. It is needed: with
 * `emscriptenState` alone, a request that uses `js.URL` breaks `js.URL` for the next one.
 *
 * What comes back:
 * - All that `emscriptenState(pyodide._module)` brings back: files, streams, the current folder.
 * - Which JavaScript objects Python refers to, by which reference.
 * - Proxies. Those that were made since are destroyed: they throw when they are used, and say so.
 *   Attributes that a proxy from before has cached since are forgotten.
 * - The handlers of `setStdin`, `setStdout` and `setStderr`, and parts of lines in them.
 * - `loadedPackages`, `setDebug`, `setInterruptBuffer`, `useNodeSockFS`, names of hosts that were
 *   looked up, shared libraries that failed to load, properties of the `pyodide` object, and those
 *   of the object that was passed as `jsglobals`: the properties, not what is in them.
 * - The process's umask, which `os.umask` sets.
 *
 * What does not come back:
 * - `globalThis`, which Python sees as `js` unless you pass `jsglobals`, and what is in modules of
 *   `registerJsModule`: they are yours.
 * - The number in the buffer of `setInterruptBuffer`, which other threads write: set it to 0 before
 *   each request.
 * - Functions of `create_once_callable`, JavaScript iterators of proxies and buffers of
 *   `getBuffer()` that a request leaves behind: drop them when it ends.
 * - Python's `random`, which goes back to one state, so that each request gets the same numbers:
 *   call `random.seed()` before each. `secrets`, `os.urandom` and `random.SystemRandom` ask the
 *   host.
 *
 * From Node.js 22 on, checkpoints and pools of Pyodide need `accept: ['gc-objects']`: the mark of
 * an error is a struct. It has no fields, so nothing of it could change.
 *
 * Packages are to be loaded before: one with shared libraries that a request loads makes a restore
 * refuse. `_module.finalizationRegistry` is replaced by one that notes what is registered. Going
 * back costs 20 us beside what `emscriptenState` costs, and 0.1 us for each proxy made since.
 *
 * @param pyodide What `loadPyodide` gave.
 * @returns The state function. It throws what that of `emscriptenState` throws, and
 *   `ERR_HOSTMAP_NOT_RESTORABLE` if Pyodide has failed.
 *
 *   The function that brings it back throws, beside what that of `emscriptenState` does,
 *   `ERR_HOSTMAP_NOT_RESTORABLE`:
 *   - Pyodide has suffered a fatal error, or has exited (`os._exit`, `os.abort`, a stack overflow).
 *     It can't be used any more.
 *   - A proxy that was made before was destroyed, or a function of `create_once_callable` from
 *     before was called.
 *   - A standard stream does not take its handlers back.
 * @throws `ERR_INVALID_ARG_TYPE`; `ERR_HOSTMAP_ENGINE_UNSUPPORTED` if Pyodide lacks one of the
 * hooks, or `Map.prototype` is frozen; `ERR_HOSTMAP_NOT_RESTORABLE` if Pyodide has failed
 * @example
 * ```js
 * const pool = await InstancePool.create({
 *   make: () => loadPyodide(),
 *   accept: ['gc-objects'],
 *   state: [({ value }) => pyodideState(value)()],
 *   before: ({ value }) => value.runPython('import random; random.seed()')
 * })
 * const three = await pool.run(({ value }) => value.runPython('1 + 2'))
 * ```
 */
export function pyodideState(pyodide: object): () => () => void
