/**
 * The JavaScript half of an Emscripten module: what its FS keeps outside of the memory.
 *
 * Hooks of Emscripten that it leans on: `Module.FS` (`-sEXPORTED_RUNTIME_METHODS=FS`) with its
 * nodes and their table, `streams`, `devices` and mounts. docs/engines.md names the versions tried.
 *
 * @module wasm-hostmap/emscripten-state
 */

/**
 * Returns a state function for a checkpoint or a pool: a function that records what is there when
 * it is called, and returns one that brings it back, any number of times.
 *
 * What comes back:
 * - The tree of MEMFS: files and their bytes, folders and the order of their names, links, devices,
 *   modes, times, inode numbers, and what is mounted where.
 * - Open streams: descriptors, positions, flags; files that are unlinked but open; what is in
 *   pipes; lines that a terminal has not ended.
 * - The current folder, the next inode number, the registered devices, the functions of `FS`
 *   itself, and `Module.ENV`.
 *
 * What does not: files of the host (NODEFS, and what PROXYFS shows of another module). Their mounts
 * stay, and host files that were opened since are closed. What Emscripten keeps in variables that
 * nothing leads to: the rest of a line that was read from the process's standard input, and which
 * indices of the table are free (`addFunction`), and which shared libraries are loaded (`dlopen`):
 * load libraries before.
 *
 * Files keep their bytes in a memory of their own from then on (`node.contents` is another array),
 * whose written pages the kernel knows. Recording costs a copy of all files. Going back costs about
 * 0.5 us for each node of the tree, and 1 to 2 us for each page of 4 KiB that was written: not what
 * the files hold. The buffer of `node.contents` can't be transferred to another thread.
 *
 * The memory, globals and tables are not part of it: bring them back first, or after it, and both
 * while no function of the module is on the stack.
 *
 * @param module What the Emscripten factory gave.
 * @returns The state function. It throws `ERR_HOSTMAP_NOT_RESTORABLE` if a socket is open or a file
 *   has contents that are no bytes, `ERR_HOSTMAP_MEMORY_FULL` if the files hold more than 4 GiB,
 *   and what `new GuardedMemory` and `snapshot` throw; nothing is changed then.
 *
 *   The function that brings it back throws:
 *   - `ERR_HOSTMAP_NOT_RESTORABLE`: a host file that was open is closed; nothing was changed. Or a
 *     host file that was opened since could not be closed (`cause` says why); all else is back.
 *   - What `guarded.restore` throws. A part is back then: call it again.
 * @throws `ERR_INVALID_ARG_TYPE`; `ERR_HOSTMAP_ENGINE_UNSUPPORTED` if the module does not export
 * its FS, or has WASMFS, NODERAWFS, or an FS that is not known
 * @example
 * ```js
 * const goBack = emscriptenState(Module)() // records
 * Module.FS.writeFile('/tmp/report', 'text')
 * goBack() // /tmp/report is gone
 * ```
 */
export function emscriptenState(module: object): () => () => void
