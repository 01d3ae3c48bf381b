/**
 * The JavaScript half of a program that runs under node:wasi: which descriptors are open.
 *
 * Hooks of node:wasi that it leans on: `wasiImport` with functions that can be replaced, which
 * throw `ERR_WASI_NOT_STARTED` before the start. Tried with Node.js 20 to 26 (uvwasi 0.0.23).
 *
 * @module wasm-hostmap/wasi
 */

import type { WASI } from 'node:wasi'

/** What {@link wasiState} returns: a state function for a checkpoint or a pool. */
export interface WasiState {
  /** Records what is open; returns the function that brings it back, any number of times. */
  (): () => void
  /**
   * Closes all that the program has open, also its preopens: to be called when the program is not
   * used any more. node:wasi closes nothing by itself, not even when it is collected. What the
   * options named as `stdin`, `stdout` and `stderr` stays open.
   */
  close(): void
}

/**
 * Watches which descriptors a program opens and closes, and returns a state function for a
 * checkpoint or a pool. To be called **before the instance is made**, in the same `make`: nobody
 * can ask node:wasi later. A second call returns the same function.
 *
 * What comes back:
 * - Descriptors: those that were opened since are closed, on the host, too. Preopens, and what was
 *   open, stay open, each at its position and with its flags (`O_APPEND`, `O_NONBLOCK`).
 *   Descriptors are numbered as in a fresh program afterwards.
 * - Whether the WASI was started, and its exit code: a command that was not started when the state
 *   was taken can be started again, also after `proc_exit`.
 *
 * What does not: files and folders of the host that the program has written, made or removed, and
 * the positions of what `stdin`, `stdout` and `stderr` are on the host. Arguments and environment
 * can't change.
 *
 * It costs a microsecond where nothing was opened, a call of `lseek` for each file that was open,
 * and the closing of what was opened since. Opening and closing costs the program a call of
 * JavaScript more. Bytes 0 to 23 of the program's memory are written meanwhile and put back.
 *
 * If an error is thrown while it is brought back, all that {@link WasiState.close} closes is closed
 * first, since the program can only be thrown away:
 * `ERR_HOSTMAP_NOT_RESTORABLE` if a descriptor that was open was closed or replaced, or lost rights
 * (`fd_fdstat_set_rights`), or could not be closed, or if the program has opened descriptors by
 * functions that were taken of `wasiImport` before.
 *
 * @param wasi What `new WASI()` of node:wasi gave, not started.
 * @throws `ERR_INVALID_ARG_TYPE`; `ERR_HOSTMAP_ENGINE_UNSUPPORTED` if it is another WASI;
 * `ERR_HOSTMAP_NOT_RESTORABLE` if it was started already
 * @example
 * ```js
 * const make = async () => {
 *   const wasi = new WASI({ version: 'preview1', preopens: { '/data': 'data' } })
 *   const state = wasiState(wasi)
 *   const { instance } = await WebAssembly.instantiate(bytes, wasi.getImportObject())
 *   wasi.initialize(instance)
 *   return { instance, state }
 * }
 * const { value, unit } = await capture(make)
 * const clean = checkpoint(unit, { state: [value.state] })
 * ```
 */
export function wasiState(wasi: WASI): WasiState
