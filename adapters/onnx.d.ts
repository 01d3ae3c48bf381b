/**
 * onnxruntime-web over regions: types of adapters/onnx.js. The engine's own types come from what is
 * passed, so that none of its packages has to be installed.
 *
 * @module wasm-hostmap/onnx
 */

import type { GuardedMemory, HostRegion } from '../index.js'

/** What the adapter needs of `import * as ort from 'onnxruntime-web'`. */
export interface OrtModule {
  InferenceSession: { create(model: Uint8Array, options?: any): Promise<any> }
  env: { wasm: object }
}

/** The engine's `InferenceSession`. */
export type OrtSession<Ort extends OrtModule> = Awaited<
  ReturnType<Ort['InferenceSession']['create']>
>

/** External data of a model: also a region. */
export interface RegionAsExternalData {
  /** The path that the model has for it. */
  path: string
  data: HostRegion
}

/** The engine's `InferenceSession.SessionOptions`, where external data may be regions. */
export type OrtSessionOptions<Ort extends OrtModule> =
  NonNullable<Parameters<Ort['InferenceSession']['create']>[1]> extends infer Options
    ? Omit<Options, 'externalData'> & {
        externalData?:
          | readonly (
              | RegionAsExternalData
              | (Options extends { externalData?: infer Files }
                  ? NonNullable<Files> extends readonly (infer File)[]
                    ? File
                    : never
                  : never)
            )[]
          | undefined
      }
    : never

/** Options of {@link onnx}. */
export interface OnnxOptions {
  /**
   * The folder with the engine's `ort-wasm-simd-threaded.mjs` and `.wasm`, as a path or a `file:`
   * URL. Default: `ort.env.wasm.wasmPaths`, or where Node.js finds the package `onnxruntime-web` of
   * this version from the script, the working directory or this package.
   */
  dist?: string | URL | undefined
}

/** The engine of this thread. */
export interface OnnxRuntime<Ort extends OrtModule = OrtModule> {
  /**
   * Makes a session of a model in a region, which is mapped into the engine's memory read-only.
   *
   * - `.ort`: the weights are used where they are. A session costs no copy of them, and all
   *   sessions of one region share a mapping. It is unmapped when the last of them is released; the
   *   region may be closed before. Two options differ from the engine's defaults (in
   *   `extra.session`; yours win): `use_ort_model_bytes_for_initializers` is `'1'`, and
   *   `disable_prepacking` is `'1'`, since the engine would repack a copy of most weights for
   *   each session. With `disable_prepacking: '0'` it does. Some runs are faster then, and the last
   *   digits differ: see docs/engines.md.
   * - `.onnx`: the engine copies the weights out of the model; only its copy of the file is spared.
   *   The mapping is gone when the session is there.
   *
   * If the file of a region becomes shorter under a session, `memory.checkFaults()` tells.
   *
   * @param model A region with the whole model, of less than 4 GiB: all of it must fit into the
   *   engine's memory.
   * @param options As `InferenceSession.create` takes them. Of `externalData`, each `data` may also
   *   be a HostRegion, of at most `buffer.constants.MAX_LENGTH` bytes (4 GiB on Node.js 20): the
   *   engine copies the weights that it needs from there.
   * @returns The engine's own session. Release it with its own `release()`.
   * @throws (rejects) `ERR_HOSTMAP_ENGINE_UNSUPPORTED`, `ERR_INVALID_ARG_TYPE`, those of
   *   `guarded.map` (`ERR_HOSTMAP_ALLOCATOR_FAILED`: the engine's memory has no room
   *   for the model), and what the engine throws
   * @example
   * ```js
   * const session = await onnx(ort).create(HostRegion.open('model.ort'))
   * const { y } = await session.run({ x })
   * await session.release()
   * ```
   */
  create(model: HostRegion, options?: OrtSessionOptions<Ort>): Promise<OrtSession<Ort>>

  /** The engine's memory. Undefined before the first session. */
  readonly memory: GuardedMemory<'i32'> | undefined
}

/**
 * Returns the engine of this thread, which takes models from regions. The same object every time.
 *
 * The engine starts with the first `create`, which must be the first session of the thread. One
 * engine is in one thread: for several, call it in workers, pass them `region.share()`, and set
 * `ort.env.wasm.numThreads` to 1 there. They then share the pages of the model.
 *
 * @param ort The module: `import * as ort from 'onnxruntime-web'`, its entry for Node.js.
 * @throws `ERR_INVALID_ARG_TYPE`, `ERR_INVALID_ARG_VALUE`
 */
export function onnx<Ort extends OrtModule>(ort: Ort, options?: OnnxOptions): OnnxRuntime<Ort>
