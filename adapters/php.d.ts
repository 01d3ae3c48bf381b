/**
 * The JavaScript half of PHP in WebAssembly: a `PHP` of @php-wasm/universal, the engine of
 * WordPress Playground.
 *
 * Hooks that it leans on: the Emscripten module behind the symbol `__private__dont__use`, its `FS`,
 * `onAbort`, `onExit` and `onMessage`; `PHP.runStream` and `PHP.semaphore`. Tried with 3.1.56, with
 * the builds for Asyncify and for JSPI.
 *
 * @module wasm-hostmap/php
 */

/**
 * Prepares a PHP for {@link phpState}, by a first request that outputs nothing. Call it once, in
 * `init` of a pool, or before `checkpoint`.
 *
 * Without it each request would begin with a PHP whose modules have not started, of which the class
 * believes that they have. And glue built for Asyncify takes a block of C's heap at the first call
 * that is suspended (`sleep`, `post_message_to_js`, a socket), and keeps its address for good. If
 * that happened after the checkpoint, the block would be free in the memory that comes back, and
 * the glue would write into whatever C has put there since.
 *
 * Set options of php.ini (`disable_functions`) and the name of the SAPI before.
 *
 * @param php A PHP that has a runtime.
 * @throws (rejects)
 * - `ERR_INVALID_ARG_TYPE`
 * - `ERR_HOSTMAP_ENGINE_NOT_READY`: it has no runtime, or its first request fails (because of
 *   php.ini, or of files that are prepended).
 * - `ERR_HOSTMAP_ENGINE_UNSUPPORTED`: a hook is missing.
 * - `ERR_HOSTMAP_CALL_PENDING`: a request runs.
 * - `ERR_HOSTMAP_NOT_RESTORABLE`: it was aborted.
 */
export function preparePhp(php: object): Promise<void>

/**
 * Returns a state function for a checkpoint or a pool: a function that records what is there when
 * it is called, and returns one that brings it back, any number of times.
 *
 * What comes back is what `emscriptenState` of `wasm-hostmap/emscripten-state` says: files, open
 * streams, the current folder, `ENV`; and the properties that PHP has got since. Files of the host
 * (mounts of NODEFS) stay as they are.
 *
 * What does not:
 *
 * - What JavaScript sets through methods of PHP: `addEventListener`, `onMessage`,
 *   `setSpawnHandler`, `mount`. Set it before, once.
 * - Host names that PHP code looked up (`gethostbyname`): the glue numbers them from 172.29.1.0 on,
 *   and `gethostbyaddr` gives the next request the name. Put `disable_functions = gethostbyaddr`
 *   into php.ini if that matters.
 *
 * @param php A PHP that {@link preparePhp} has prepared.
 * @returns The state function. It throws `ERR_HOSTMAP_CALL_PENDING` while a request runs, and what
 *   that of `emscriptenState` throws.
 *
 *   The function that brings it back throws what that of `emscriptenState` throws, and before
 *   it has changed anything:
 *   - `ERR_HOSTMAP_NOT_RESTORABLE`: PHP has exited, was aborted by C, or has another runtime. The
 *     glue remembers that: make a new PHP. After a trap or the end of the stack it comes back.
 *   - `ERR_HOSTMAP_CALL_PENDING`: a request is not over: `run` has not given its answer yet,
 *     or `finished` of what `runStream` gave is pending.
 * @throws `ERR_INVALID_ARG_TYPE`; `ERR_HOSTMAP_ENGINE_NOT_READY` if it has no runtime, or was not
 * prepared; `ERR_HOSTMAP_ENGINE_UNSUPPORTED` if a hook is missing
 * @example
 * ```js
 * const pool = await InstancePool.create({
 *   make: async () => new PHP(await loadPHPRuntime(await getPHPLoaderModule())),
 *   init: ({ value: php }) => preparePhp(php),
 *   state: [({ value: php }) => phpState(php)()],
 *   pending: phpPending,
 *   accept: ['grown-memory']
 * })
 * await pool.run(({ value: php }) => php.run({ code: '<?php echo 1 + 1;' }))
 * ```
 */
export function phpState(php: object): () => () => void

/**
 * For the option `pending` of a pool: whether what a request has left is harmless, which promises
 * are. PHP leaves two in each request that are never settled. A request that is not over is told by
 * {@link phpState}, and its unit discarded; so are timers, sockets and processes of a request.
 *
 * Give a function of your own if requests begin other work that nothing but a promise shows: that
 * waits for something outside of the request, and touches PHP then.
 */
export function phpPending(work: { readonly kinds: Readonly<Record<string, number>> }): boolean
