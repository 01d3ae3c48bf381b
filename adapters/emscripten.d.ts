/**
 * Regions for modules that Emscripten built: mapped into blocks of their own allocator, and mounted
 * as files whose bytes are the region, for `read`, stdio and C's `mmap()`.
 *
 * Hooks of Emscripten that it leans on, tried with 3.1.6 to 6.0.5: `HEAPU8` or `wasmMemory`,
 * `_malloc` and `_free` for mappings; `FS` with MEMFS for files
 * (`-sEXPORTED_RUNTIME_METHODS=FS,HEAPU8`,
 * `-sEXPORTED_FUNCTIONS=_main,_malloc,_free`). docs/engines.md says which versions were tried.
 *
 * Errors have the codes of the package, and these:
 *
 * - `ERR_HOSTMAP_ENGINE_UNSUPPORTED`: the module does not show a hook that the call needs, or has
 *   another file system (WASMFS, NODERAWFS). The message says how to build it.
 * - `ERR_HOSTMAP_ENGINE_NOT_READY`: the module is not initialized.
 * - `ERR_HOSTMAP_ENGINE_REFUSED`: the module's file system refused, as by ENOENT or EEXIST. `cause`
 *   is its own error.
 *
 * @module wasm-hostmap/emscripten
 */

import type { Access, GuardedMemory, HostRegion, MapOptions, Mapping } from '../index.js'

/** Options of {@link EmscriptenHost.mountFile} and {@link EmscriptenHost.mountFolder}. */
export interface MountOptions {
  /**
   * What the program may do with the file. Default: `'readonly'`.
   *
   * - `'readonly'`: the file has the mode 0444. `open` for writing fails with EACCES, and `write`
   *   and `ftruncate` with EROFS if the program changes the mode. A store to a mapping that it made
   *   with PROT_READ traps.
   * - `'private'`: copy-on-write. The program writes, truncates and extends the file; the region
   *   does not change. Memory is taken for written pages, and for what is past the region's end.
   * - `'shared'`: writes go to the region, which must be writable. The file can shrink and grow up
   *   to the region's size; beyond that a write fails with EFBIG.
   */
  access?: Access | undefined
  /** The file's first byte in the region, at any offset. Default: 0. */
  byteOffset?: number | undefined
  /** The size of the file: 0 or more. Default: to the end of the region. */
  byteLength?: number | undefined
}

/** Options of {@link EmscriptenHost.unmount}. */
export interface UnmountOptions {
  /**
   * Your promise that the program uses no address that it got from `mmap()` of this file: unmaps
   * them, and frees their blocks. Otherwise they stay as long as the module. Default: false.
   */
  release?: boolean | undefined
}

/** A region that is a file of a module. */
export interface MountedFile extends Disposable {
  /** Where the file is: another path once the program has renamed it. */
  readonly path: string
  /** The region. */
  readonly region: HostRegion
  /** See {@link MountOptions.access}. */
  readonly access: Access
  /** The size of the file now, in bytes. */
  readonly byteLength: number
  /** Whether it has a name: neither unmounted, nor unlinked or replaced by the program. */
  readonly mounted: boolean
  /** How many mappings the adapter keeps for `mmap()` of this file. */
  readonly mappings: number
  /** Does the same as {@link EmscriptenHost.unmount}. */
  unmount(options?: UnmountOptions): void
  /** Does the same as {@link EmscriptenHost.unmount} without options. */
  [Symbol.dispose](): void
}

/** What {@link emscripten} returns: one for each module. */
export interface EmscriptenHost extends Disposable {
  /**
   * The module's memory, also after it has grown.
   *
   * @throws `ERR_HOSTMAP_ENGINE_UNSUPPORTED`, `ERR_HOSTMAP_ENGINE_NOT_READY`; and what
   *   `GuardedMemory.from` throws
   */
  readonly memory: GuardedMemory

  /**
   * Maps a region into a block of the module's own allocator, which `unmap` gives back.
   *
   * @param options As for `guarded.map`, without a place.
   * @throws `ERR_HOSTMAP_ENGINE_UNSUPPORTED`, `ERR_HOSTMAP_ENGINE_NOT_READY`; and what
   *   `guarded.map` throws. If the module was aborted, its allocator may throw, too;
   *   nothing is mapped then.
   * @example
   * ```js
   * const mapping = emscripten(module).map(HostRegion.open('weights.bin'))
   * module._infer(mapping.pointer, mapping.byteLength)
   * mapping.unmap()
   * ```
   */
  map(region: HostRegion, options?: Omit<MapOptions, 'at' | 'allocator' | 'hugePages'>): Mapping

