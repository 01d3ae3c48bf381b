/**
 * The JavaScript half of QuickJS, as quickjs-wasi and quickjs-emscripten have it.
 *
 * Fields that it leans on: `hostCallbacks` and `_ownedHandles` of a `QuickJS`; `callbacks`,
 * `runtime` and `hostRefs` of a context, a runtime and the module. Tried with quickjs-wasi 3.6.2
 * and quickjs-emscripten 0.32.0.
 *
 * @module wasm-hostmap/quickjs
 */

/**
 * Returns a state function for a checkpoint or a pool: a function that records what is there when
 * it is called, and returns one that brings it back, any number of times.
 *
 * What comes back: functions of the host (`newFunction`, `registerHostCallback`) and their names or
 * numbers, handlers, module loaders, runtimes and contexts that are not disposed of, handles that
 * are cached (`global`, `undefined`) or are to be disposed of at the end, and whether the VM itself
 * is disposed of. Without it, requests that leave such things behind make the Maps of the package
 * longer each time, can't give a name to a function again, and find cached handles that point to
 * where another value is now.
 *
 * What does not: objects of the host that a function of yours or `newHostRef` holds. Handles that
 * were made since are of no use afterwards; don't dispose of them then.
 *
 * It costs 1 to 10 us to bring it back.
 *
 * @param vm What `QuickJS.create()`, `newContext()`, `newRuntime()` or `newQuickJSWASMModule()`
 * gave.
 * @param held Handles of yours that requests use, and objects that hold such: whether they are
 * alive comes back, too.
 * @throws `ERR_INVALID_ARG_TYPE`; `ERR_HOSTMAP_ENGINE_UNSUPPORTED` if it is none of these
 * @example
 * ```js
 * const { value: vm, unit } = await capture(() => QuickJS.create({ wasm }))
 * const clean = checkpoint(unit, { state: [quickjsState(vm)] })
 * vm.newFunction('log', console.log) // is not registered any more after
 * clean.restore()
 * ```
 */
export function quickjsState(vm: object, ...held: object[]): () => () => void