  /**
   * Makes a file of MEMFS whose bytes are the region, without a copy. Nothing is read yet.
   *
   * - The file may be larger than linear memory. C reads past 2 GiB with `lseek` and `fseeko`,
   *   whose offsets have 64 bits; `ftell` and `fseek` have 32, and fail with EOVERFLOW there
   *   (32-bit modules).
   * - Closing the region leaves the file. `mmap()` then makes copies.
   * - If the region's file is truncated on the host, a read of what is gone fails with EIO, and so
   *   does `mmap()` of it.
   * - Open files count against the engine's limit of 4,096, as all do: EMFILE.
   * - With pthreads, Emscripten takes operations of other threads to the thread that has FS. Mount
   *   there.
   *
   * **mmap().** C gets addresses in mappings of the region. Ranges at a multiple of 4096 that a
   * file is mapped by for reading or with MAP_SHARED stay mapped, since nobody hears of every
   * `munmap`, and serve later calls: at most twice the size of the file, of address space and not
   * of memory. MAP_PRIVATE with PROT_WRITE gets copy-on-write pages of its own; they are freed by
   * `munmap` if the module exports `_memalign` or `_emscripten_builtin_memalign`, and count as
   * above if not. What finds no room, and a module that does not show its memory or allocator, gets
   * a copy, as Emscripten makes it. With `'private'`, MAP_SHARED writes to the file at `msync` and
   * `munmap`; with `'shared'`, at once.
   *
   * @param path Absolute, in a folder that exists and is of MEMFS. Nothing may be there.
   * @throws
   * - `ERR_HOSTMAP_ENGINE_UNSUPPORTED`, `ERR_HOSTMAP_ENGINE_NOT_READY`,
   *   `ERR_HOSTMAP_ENGINE_REFUSED`
   * - What {@link HostRegion.bytes} throws
   * @example
   * ```js
   * const host = emscripten(await createModule())
   * host.mountFile('/orders.bin', HostRegion.open('orders.bin'))
   * module.callMain(['/orders.bin'])
   * ```
   */
  mountFile(path: string, region: HostRegion, options?: MountOptions): MountedFile

  /**
   * Mounts several regions in one folder, which is made if it is missing (its parent is not). If
   * one fails, none is mounted.
   *
   * @param files Names in the folder, and their regions.
   * @throws as {@link EmscriptenHost.mountFile}
   * @example
   * ```js
   * emscripten(module).mountFolder('/data', { 'a.bin': first, 'b.bin': second })
   * ```
   */
  mountFolder(
    path: string,
    files: { readonly [name: string]: HostRegion },
    options?: MountOptions
  ): MountedFile[]

  /**
   * From now on, C's `mmap()` of files that NODEFS shows maps the file's own pages in place of
   * copies, by the same rules as for {@link EmscriptenHost.mountFile}. A file that is open for
   * reading and writing is mapped so that stores write to it at once.
   *
   * Replaces `mmap` and `msync` of this module's NODEFS until the host is disposed.
   *
   * @param path A folder that NODEFS is mounted at, or one below it: `-lnodefs.js` and
   *   `FS.mount(NODEFS, { root }, path)`.
   * @throws `ERR_HOSTMAP_ENGINE_UNSUPPORTED`, `ERR_HOSTMAP_ENGINE_REFUSED`
   * @example
   * ```js
   * module.FS.mount(module.FS.filesystems.NODEFS, { root: '/var/lib/orders' }, '/orders')
   * emscripten(module).mapFiles('/orders')
   * ```
   */
  mapFiles(path: string): void

  /** The files that are mounted, without those that the program has unlinked or replaced. */
  readonly files: readonly MountedFile[]

  /**
   * Removes the name of a mounted file, as `unlink` does. Who has it open reads on; pages are
   * released when the last stream is closed and collected. Addresses that `mmap()` gave stay valid,
   * unless `release` is set.
   *
   * @param file What {@link EmscriptenHost.mountFile} returned, or a path that leads to it now.
   * @throws `ERR_HOSTMAP_ENGINE_REFUSED`: the file system does, as where its folder may not be
   *   written; `ERR_INVALID_ARG_VALUE`: no mounted file is there, or it is another module's
   */
  unmount(file: string | MountedFile, options?: UnmountOptions): void

  /**
   * Unmounts all files, and ends {@link EmscriptenHost.mapFiles}. Throws what the first `unmount`
   * that failed throws, after all others.
   */
  [Symbol.dispose](): void
}

/**
 * Returns the host of a module: the same object every time.
 *
 * @param module What the factory returned, awaited; or the `Module` of a classic script, once it is
 *   initialized.
 * @throws `ERR_INVALID_ARG_TYPE`: it is no object, or a promise; `ERR_HOSTMAP_ENGINE_NOT_READY`
 * @example
 * ```js
 * const host = emscripten(await createModule())
 * host.mountFile('/orders.bin', HostRegion.open('orders.bin'))
 * ```
 */
export function emscripten(module: object): EmscriptenHost

export { emscriptenState } from './emscripten-state.js'
