/**
 * Maps host memory and files into the linear memories of WebAssembly modules without copying them.
 *
 * **Units.** Sizes and offsets are in bytes unless the name says otherwise. A *host page* is
 * `limits().pageSize` bytes: 4096 on x64, 4096 to 65536 on arm64. A *Wasm page* is 65536 bytes.
 *
 * **Errors.** Every failure is an Error with a stable `code`:
 *
 * - Wrong arguments throw a `TypeError` or `RangeError` with one of Node's own codes:
 *   `ERR_INVALID_ARG_TYPE`, `ERR_INVALID_ARG_VALUE`, `ERR_OUT_OF_RANGE`, `ERR_ILLEGAL_CONSTRUCTOR`
 *   (`new` on a class that has no public constructor) or `ERR_INVALID_THIS` (a method called on
 *   another object). Every member can throw these, so `@throws` does not list them.
 * - All other failures have a {@link HostmapErrorCode}. If the kernel refused, the error also has
 *   `errno` (negative, as in Node's system errors) and `syscall`.
 *
 * A call that throws has changed nothing unless its documentation says otherwise.
 *
 * **Options.** An options object is read once. Its enumerable properties count, and so do
 * properties that its class defines, such as getters. `Object.prototype` does not count. An unknown
 * option throws `ERR_INVALID_ARG_VALUE` and names the closest known one.
 *
 * **Cost.** See docs/performance.md for system calls, timings and memory use.
 *
 * @module wasm-hostmap
 */

/// <reference types="node" />
/// <reference lib="es2020" />
/// <reference lib="esnext.disposable" />

import type { Readable, Writable } from 'node:stream'

/** The codes of all errors that are not about the type or range of an argument. */
export type HostmapErrorCode =
  /** The platform is not Linux on x64 or arm64. Thrown when the package is loaded. */
  | 'ERR_HOSTMAP_UNSUPPORTED_PLATFORM'
  /** Deno or Bun lacks what the call needs. The message says what, and what works there. */
  | 'ERR_HOSTMAP_UNSUPPORTED_RUNTIME'
  /**
   * The native addon is missing or can't be loaded. Thrown when the package is loaded; the message
   * says how to fix it.
   */
  | 'ERR_HOSTMAP_LOAD_FAILED'
  /**
   * The process has already loaded another version or build of the package. Thrown when the package
   * is loaded; the message names both and says how to deduplicate them. Several copies of one
   * version can share a process.
   */
  | 'ERR_HOSTMAP_TWO_VERSIONS'
  /** The region is closed. */
  | 'ERR_HOSTMAP_REGION_CLOSED'
  /**
   * Other code in this process closed the descriptor of a region or snapshot, or reused its number
   * for another file.
   */
  | 'ERR_HOSTMAP_DESCRIPTOR_LOST'
  /** The token was altered or forged: what it names is not what was shared. */
  | 'ERR_HOSTMAP_SHARE_INVALID'
  /** The token was already received. Each token has one receiver. */
  | 'ERR_HOSTMAP_SHARE_USED'
  /** The token was revoked by `unshare`, or the process that made it has ended. */
  | 'ERR_HOSTMAP_SHARE_CLOSED'
  /** The token belongs to another user, or the system denies access to what was shared. */
  | 'ERR_HOSTMAP_SHARE_DENIED'
  /** Too many of the process's tokens are neither received nor revoked, or its names not closed. */
  | 'ERR_HOSTMAP_TOO_MANY_SHARES'
  /** No region is published under the name, or the process that published it has ended. */
  | 'ERR_HOSTMAP_NAME_NOT_FOUND'
  /** Another region is published under the name, and `replace` was not given. */
  | 'ERR_HOSTMAP_NAME_TAKEN'
  /** What the folder has for the name is not what `publish` put there. */
  | 'ERR_HOSTMAP_NAME_INVALID'
  /** The folder of names belongs to another user, or others may enter or replace it. */
  | 'ERR_HOSTMAP_FOLDER_UNSAFE'
  /** Another process has held the lock on the folder of names for 5 seconds. */
  | 'ERR_HOSTMAP_FOLDER_BUSY'
  /**
   * The call needs write access, but the region is sealed or its file is open for reading only.
   */
  | 'ERR_HOSTMAP_REGION_READONLY'
  /** The region can't be sealed while a memory has a `'shared'` mapping of it. */
  | 'ERR_HOSTMAP_REGION_BUSY'
  | 'ERR_HOSTMAP_REGION_PAGED'
  /**
   * The path or descriptor is a directory, pipe, socket or device; or a file that can't be mapped,
   * or whose huge pages may be missing.
   */
  | 'ERR_HOSTMAP_NOT_A_FILE'
  /** The file is empty, so there is nothing to map. */
  | 'ERR_HOSTMAP_EMPTY_FILE'
  /** The file became shorter after the region was made, or while it was being loaded. */
  | 'ERR_HOSTMAP_FILE_SHRUNK'
  /** The file can't be opened or examined: it is missing, or permission is. See `errno`. */
  | 'ERR_HOSTMAP_OPEN_FAILED'
  /** Reading the file failed with an I/O error. See `errno`. */
  | 'ERR_HOSTMAP_READ_FAILED'
  /** A source gave no bytes, or fewer or more than were said or than there is room for. */
  | 'ERR_HOSTMAP_SOURCE_LENGTH'
  /** What a paged region's bytes come from can't be opened or read. */
  | 'ERR_HOSTMAP_PROVIDER_FAILED'
  /** What a paged region's bytes come from is another version by now. */
  | 'ERR_HOSTMAP_SOURCE_CHANGED'
  /** The worker thread of a paged region has ended, or the region was closed during the call. */
  | 'ERR_HOSTMAP_PAGING_ENDED'
  /** There is not enough memory or disk space. See `errno`. */
  | 'ERR_HOSTMAP_OUT_OF_MEMORY'
  /** The process has reached its limit of open files (`ulimit -n`). */
  | 'ERR_HOSTMAP_TOO_MANY_FILES'
  /** The kernel refused a mapping for a reason without a code of its own. See `errno`. */
  | 'ERR_HOSTMAP_MAP_FAILED'
  /** The process has reached its limit of memory mappings (`sysctl vm.max_map_count`). */
  | 'ERR_HOSTMAP_MAP_COUNT'
  /** No gap in the address space is large enough for another memory. */
  | 'ERR_HOSTMAP_ADDRESS_SPACE'
  /** The limit on the process's address space (`ulimit -v`, RLIMIT_AS) leaves no room. */
  | 'ERR_HOSTMAP_RLIMIT_AS'
  /** The limit on private writable memory (`ulimit -d`, RLIMIT_DATA) leaves no room. */
  | 'ERR_HOSTMAP_RLIMIT_DATA'
  /** The kernel's overcommit accounting (`sysctl vm.overcommit_memory`) leaves no room. */
  | 'ERR_HOSTMAP_OVERCOMMIT'
  /** V8 could not allocate or grow a memory, and no known cause was found. */
  | 'ERR_HOSTMAP_MEMORY_REFUSED'
  /**
   * This version of V8 has no 64-bit memories, or can't make a typed array over one this large
   * (Node 20, more than 4 GiB).
   */
  | 'ERR_HOSTMAP_NO_MEMORY64'
  /** The buffer does not belong to a WebAssembly memory, or that can't be proven. */
  | 'ERR_HOSTMAP_NOT_WASM_MEMORY'
  /**
   * It can't be determined whether the memory has 32-bit or 64-bit addresses: pass
   * {@link FromOptions.address}.
   */
  | 'ERR_HOSTMAP_ADDRESS_UNKNOWN'
  /** The call needs the `WebAssembly.Memory`, but only the memory's buffer is known. */
  | 'ERR_HOSTMAP_MEMORY_HIDDEN'
  /** The memory can't grow far enough: it would exceed its maximum. */
  | 'ERR_HOSTMAP_MEMORY_FULL'
  /**
   * V8 moved the memory when it grew, so its mappings are lost; or the function passed to
   * {@link GuardedMemoryConstructor.from} returned another memory's buffer. V8 moves memories that
   * have no guards, and V8 11 (Node 20) can move any memory.
   */
  | 'ERR_HOSTMAP_MEMORY_MOVED'
  /**
   * Bun made the memory without guards, in its heap, where nothing can be mapped. It gives guards
   * to 8 memories at a time; `BUN_JSC_maxNumWasmFastMemories` in the environment sets how many.
   */
  | 'ERR_HOSTMAP_MEMORY_UNGUARDED'
  /** The window is unmapped. */
  | 'ERR_HOSTMAP_WINDOW_UNMAPPED'
  /** The mapping is unmapped, or the adopted buffer was released or unmapped. */
  | 'ERR_HOSTMAP_MAPPING_UNMAPPED'
  /**
   * The pages of a buffer can't be moved, and they may not be copied (`copy: 'never'`): see
   * {@link GuardedMemory.adopt}. The error's `reason` is a {@link WhyCopied}.
   */
  | 'ERR_HOSTMAP_BUFFER_NOT_MOVABLE'
  /**
   * An access found no data, so results computed since then may be wrong: see
   * {@link GuardedMemory.checkFaults}.
   */
  | 'ERR_HOSTMAP_FAULTED'
  /**
   * Another mapping uses the range; or a memory with an adopted buffer is to be put into a
   * snapshot, or back to one.
   */
  | 'ERR_HOSTMAP_OVERLAP'
  /** The module's allocator returned no block, or one outside the memory. */
  | 'ERR_HOSTMAP_ALLOCATOR_FAILED'
  /** The snapshot is closed. */
  | 'ERR_HOSTMAP_SNAPSHOT_CLOSED'
  /** The snapshot does not fit this kind of memory, this module or these regions. */
  | 'ERR_HOSTMAP_SNAPSHOT_MISMATCH'
  /** The file or descriptor is not a snapshot, is damaged, or has another version of the format. */
  | 'ERR_HOSTMAP_SNAPSHOT_INVALID'
  /**
   * Nothing keeps the snapshot's file from being changed, so {@link Snapshot.open} refuses it. The
   * message says why: use {@link Snapshot.load}, which copies it. Or the file was changed all the
   * same, and the snapshot can't be used any more: open it again.
   */
  | 'ERR_HOSTMAP_SNAPSHOT_UNGUARDED'
  /** The memory is shared, but the call needs exclusive access: see {@link RestoreOptions}. */
  | 'ERR_HOSTMAP_SHARED_MEMORY'
  /** Writing a file failed: the disk is full, or an I/O error occurred. See `errno`. */
  | 'ERR_HOSTMAP_WRITE_FAILED'
  /** This runtime does not allow ArrayBuffers over external memory (Electron). */
  | 'ERR_HOSTMAP_NO_EXTERNAL_BUFFERS'
  /** The module has no memory or several, or its instances would share state they need alone. */
  | 'ERR_HOSTMAP_UNSUITABLE_MODULE'
  /** Some state can't be reached or restored. The message says which, and what to do. */
  | 'ERR_HOSTMAP_NOT_RESTORABLE'
  /**
   * An instance could not be captured, or the engine was made without {@link capture}. The message
   * says which, and what to do.
   */
  | 'ERR_HOSTMAP_NOT_CAPTURED'
  /**
   * A call into the engine is running or suspended, so its state can't be taken or restored now.
   */
  | 'ERR_HOSTMAP_CALL_PENDING'
  /** The checkpoint is closed. */
  | 'ERR_HOSTMAP_CHECKPOINT_CLOSED'
  /**
   * A restore failed after it had changed the engine, which is in no state that it ever had.
   * `cause` is what failed. Throw the engine away.
   */
  | 'ERR_HOSTMAP_CHECKPOINT_BROKEN'
  /**
   * A request in a pool of a factory has left work that is not over. The message says which kinds.
   */
  | 'ERR_HOSTMAP_REQUEST_PENDING'
  /** The pool is closed. */
  | 'ERR_HOSTMAP_POOL_CLOSED'
  /** The instance was released to its pool. */
  | 'ERR_HOSTMAP_INSTANCE_RELEASED'
  /** A bug in wasm-hostmap. Please report it. */
  | 'ERR_HOSTMAP_INTERNAL'

/**
 * What a module may do with the pages of a mapping.
 *
 * - `'readonly'`: loads read the region. A store traps with a `WebAssembly.RuntimeError`. Writes
 *   that V8 can't turn into traps (`memory.fill`, `memory.copy`, `memory.init`, stores to a
 *   constant address, JavaScript) go to a copy of the page that only this memory sees, and count in
 *   {@link Mapping.strayWrites}. Atomics may do either, and may change when V8 optimizes the code.
 *   A system call that would write there fails with `EFAULT`.
 * - `'private'`: copy-on-write. Writes go to copies of the pages that only this memory sees; the
 *   region does not change.
 * - `'shared'`: writes go to the region. Everyone who maps or views it sees them at once. Atomics
 *   work across memories, but V8's waiting does not: `memory.atomic.notify` wakes only waiters in
 *   the same memory. Use {@link HostRegion.wait} and {@link HostRegion.notify} instead.
 */
export type Access = 'readonly' | 'private' | 'shared'

/**
 * An access to a mapping, or to a region's view, that could not be carried out as requested. See
 * docs/faults.md.
 *
 * If the outcome was a trap, the stack of the `WebAssembly.RuntimeError` names the function.
 */
export interface Fault {
  /** The accessed byte, from the start of the memory; `null` for a view. */
  readonly address: number | null
  /** The accessed byte, from the start of the region. */
  readonly byteOffset: number
  readonly operation: 'read' | 'write'
  /**
   * Why the access could not be carried out.
   *
   * - `'readonly'`: a write to a read-only page.
   * - `'file-shrunk'`: the region's file now ends before this byte.
   * - `'out-of-memory'`: there was no memory for a page of a memfd that can't shrink.
   * - `'unavailable'`: an I/O error; a full disk (a write to a hole in a sparse file); a file that
   *   was shorter at that moment; or unknown, because the region is closed.
   * - `'memory-error'`: the hardware reported a memory error there.
   * - `'past-end'`: the window has `rest: 'trap'` and shows nothing there. `byteOffset` continues
   *   from the bytes it did show.
   */
  readonly cause:
    'readonly' | 'file-shrunk' | 'out-of-memory' | 'unavailable' | 'memory-error' | 'past-end'
  /**
   * What happened instead.
   *
   * - `'trap'`: a `WebAssembly.RuntimeError`, as for an access out of bounds.
   * - `'private-page'`: the write went to a copy of the page that only this memory, or this view,
   *   sees.
   * - `'zeros'`: the access found a page of zeros.
   */
  readonly outcome: 'trap' | 'private-page' | 'zeros'
}

/** The error that reports accesses that found no data. */
export interface FaultedError extends Error {
  readonly code: 'ERR_HOSTMAP_FAULTED'
  /** The last of them; `null` if a stray write came later, or another thread has the mapping. */
  readonly fault: Fault | null
}

/** Options of {@link HostRegion.allocate} and {@link HostRegion.copyFrom}. */
export interface AllocateOptions {
  /**
   * A name for `inspect`, for layouts, and for `/proc/PID/maps`, which shows `/memfd:NAME`. At most
   * 200 bytes, without NUL.
   */
  name?: string | undefined
  /**
   * Whether to use transparent huge pages (2 MiB) where the system has them. Random reads become
   * 1.5 to 2 times as fast and closing is nearly free, but filling takes longer: `copyFrom` up to
   * three times as long, and `allocate` takes and clears all of the memory at once. Default: false.
   * {@link HostRegion.hugePages} says how many there are.
   */
  hugePages?: boolean | undefined
}

/** Bytes: what a source of {@link HostRegion.from} gives, one chunk after another. */
export type BytesChunk = ArrayBuffer | SharedArrayBuffer | ArrayBufferView

/**
 * Where {@link HostRegion.from} gets bytes. What counts is what it can do, not its class: one of
 * another realm will do, or of a package that has its own.
 *
 * - Bytes themselves.
 * - A `Response`, `Request`, or another object with a `body`. A response must have succeeded.
 * - A web `ReadableStream`. It must not be locked.
 * - A Node.js `Readable`: of files, sockets, requests, zlib. It must not have an encoding. One in
 *   object mode will do if each of its objects is a {@link BytesChunk}.
 * - A `Blob` or `File`, those of `fs.openAsBlob` included.
 * - Any async or ordinary iterable of {@link BytesChunk}, such as a generator or an array.
 */
export type RegionSource =
  | BytesChunk
  | {
      readonly body: unknown
      readonly bodyUsed: boolean
      arrayBuffer(): Promise<ArrayBuffer>
    }
  | { readonly locked: boolean; getReader(): any }
  | { readonly size: number; stream(): any; arrayBuffer(): Promise<ArrayBuffer> }
  | AsyncIterable<BytesChunk>
  | Iterable<BytesChunk | PromiseLike<BytesChunk>>

/** Options of {@link HostRegion.from}. */
export interface FromSourceOptions extends AllocateOptions {
  /**
   * How many bytes the source gives: fewer or more are an error. Default: the `Content-Length` of a
   * response, unless it has a `Content-Encoding`, since what arrives was unpacked then; for all
   * else, whatever comes. (A Blob's `size` is not believed: Node.js counts modulo 4 GiB in those of
   * `fs.openAsBlob`.)
   */
  byteLength?: number | undefined
  /**
   * Aborts the fill. The promise rejects with an `AbortError` (code `ABORT_ERR`), everything is
   * released, and the source was told: a stream is cancelled or destroyed, an iterator's `return`
   * is called. A source that does not answer is not waited for.
   */
  signal?: AbortSignal | undefined
  /**
   * Called about ten times a second while bytes come, and once at the end. `totalBytes` is
   * undefined as long as nobody knows it. If it throws, the fill stops and rejects with that error.
   */
  onProgress?: ((filledBytes: number, totalBytes: number | undefined) => void) | undefined
}

/** Options of {@link HostRegion.load}. */
export interface LoadOptions {
  /** The first byte of the file to load. Any offset. Default: 0. */
  byteOffset?: number | undefined
  /** How many bytes to load. Default: to the end of the file. */
  byteLength?: number | undefined
  /** See {@link AllocateOptions.name}. Default: the base name of the file. */
  name?: string | undefined
  /**
   * Whether to use huge pages for every 2 MiB that hold data and no hole: see
   * {@link AllocateOptions.hugePages}. Default: true, because no thread of yours waits for it.
   */
  hugePages?: boolean | undefined
  /**
   * Aborts the load. The promise rejects with an `AbortError` (code `ABORT_ERR`) once everything is
   * released.
   */
  signal?: AbortSignal | undefined
  /**
   * Called about ten times a second and once at the end. If it throws, the load stops and rejects
   * with that error.
   */
  onProgress?: ((loadedBytes: number, totalBytes: number) => void) | undefined
}

/**
 * Where a paged region's bytes come from: plain data, since a worker thread of its own does the
 * work.
 */
export type PagingProvider = HttpProvider | FramesProvider | ModuleProvider

/** Bytes behind an HTTP server that serves ranges: see [docs/paging.md](docs/paging.md#http). */
export interface HttpProvider {
  /** An `http:` or `https:` address. Up to 5 redirects are followed. */
  url: string | URL
  /** Sent to the host of `url` only, and not to where it redirects. Default: none. */
  headers?: Record<string, string> | Headers | undefined
  /**
   * How often a request is tried again in a row without getting further: after network errors,
   * stalls, and the statuses 408, 425, 429 and 5xx. Pauses double from 0.1 to 10 s, or are what
   * `Retry-After` says, 60 s at most. 0 to 100. Default: 4.
   */
  retries?: number | undefined
  /**
   * Milliseconds without a byte until a request counts as failed; one answer may take ten times as
   * long. Default: 10,000.
   */
  stallMs?: number | undefined
  /**
   * Your word that the bytes never change, for a server that sends neither a strong `ETag` nor
   * `Last-Modified`. Default: false.
   */
  immutable?: boolean | undefined
}

/** A file of chunks that were packed each by itself, by `npx wasm-hostmap chunks`. */
export interface FramesProvider {
  /** A path or `file:` URL. Any file in zstd's seekable format will do. */
  frames: string | URL
}

/** A module of yours, which makes or gets the bytes. It is loaded in the region's worker thread. */
export interface ModuleProvider {
  /** A path, `file:` URL or `data:` URL. Its default export is an {@link OpenProvider}. */
  module: string | URL
  /** What its function gets: anything that `structuredClone` takes. */
  data?: unknown
}

/** The default export of a {@link ModuleProvider}'s module. It has `timeoutMs` to answer. */
export type OpenProvider<T = any> = (data: T) => OpenedProvider | Promise<OpenedProvider>

/** What an {@link OpenProvider} gives. */
export interface OpenedProvider {
  /** How many bytes there are, if it knows. */
  byteLength?: number | undefined
  /**
   * Which version of the bytes it gives, for a cache on disk: another text, another cache. Other
   * `data` is another cache by itself, but for shared memory and ports in it.
   */
  version?: string | undefined
  /**
   * Fills `target`, a chunk (the last one may be shorter), with the bytes from `byteOffset` on.
   * Must not keep or transfer it: it is detached once this has answered. Several calls may be under
   * way at once: see {@link PagedOptions.concurrency}.
   *
   * @returns how many bytes it has filled in: all of them, or the chunk counts as failed
   */
  read(
    byteOffset: number,
    target: Uint8Array,
    context: {
      /** Aborted when nobody waits any more: after `timeoutMs`, or when the region is closed. */
      signal: AbortSignal
    }
  ): number | Promise<number>
  /** Called at the end. It has a second. */
  close?(): void | Promise<void>
}

/** Options of {@link HostRegion.paged}. */
export interface PagedOptions {
  /** Where the bytes come from. */
  provider: PagingProvider
  /**
   * The size of the region. If the provider says one, it must be the same. Default: what the
   * provider says.
   */
  byteLength?: number | undefined
  /**
   * How many bytes come at once: a multiple of the host page size, 1 GiB at most. A touch waits for
   * all of them. Default: 262,144, or what the frames of a file have.
   */
  chunkBytes?: number | undefined
  /**
   * How many bytes may be in memory: 16 chunks or more. What was touched or asked for least
   * recently goes when others come. Default: no limit.
   */
  cacheBytes?: number | undefined
  /**
   * How many bytes are fetched ahead of a reader that touches one chunk after another, at most: it
   * begins with two chunks, and doubles. 0 for none. Default: 16 MiB.
   */
  readAheadBytes?: number | undefined
  /** How many requests to the provider are under way at once: 1 to 64. Default: 4. */
  concurrency?: number | undefined
  /**
   * How long a touch waits, in milliseconds, until it fails; for a module, how long a call of it
   * may take, too. Default: 30,000.
   */
  timeoutMs?: number | undefined
  /**
   * A file that keeps chunks across runs, made if need be. `key` says which version of the bytes it
   * holds; the providers shipped know that. See [docs/paging.md](docs/paging.md#a-cache-on-disk).
   * Default: none.
   */
  diskCache?: string | URL | { path: string | URL; key?: string | undefined } | undefined
  /** A name for messages and tools, up to 200 bytes of UTF-8. Default: `'region'`. */
  name?: string | undefined
  /**
   * Whether to use userfaultfd. Default: where the kernel and the container allow it. `true` is an
   * error elsewhere.
   */
  userfaultfd?: boolean | undefined
  /** Aborts the opening: the promise rejects with an `AbortError` (code `ABORT_ERR`). */
  signal?: AbortSignal | undefined
}

/** Options of {@link Paging.ensure}. */
export interface EnsureOptions {
  /** The first byte. Any offset up to the region's `byteLength`. Default: 0. */
  byteOffset?: number | undefined
  /** How many bytes: 0 or more. Default: to the end of the region. */
  byteLength?: number | undefined
  /** Aborts the wait: the promise rejects with an `AbortError` (code `ABORT_ERR`). */
  signal?: AbortSignal | undefined
}

/** Options of {@link Paging.prefetch}. */
export interface PagedPrefetchOptions extends EnsureOptions {
  /**
   * Called about ten times a second and once at the end. If it throws, the prefetch rejects with
   * that error.
   */
  onProgress?: ((presentBytes: number, totalBytes: number) => void) | undefined
}

/** Chunks that stay in memory until they are released. One that is collected counts as released. */
export interface PagedHold extends Disposable {
  readonly byteOffset: number
  readonly byteLength: number
  /** Lets go of the chunks. The second time it does nothing. */
  release(): void
}

/**
 * What {@link Paging.stats} returns, since the region was made. Of a region that was received,
 * `touches` and `failedTouches` are this process's own, and from `requests` on it is what the owner
 * has told last: with each answer to `ensure` and `prefetch`.
 */
export interface PagingStats {
  /** Touches that found a chunk missing. */
  touches: number
  /** Those that were not served: a trap in Wasm, zeros in JavaScript. */
  failedTouches: number
  /** How many chunks are in memory. */
  presentChunks: number
  /** Requests to the provider; those that it has tried again count once. */
  requests: number
  /** Bytes that the provider gave. */
  fetchedBytes: number
  /** Chunks that were asked for before a reader came to them. */
  readAheadChunks: number
  /** Requests that failed in the end. */
  failures: number
  /** Requests that were tried again. */
  retries: number
  /** Chunks that gave way to others. */
  evictions: number
  /** Milliseconds that requests to the provider took, all added up. */
  providerMs: number
  /** What failed last, or null. */
  lastError: string | null
  /** The file of `diskCache`. */
  disk: {
    /** Chunks that came from it. */
    hits: number
    /** Chunks that were written to it. */
    writes: number
    /** What of it could not be used: altered chunks, a full disk, a file that is something else. */
    failures: number
  }
}

/** What of a region is in memory, and what to bring before it is touched. */
export interface Paging {
  /** How many bytes come at once. */
  readonly chunkBytes: number
  /**
   * Whether userfaultfd serves it. If not, each chunk that is here may take VMAs, and while the
   * region was received by somebody without it, its owner evicts no chunks.
   */
  readonly userfaultfd: boolean

  /**
   * Brings a part, and keeps it until it is released: for system calls, which don't wait for chunks
   * (`fs.writeSync` of a view fails with EFAULT where one is missing). It may be larger than
   * `cacheBytes`, which is passed then.
   *
   * @throws (rejects) `ABORT_ERR`, `ERR_HOSTMAP_REGION_CLOSED`, `ERR_HOSTMAP_PAGING_ENDED`; what
   *   the provider failed with: `ERR_HOSTMAP_PROVIDER_FAILED`, `ERR_HOSTMAP_SOURCE_CHANGED`,
   *   `ERR_HOSTMAP_SOURCE_LENGTH`. Nothing is held then.
   */
  ensure(options?: EnsureOptions): Promise<PagedHold>

  /**
   * Brings a part, after all that is touched meanwhile. Nothing holds it: with a limit, what came
   * first may be gone again.
   *
   * @throws (rejects) as {@link Paging.ensure}
   */
  prefetch(options?: PagedPrefetchOptions): Promise<void>

  /**
   * Which chunks of a part are here: a byte for each, 0 if it is missing, 1 if it is on its way, 2
   * if it is here.
   *
   * @throws `ERR_HOSTMAP_REGION_CLOSED`
   */
  chunks(options?: { byteOffset?: number | undefined; byteLength?: number | undefined }): Uint8Array

  /** What was done so far. Costs about a microsecond, and waits for nothing. */
  stats(): PagingStats
}

/** Options of {@link HostRegion.open}. */
export interface OpenOptions {
  /** The first byte of the region in the file: a multiple of the host page size. Default: 0. */
  byteOffset?: number | undefined
  /** The size of the region. Default: to the end of the file. */
  byteLength?: number | undefined
  /** Whether `'shared'` mappings and views may write to the file. Default: false. */
  writable?: boolean | undefined
}

/** Options of {@link HostRegion.fromFd}. */
export interface FromFdOptions {
  /** The first byte of the region in the file: a multiple of the host page size. Default: 0. */
  byteOffset?: number | undefined
  /** The size of the region. Default: to the end of the file. */
  byteLength?: number | undefined
}

/**
 * A part of a region or mapping. Every call that takes a part uses these two names, so you can pass
 * what {@link HostRegion.split} returns as options, or spread it among other options.
 */
export interface RegionPart {
  /** The first byte. */
  byteOffset: number
  /** How many bytes. */
  byteLength: number
}

/** Options of {@link HostRegion.wait}. */
export interface WaitOptions {
  /** Milliseconds until the wait resolves with `'timed-out'`. Default: no limit. */
  timeoutMs?: number | undefined
  /** Aborts the wait: the promise rejects with an `AbortError` (code `ABORT_ERR`). */
  signal?: AbortSignal | undefined
}

/** Options of {@link HostRegion.bytes}. */
export interface BytesOptions {
  /**
   * What a write to the Buffer does. Default: `'private'`.
   *
   * - `'private'`: copy-on-write. The Buffer keeps what is written to it, in copies of the pages
   *   that nobody else sees; the region does not change. Pages that were not written show what
   *   others write to the region. For engines that may write their image.
   * - `'readonly'`: as `'private'`, but the first write to a page counts in
   *   {@link HostRegion.strayWrites}, and the first of all gives a process warning. For engines
   *   that should not write.
   * - `'shared'`: writes go to the region, which must be writable. {@link HostRegion.seal} turns it
   *   into `'readonly'`.
   */
  access?: Access | undefined
  /** The first byte, at any offset up to the region's `byteLength`. Default: 0. */
  byteOffset?: number | undefined
  /**
   * How many bytes: 0 or more. Node 20 has Buffers of up to 4 GiB (`buffer.constants.MAX_LENGTH`),
   * later ones as large as the address space holds. Default: to the end of the region.
   */
  byteLength?: number | undefined
}

/** Options of {@link HostRegion.createWriteStream} and {@link HostRegion.writableStream}. */
export interface WriteStreamOptions {
  /** Where the first chunk goes. Any offset up to the region's `byteLength`. Default: 0. */
  byteOffset?: number | undefined
  /** The most that the stream writes: more is an error. Default: to the end of the region. */
  byteLength?: number | undefined
}

/** Options of {@link HostRegion.createReadStream} and {@link HostRegion.readableStream}. */
export interface ReadStreamOptions {
  /** The first byte. Any offset up to the region's `byteLength`. Default: 0. */
  byteOffset?: number | undefined
  /** How many bytes: 0 or more. Default: to the end of the region. */
  byteLength?: number | undefined
  /**
   * How many bytes are read at once: 1 to 2^30. A Node.js stream reads that much ahead. Default:
   * 262,144.
   */
  chunk?: number | undefined
}

/** Options of {@link HostRegion.blob}. */
export interface BlobOptions {
  /** The first byte. Any offset up to the region's `byteLength`. Default: 0. */
  byteOffset?: number | undefined
  /** How many bytes: 0 or more. Default: to the end of the region. */
  byteLength?: number | undefined
  /** The Blob's media type. Default: `''`. */
  type?: string | undefined
}

/** What {@link HostRegion.createWriteStream} returns. */
export interface RegionWriteStream extends Writable {
  /** How many bytes it has written to the region. */
  readonly bytesWritten: number
}

/** Options of {@link HostRegion.close}. */
export interface CloseOptions {
  /**
   * What happens to the ArrayBuffers of {@link HostRegion.view} and the Buffers of
   * {@link HostRegion.bytes} that are still held.
   *
   * - `'detach'`: all are detached, and their length becomes 0. An engine that still uses one
   *   fails.
   * - `'keep'`: none is. Each keeps its pages until it is collected.
   *
   * Default: views are detached and Buffers are kept.
   */
  views?: 'detach' | 'keep' | undefined
}

/** Options of {@link HostRegion.split}. */
export interface SplitOptions {
  /**
   * The size of a record: every part except the first starts at a multiple of it, counted from
   * `byteOffset`. Default: one page of the region.
   */
  align?: number | undefined
  /** The first byte to divide. Default: 0. */
  byteOffset?: number | undefined
  /** How many bytes to divide. Default: to the end of the region. */
  byteLength?: number | undefined
}

/** Options of {@link HostRegion.share}. */
export interface ShareOptions {
  /** What the receiver may do: `'shared'` includes writing. Default: what the region allows. */
  access?: 'readonly' | 'shared' | undefined
  /**
   * With `access: 'readonly'`: makes the kernel refuse new writers of the memfd
   * (F_SEAL_FUTURE_WRITE, Linux 5.1). Existing writable views and `'shared'` mappings keep working;
   * new ones are refused, in this process too. If a writable mapping in another process then makes
   * `seal` fail, this region's views become read-only all the same. Not for files. Default: false.
   */
  enforce?: boolean | undefined
}

/**
 * A region or snapshot that was shared. It is plain data: a structured clone or a JSON copy of it
 * is as good as the original.
 */
export interface ShareToken {
  readonly type: 'wasm-hostmap.region' | 'wasm-hostmap.snapshot'
  readonly version: number
  /** The process that shared it. */
  readonly pid: number
  /** What the receiver may do. */
  readonly access: 'readonly' | 'shared'
  readonly name: string
  readonly byteLength: number
  /** Where the region starts in its file. */
  readonly byteOffset: number
  readonly device: string
  readonly inode: string
  /** 128 random bits. */
  readonly nonce: string
  readonly proof: number
  readonly socket: string
  /** Of a region of {@link HostRegion.paged}. */
  readonly paged?: true
}

/** Options of {@link HostRegion.receive}, {@link HostRegion.find} and {@link HostRegion.watch}. */
export interface ReceiveOptions {
  /**
   * Of a region of {@link HostRegion.paged}: whether to use userfaultfd here. Default: where the
   * kernel and the container allow it, and the owner uses it. `true` is an error where it can't be
   * had; without it at the owner, there is none here either.
   */
  userfaultfd?: boolean | undefined
}

/** Where names are: for {@link HostRegion.published}, and all that publishes or finds. */
export interface FindOptions {
  /**
   * The folder of names: a path or `file:` URL. Default: `$XDG_RUNTIME_DIR/wasm-hostmap`, or, where
   * there is no such folder of this user's, to which nobody else can write, `wasm-hostmap-UID` in
   * `os.tmpdir()`.
   */
  directory?: string | URL | undefined
}

/** Options of {@link HostRegion.watch}. */
export interface WatchOptions extends FindOptions, ReceiveOptions {
  /** Ends the watch with an `AbortError`. */
  signal?: AbortSignal | undefined
}

/** Options of {@link HostRegion.publish}. */
export interface PublishOptions extends FindOptions {
  /** What those who find it may do: `'shared'` includes writing. Default: `'readonly'`. */
  access?: 'readonly' | 'shared' | undefined
  /** See {@link ShareOptions.enforce}. Default: false. */
  enforce?: boolean | undefined
  /**
   * Whether to take the place of whatever has the name. Those who look for it find the old region
   * or the new one, at any time; those who have the old one keep it. Default: false.
   */
  replace?: boolean | undefined
}

/** What {@link HostRegion.published} says of a name. */
export interface PublishedRegion {
  readonly name: string
  /** The process that published it. */
  readonly pid: number
  /** What those who find it may do. */
  readonly access: 'readonly' | 'shared'
  readonly byteLength: number
}

/**
 * A name that {@link HostRegion.publish} gave to a region. It stays, and keeps the region from
 * being collected, until it or the region is closed, its thread publishes another region under the
 * name in the same folder, or its thread or process ends. It does not keep the process running.
 *
 * One that another thread or process has replaced is yours to close: {@link Publication.current}
 * tells.
 */
export class Publication implements Disposable {
  private constructor()
  readonly name: string
  /** The absolute path of the folder of names. */
  readonly directory: string
  /**
   * Whether those who look for the name find this region: it was not closed, and nobody replaced
   * it. Cost: two system calls.
   */
  readonly current: boolean
  /**
   * Takes the name back, unless it is another region's by now. Those who have found the region keep
   * it. Calling it again does nothing.
   *
   * Blocks for up to 0.25 s if another process changes names; then the file is left for the next
   * one who looks, and stands for nothing.
   */
  close(): void
  /** Does the same as {@link Publication.close}. */
  [Symbol.dispose](): void
}

/**
 * Bytes that the host owns, outside the JavaScript heap: a memfd or a file.
 *
 * The kernel can map the same pages at many addresses, so any number of memories, views, threads
 * and processes share them. The descriptor, and the memory of a memfd, are released once the region
 * is closed or collected and its last mapping and view are gone.
 *
 * A region can't be posted to a worker or sent to a process. Send the token that
 * {@link HostRegion.share} returns and call {@link HostRegion.receive} there.
 */
export class HostRegion implements Disposable {
  private constructor()

  /**
   * Makes a region of zeros in memory. The system provides pages when they are first touched.
   *
   * @param byteLength 1 to 2^53 - 1. Not rounded.
   * @throws `ERR_HOSTMAP_OUT_OF_MEMORY`, `ERR_HOSTMAP_TOO_MANY_FILES`
   * @example
   * ```js
   * const region = HostRegion.allocate(2 ** 26, { name: 'prices' })
   * new Float64Array(region.view()).fill(1.5) // JavaScript sees the bytes through a view,
   * const mapping = guarded.map(region) // and a module sees them through a mapping
   * ```
   */
  static allocate(byteLength: number, options?: AllocateOptions): HostRegion

  /**
   * Makes a region in memory and copies these bytes into it. Blocks the thread.
   *
   * @param source At least one byte. If others write to a SharedArrayBuffer during the copy, the
   *   region may hold a mixture of old and new bytes.
   * @throws as {@link HostRegion.allocate}
   * @example
   * ```js
   * const region = HostRegion.copyFrom(Float32Array.of(0.25, 0.5, 1), { name: 'weights' })
   * ```
   */
  static copyFrom(
    source: ArrayBuffer | SharedArrayBuffer | ArrayBufferView,
    options?: AllocateOptions
  ): HostRegion

  /**
   * Makes a region in memory of what a source gives: a response, a stream, a Blob, an iterable.
   *
   * Each chunk is written straight into the region's pages before the next one is asked for, so
   * nothing piles up: besides the region, memory holds what the source itself has under way. A
   * chunk is copied on this thread, 8 MiB at a time, with other work between. If others change a
   * chunk meanwhile, the region may hold a mixture of old and new bytes.
   *
   * If it fails, no region is left, and the source is let go: a stream is cancelled or destroyed.
   * What the source itself throws comes out as it is. A stream or iterator that is read already, by
   * another call, a loop, a pipe or a listener of `data` or `readable`, is refused and left alone
   * (`ERR_INVALID_ARG_VALUE`).
   *
   * @param source For a file use {@link HostRegion.open} or {@link HostRegion.load}, which are
   *   faster.
   * @throws (rejects) as {@link HostRegion.allocate}; `ABORT_ERR`; `ERR_HOSTMAP_SOURCE_LENGTH` if
   *   there are no bytes, or another number than was said; `ERR_HOSTMAP_READ_FAILED` if a chunk
   *   shows a file that was truncated
   * @example
   * ```js
   * const response = new Response('what a server sent') // await fetch(url)
   * const region = await HostRegion.from(response, { signal: AbortSignal.timeout(60_000) })
   * console.log(region.byteLength) // 18
   * ```
   */
  static from(source: RegionSource, options?: FromSourceOptions): Promise<HostRegion>

  /**
   * Makes a region in memory and copies a file into it, on another thread.
   *
   * Later changes to the file have no effect on the region. Holes in a sparse file stay holes and
   * take no memory.
   *
   * @param path A path or `file:` URL of a regular file that is not empty.
   * @throws (rejects) as {@link HostRegion.allocate}; `ABORT_ERR`, `ERR_HOSTMAP_OPEN_FAILED`,
   *   `ERR_HOSTMAP_NOT_A_FILE`, `ERR_HOSTMAP_EMPTY_FILE`, `ERR_HOSTMAP_FILE_SHRUNK`,
   *   `ERR_HOSTMAP_READ_FAILED`
   * @example
   * ```js
   * const region = await HostRegion.load('weights.bin', {
   *   signal: AbortSignal.timeout(60_000),
   *   onProgress: (loaded, total) => console.log(`${Math.round((100 * loaded) / total)} %`)
   * })
   * ```
   */
  static load(path: string | URL, options?: LoadOptions): Promise<HostRegion>

  /**
   * Makes a region over a file itself, of any size. Pages are read when they are first touched and
   * are shared with everyone who maps the file.
   *
   * If the file is truncated later, the pages past its new end can't be read: see
   * {@link GuardedMemory.checkFaults}. Use {@link HostRegion.load} for files that others may
   * truncate.
   *
   * @param path A path or `file:` URL of a regular file that is not empty.
   * @throws as {@link HostRegion.load}, except `ABORT_ERR`
   * @example
   * ```js
   * const region = HostRegion.open('orders.bin') // reads nothing yet
   * const mapping = guarded.map(region, { byteLength: 65_536 })
   * ```
   */
  static open(path: string | URL, options?: OpenOptions): HostRegion

  /**
   * Makes a region over an open descriptor of a regular file or memfd.
   *
   * The descriptor is duplicated: the original stays yours to close. The region is writable if the
   * descriptor is open for reading and writing.
   *
   * @throws as {@link HostRegion.open}
   */
  static fromFd(fd: number, options?: FromFdOptions): HostRegion

  /**
   * Makes a region whose bytes come when somebody first touches them: from an HTTP server, a file
   * of packed chunks, or a module of yours. It can't be written, shared with other processes, or
   * handed out as a descriptor; `readonly` and `private` mappings, windows, views and streams work
   * as for other regions.
   *
   * A touch of a missing chunk waits: in Wasm, in JavaScript, on any thread. If the chunk does not
   * come, it is as with a file that was truncated: a trap in Wasm, zeros in JavaScript that are
   * counted in {@link HostRegion.faults} or those of the mapping, and `strict` works. System calls
   * don't wait: see {@link Paging.ensure}. [docs/paging.md](docs/paging.md) has the whole story.
   *
   * A worker thread serves the region. It does not keep the process, and ends when the region is
   * closed or nobody can touch it any more.
   *
   * @throws (rejects) `ABORT_ERR`; `ERR_HOSTMAP_PROVIDER_FAILED` if the provider can't be opened;
   *   `ERR_HOSTMAP_SOURCE_LENGTH` if it has no bytes, or another number than `byteLength`;
   *   `ERR_HOSTMAP_OPEN_FAILED`; `ERR_HOSTMAP_UNSUPPORTED_RUNTIME` in Bun; as
   *   {@link HostRegion.allocate}
   * @example
   * ```js
   * // Any module that exports a function like this one as its default:
   * const source = `export default ({ byteLength }) => ({
   *   byteLength,
   *   read(byteOffset, target) {
   *     target.fill(byteOffset / 65_536)
   *     return target.length
   *   }
   * })`
   * const region = await HostRegion.paged({
   *   provider: { module: `data:text/javascript,${encodeURIComponent(source)}`, data: { byteLength: 2 ** 30 } },
   *   chunkBytes: 65_536
   * })
   * const bytes = new Uint8Array(region.view())
   * console.log(bytes[0], bytes[3 * 65_536], region.paging?.stats().presentChunks) // 0 3 2
   * ```
   */
  static paged(options: PagedOptions): Promise<HostRegion>

  /**
   * Receives a region that another thread or process shared: the same pages, not a copy.
   *
   * One of {@link HostRegion.paged} is served by its owner: see
   * [docs/paging.md](docs/paging.md#other-processes). It needs the owner's socket, so both must be
   * in one network namespace.
   *
   * @param token What {@link HostRegion.share} returned, or a copy of it.
   * @throws
   * - `ERR_HOSTMAP_SHARE_USED`: it was already received.
   * - `ERR_HOSTMAP_SHARE_CLOSED`: it was revoked, or its process has ended.
   * - `ERR_HOSTMAP_SHARE_INVALID`: it was altered or forged.
   * - `ERR_HOSTMAP_SHARE_DENIED`: it belongs to another user, or is a paged one that can't be
   *   reached.
   * - `ERR_HOSTMAP_TOO_MANY_FILES`, `ERR_HOSTMAP_OPEN_FAILED`
   * @example
   * ```js
   * parentPort.on('message', token => {
   *   const region = HostRegion.receive(token)
   *   console.log(region.name, region.byteLength)
   * })
   * ```
   */
  static receive(token: ShareToken, options?: ReceiveOptions): HostRegion

  /**
   * Revokes a token that this process made and nobody has received yet.
   *
   * @returns Whether this call revoked it.
   */
  static unshare(token: ShareToken): boolean

  /**
   * Finds a region that a process of this user, or a thread of this one, has published: the same
   * pages, not a copy. Each call makes a region, which is yours to close.
   *
   * Cost: 0.3 ms. It reads the name's file, checks that its publisher lives, and receives the
   * region as {@link HostRegion.receive} does. Where a publisher can't be reached, it tries again
   * for 0.2 s, and waits up to 2 s for one that is stopped and reached by its socket alone.
   *
   * @param name What {@link HostRegion.publish} was given.
   * @throws
   * - `ERR_HOSTMAP_NAME_NOT_FOUND`: nothing is published under it, or its publisher has ended. The
   *   message lists what is there.
   * - `ERR_HOSTMAP_NAME_INVALID`: what the folder has for it was altered, or not written by
   *   `publish`.
   * - `ERR_HOSTMAP_FOLDER_UNSAFE`: the folder is another user's, a link, or others may enter it.
   * - `ERR_HOSTMAP_SHARE_DENIED`: the publisher can't be reached from here.
   * - `ERR_HOSTMAP_FILE_SHRUNK`: the region's file is shorter by now.
   * - `ERR_HOSTMAP_TOO_MANY_FILES`, `ERR_HOSTMAP_OPEN_FAILED`
   * @example
   * ```js
   * region.publish('orders')
   * const found = HostRegion.find('orders') // in any process of this user
   * console.log(found.byteLength === region.byteLength) // true
   * ```
   */
  static find(name: string, options?: FindOptions & ReceiveOptions): HostRegion

  /**
   * Gives the region that is published under a name, as soon as there is one, and then each that
   * takes its place. Versions that were replaced before you asked for the next one are skipped.
   * Each region is yours to close. A name that is taken back gives nothing: keep what you have.
   *
   * The folder is watched by `fs.watch`, and made if there is none. The process does not end while
   * a watch waits; leave the loop, or abort the signal, to end it. `return()` ends it between two
   * calls of `next`, as in any asynchronous generator, and not one that waits.
   *
   * @throws The iterator rejects as {@link HostRegion.find} throws, except that it waits where
   *   nothing is found; with an `AbortError`; and with what `fs.watch` fails with.
   * @example
   * ```js
   * region.publish('weights')
   * for await (const weights of HostRegion.watch('weights')) {
   *   console.log(weights.name) // dataset
   *   break
   * }
   * ```
   */
  static watch(name: string, options?: WatchOptions): AsyncGenerator<HostRegion, void, void>

  /**
   * Lists what is published, by name. What dead processes left is removed.
   *
   * @throws `ERR_HOSTMAP_FOLDER_UNSAFE`, `ERR_HOSTMAP_OPEN_FAILED`
   */
  static published(options?: FindOptions): PublishedRegion[]

  /** The size of the region. Stays after `close`. */
  readonly byteLength: number
  /** `'memfd'`: memory that lives as long as somebody holds it. `'file'`: the pages of a file. */
  readonly backing: 'memfd' | 'file'
  /** The name that layouts and `/proc/PID/maps` show. */
  readonly name: string
  /** Whether `'shared'` mappings and writable views are possible. False after `close`. */
  readonly writable: boolean
  /**
   * Whether nobody can write to it any more, in this process or another. Only memfds can be sealed.
   * False after `close`.
   */
  readonly sealed: boolean
  /**
   * What of a region of {@link HostRegion.paged} is in memory, and what to bring before it is
   * touched; null for all other regions. Also of one that was received: its owner's provider brings
   * what is missing.
   */
  readonly paging: Paging | null
  /** Whether `close` was called. */
  readonly closed: boolean
  /**
   * Makes a token by which another thread or process of the same user can receive the region.
   *
   * The token is a plain object: post it, put it into `workerData`, send it to a child process, or
   * store it as JSON.
   *
   * - Each token has one receiver. Make one per receiver.
   * - A token keeps the pages, even of a closed region, until it is received or revoked by
   *   {@link HostRegion.unshare}, or this process ends. A process can have 1,024 pending tokens.
   * - The receiver gets exactly what was shared or an error: device, inode, size and a random
   *   number are compared.
   *
   * Of a region of {@link HostRegion.paged}, missing chunks come from this process: keep the region
   * open, and this process running. It can be shared readonly, without `enforce`, and not by those
   * who have received it: `ERR_HOSTMAP_REGION_PAGED`, `ERR_HOSTMAP_REGION_READONLY`.
   *
   * With `access: 'readonly'` the receiver can't write to the region, and its descriptor is open
   * for reading only. A hostile process of the same user could still open the file again for
   * writing: use `enforce`, or seal the region.
   *
   * @throws `ERR_HOSTMAP_REGION_CLOSED`, `ERR_HOSTMAP_TOO_MANY_SHARES`,
   *   `ERR_HOSTMAP_TOO_MANY_FILES`, `ERR_HOSTMAP_DESCRIPTOR_LOST`; `ERR_HOSTMAP_REGION_READONLY` if
   *   the region allows less access than that, or `enforce` is not possible
   * @example
   * ```js
   * worker.postMessage(region.share({ access: 'readonly' })) // or child.send(...), workerData
   * ```
   */
  share(options?: ShareOptions): ShareToken
  /**
   * Publishes the region under a name, by which other processes of the same user find it:
   * {@link HostRegion.find}. Any number of them may, as long as the region is published.
   *
   * The name is a file in a folder that is the user's alone (mode 0700): see
   * {@link FindOptions.directory}. It is made if its parent exists. The kernel tells all others
   * when the publisher has ended, however it did: from then on the name is not found. Its file is
   * removed by the next `publish`, `published`, or `find` that finds nothing.
   *
   * With `access: 'readonly'`, those who find the region can't write to it: see
   * {@link HostRegion.share}.
   *
   * Cost: 0.5 ms, and two descriptors besides the two of a token. Blocks while another process
   * publishes, for up to 5 s.
   *
   * @param name 1 to 200 bytes, without `/` and NUL, not beginning with a dot.
   * @throws
   * - `ERR_HOSTMAP_NAME_TAKEN`: a region is published under it. Pass `replace: true` to replace it.
   * - `ERR_HOSTMAP_NAME_INVALID`: the folder has something else for it, a link, say.
   * - `ERR_HOSTMAP_FOLDER_UNSAFE`: the folder is another user's, a link, or others may enter it.
   * - `ERR_HOSTMAP_FOLDER_BUSY`: another process did not let go of the folder.
   * - `ERR_HOSTMAP_OPEN_FAILED`: the folder or the file can't be made.
   * - as {@link HostRegion.share}
   * @example
   * ```js
   * const first = HostRegion.copyFrom(new Uint8Array([1])).publish('table')
   * const next = HostRegion.copyFrom(new Uint8Array([2])).publish('table', { replace: true })
   * console.log(first.current, next.current) // false true
   * ```
   */
  publish(name: string, options?: PublishOptions): Publication
  /**
   * Returns a new descriptor of the region's file or memfd, which is yours to close.
   *
   * It is close-on-exec. Byte 0 of the region is at the `byteOffset` that the region was made with.
   *
   * @throws `ERR_HOSTMAP_REGION_CLOSED`, `ERR_HOSTMAP_TOO_MANY_FILES`, `ERR_HOSTMAP_OPEN_FAILED`;
   *   `ERR_HOSTMAP_DESCRIPTOR_LOST` if other code in the process closed the region's own descriptor
   */
  duplicateFd(): number
  /**
   * How much of the region is in huge pages right now. The system may split them when memory is
   * scarce. Before Linux 6.7 `bytes` is always 0, because the kernel can't tell.
   */
  readonly hugePages: HugePages
  /**
   * Who holds pages of the region besides mappings, which {@link GuardedMemory.layout} lists. Stays
   * up to date after `close`.
   */
  readonly holders: RegionHolders
  /**
   * How many pages of read-only views and Buffers were written to. Those writes went to copies of
   * the pages. Still counts after `close`.
   */
  readonly strayWrites: number
  /**
   * How many accesses through views and Buffers found zeros where data was missing. Still counts
   * after `close`.
   */
  readonly faults: number
  /** The last fault of its views and Buffers; `null` if there was none. Stays after `close`. */
  readonly lastFault: Fault | null

  /**
   * Throws if a view or Buffer of this region found zeros where data was missing, unless that was
   * acknowledged.
   *
   * Call it after an engine that reads the region through one has answered. Nothing else reports it
   * as an error: each is an ordinary ArrayBuffer.
   *
   * @throws `ERR_HOSTMAP_FAULTED`: a {@link FaultedError}
   */
  checkFaults(): void
  /**
   * Acknowledges the faults of its views, so that `checkFaults` passes until the next one.
   *
   * @returns How many there were since the last time.
   */
  acknowledgeFaults(): number

  /**
   * Returns the region's bytes as an ArrayBuffer, without copying them.
   *
   * Writes go to the region if it is writable. Otherwise they go to copies of the pages that only
   * this view sees, and count in {@link HostRegion.strayWrites}. The buffer can't be posted.
   * Closing the region detaches it; if `ArrayBuffer.prototype.transfer` took its bytes, they become
   * zeros. V8 counts a view's length as external memory while it lives.
   *
   * @param byteOffset Any offset below `byteLength`. Default: 0.
   * @param byteLength At least 1, at most `buffer.constants.MAX_LENGTH` (4 GiB on Node 20).
   *   Default: to the end of the region.
   * @throws `ERR_HOSTMAP_REGION_CLOSED`, `ERR_HOSTMAP_FILE_SHRUNK`, `ERR_HOSTMAP_OPEN_FAILED`,
   *   `ERR_HOSTMAP_MAP_COUNT`, `ERR_HOSTMAP_RLIMIT_AS`, `ERR_HOSTMAP_OUT_OF_MEMORY`,
   *   `ERR_HOSTMAP_MAP_FAILED`, `ERR_HOSTMAP_NO_EXTERNAL_BUFFERS`
   */
  view(byteOffset?: number, byteLength?: number): ArrayBuffer
  /** Returns a part of the region's bytes as an ArrayBuffer, without copying them. */
  view(part: Partial<RegionPart>): ArrayBuffer

  /**
   * Returns the region's bytes as a Node Buffer, without copying them: for engines that take a
   * Buffer or Uint8Array.
   *
   * The Buffer keeps its pages itself. Closing or collecting the region does not take them from an
   * engine that still reads; `close({ views: 'detach' })` does. The Buffer has an ArrayBuffer of
   * its own, in which it begins at byte 0.
   *
   * Like all Buffers: `slice` and `subarray` show the same bytes and keep all of the Buffer's
   * pages, while `Uint8Array.prototype.slice` and a structured clone copy. It can't be transferred
   * to another thread. V8 counts its length as external memory while it lives.
   *
   * If the file is truncated later, pages past its new end become zeros, those that were written
   * included; that counts in {@link HostRegion.faults}, also after `close`.
   *
   * @param options An object such as {@link HostRegion.split} returns will do. A part without bytes
   *   gives an empty Buffer.
   * @throws as {@link HostRegion.view}; `ERR_HOSTMAP_REGION_READONLY` if `access` is `'shared'` and
   *   the region is not writable
   * @example
   * ```js
   * const region = HostRegion.open('orders.bin')
   * const bytes = region.bytes() // nothing is read yet; sql.js: new SQL.Database(bytes)
   * region.close() // closes the descriptor; the Buffer keeps its pages
   * console.log(bytes.readUInt32LE(4096))
   * ```
   */
  bytes(options?: BytesOptions): Buffer

  /**
   * Copies bytes into the region: one system call. Mappings and views show them at once.
   *
   * It goes through no mapping, so it can't fault; a file that was truncated is an error, and does
   * not grow again. For many small writes, a {@link HostRegion.view} is faster. If `source` shows
   * the bytes that are written to, moved by less than its length, the result is a mixture.
   *
   * @param source If it shows a file that was truncated, its first bytes may be written before the
   *   call throws.
   * @param byteOffset Where the first byte goes. Default: 0.
   * @returns How many bytes were written: all of `source`.
   * @throws `ERR_HOSTMAP_REGION_CLOSED`; `ERR_HOSTMAP_REGION_READONLY` if the region is not
   *   writable; `ERR_HOSTMAP_FILE_SHRUNK`, `ERR_HOSTMAP_WRITE_FAILED`, `ERR_HOSTMAP_READ_FAILED`,
   *   `ERR_HOSTMAP_OUT_OF_MEMORY`, `ERR_HOSTMAP_DESCRIPTOR_LOST`
   * @example
   * ```js
   * const region = HostRegion.allocate(4096)
   * region.write(Float64Array.of(1.5, 2.5), 1024)
   * console.log(new Float64Array(region.view(1024, 16))) // Float64Array(2) [ 1.5, 2.5 ]
   * ```
   */
  write(source: BytesChunk, byteOffset?: number): number

  /**
   * Returns a Node.js stream that writes to the region, or a part of it, from its start on.
   *
   * It writes each chunk at once, as {@link HostRegion.write} does, and has no buffer. It may end
   * before the part does; `bytesWritten` says where. Strings are encoded, as by other streams.
   * Closing the region makes the next write fail.
   *
   * @throws `ERR_HOSTMAP_REGION_CLOSED`, `ERR_HOSTMAP_REGION_READONLY`. The stream fails as
   *   {@link HostRegion.write} does, and with `ERR_HOSTMAP_SOURCE_LENGTH` if there is more than the
   *   part holds.
   * @example
   * ```js
   * import { createReadStream } from 'node:fs'
   * import { pipeline } from 'node:stream/promises'
   *
   * const region = HostRegion.allocate(2 ** 20)
   * const target = region.createWriteStream({ byteOffset: 4096 })
   * await pipeline(createReadStream('orders.bin'), target)
   * console.log(target.bytesWritten) // 524288
   * ```
   */
  createWriteStream(options?: WriteStreamOptions): RegionWriteStream

  /**
   * Returns a web stream that does the same as {@link HostRegion.createWriteStream}. It takes no
   * strings.
   *
   * @throws as {@link HostRegion.createWriteStream}
   */
  writableStream(options?: WriteStreamOptions): WritableStream<BytesChunk>

  /**
   * Returns a Node.js stream of the region's bytes, or of a part of them.
   *
   * The chunks are copies. They are read on Node's own threads, so a region over a file does not
   * block this one, and missing data is an error and never zeros. The stream keeps the region's
   * descriptor open from its first read on; from then on the region may be closed. What is written
   * to the region meanwhile may show or not.
   *
   * @throws `ERR_HOSTMAP_REGION_CLOSED`. The stream fails with that, `ERR_HOSTMAP_FILE_SHRUNK`,
   *   `ERR_HOSTMAP_READ_FAILED` or `ERR_HOSTMAP_DESCRIPTOR_LOST`.
   * @example
   * ```js
   * import { createWriteStream } from 'node:fs'
   * import { pipeline } from 'node:stream/promises'
   * import { createGzip } from 'node:zlib'
   *
   * const region = HostRegion.allocate(2 ** 20)
   * await pipeline(region.createReadStream(), createGzip(), createWriteStream('region.gz'))
   * ```
   */
  createReadStream(options?: ReadStreamOptions): Readable

  /**
   * Returns a web stream of bytes that does the same as {@link HostRegion.createReadStream}. It
   * reads nothing ahead, and straight into what a BYOB reader brings.
   *
   * @throws as {@link HostRegion.createReadStream}
   * @example
   * ```js
   * const region = HostRegion.copyFrom(Buffer.from('to a client'))
   * const response = new Response(region.readableStream()) // of a server, or fetch's body
   * console.log(await response.text()) // to a client
   * ```
   */
  readableStream(options?: ReadStreamOptions): ReadableStream<Uint8Array>

  /**
   * Returns a Blob with a **copy** of the region's bytes, or of a part of them, made on this thread
   * before the call returns: for what takes nothing but a Blob. All else takes a stream of
   * {@link HostRegion.readableStream}, which copies a chunk at a time.
   *
   * @throws as {@link HostRegion.bytes}; `ERR_HOSTMAP_FILE_SHRUNK` if the file is truncated
   *   meanwhile
   */
  blob(options?: BlobOptions): Blob

  /**
   * Divides the region, or a part of it, into consecutive parts of about equal length, for example
   * one per worker. Pass a part as options to {@link Window.source}, {@link GuardedMemory.map} or
   * any other call that takes a part of a region.
   *
   * @param count 1 to 1,048,576.
   * @returns At most `count` parts; fewer if there are fewer units of `align`, and none for an
   *   empty range.
   */
  split(count: number, options?: SplitOptions): RegionPart[]

  /**
   * Waits until {@link HostRegion.notify} is called for a 32-bit word of the region, in any thread
   * or process that has the same file or memfd. Works like `Atomics.waitAsync`.
   *
   * Store the new value before you notify. A pending wait does not block the event loop; it keeps
   * the process alive, and continues after the region is closed. V8's own `Atomics.wait` and
   * `memory.atomic.wait32` are separate: neither wakes the other.
   *
   * @param byteOffset A multiple of 4.
   * @param expected Waits only while the word has this value, signed or unsigned.
   * @returns `'ok'` when notified, `'not-equal'` if the word had another value, or `'timed-out'`.
   * @throws (rejects) `ABORT_ERR`, `ERR_HOSTMAP_REGION_CLOSED`, `ERR_HOSTMAP_MAP_COUNT`,
   *   `ERR_HOSTMAP_MAP_FAILED`; `ERR_HOSTMAP_FILE_SHRUNK` if the file ends before the word
   * @example
   * ```js
   * // The module stores to word 2 of its mapping, then calls an import: () => region.notify(8)
   * const words = new Int32Array(region.view())
   * const seen = Atomics.load(words, 2)
   * if ((await region.wait(8, seen, { timeoutMs: 1000 })) !== 'timed-out') {
   *   console.log(Atomics.load(words, 2))
   * }
   * ```
   */
  wait(
    byteOffset: number,
    expected: number,
    options?: WaitOptions
  ): Promise<'ok' | 'not-equal' | 'timed-out'>

  /**
   * Waits as {@link HostRegion.wait} does, but blocks the thread. Meant for workers, which can be
   * terminated meanwhile. On the main thread `timeoutMs` is required.
   *
   * @throws as {@link HostRegion.wait}
   */
  waitSync(
    byteOffset: number,
    expected: number,
    options?: Pick<WaitOptions, 'timeoutMs'>
  ): 'ok' | 'not-equal' | 'timed-out'

  /**
   * Wakes waiters for a word of the region, in every thread and process.
   *
   * @param byteOffset A multiple of 4.
   * @param count The most waiters to wake. Default: all.
   * @returns How many were woken.
   * @throws as {@link HostRegion.wait}
   */
  notify(byteOffset: number, count?: number): number

  /**
   * Makes the region read-only for everyone and for good (`F_SEAL_WRITE` on the memfd).
   *
   * Existing views, and `'shared'` Buffers of {@link HostRegion.bytes}, become read-only as
   * {@link HostRegion.view} describes. `'readonly'` and `'private'` mappings and Buffers do not
   * change. Sealing twice does nothing.
   *
   * @throws `ERR_HOSTMAP_REGION_CLOSED`, `ERR_HOSTMAP_REGION_BUSY`; `ERR_HOSTMAP_REGION_READONLY`
   *   for a file, or a foreign memfd that can't be sealed
   */
  seal(): this

  /**
   * Closes the descriptor and detaches all views. Buffers of {@link HostRegion.bytes} stay until
   * they are collected, and mappings until they are unmapped; both keep the memory.
   *
   * Closing twice does nothing, but `close({ views: 'detach' })` detaches what an earlier call has
   * kept.
   */
  close(options?: CloseOptions): void
  /** Does the same as {@link HostRegion.close} without options. */
  [Symbol.dispose](): void
}

/**
 * ArrayBuffers and Buffers of a region in this thread that are neither detached nor collected. Each
 * keeps the file, or the memory of a memfd, even after the region is closed: see docs/limits.md.
 */
export interface RegionHolders {
  /** How many ArrayBuffers of {@link HostRegion.view}. */
  readonly views: number
  /** How many Buffers of {@link HostRegion.bytes}; empty ones hold nothing. */
  readonly buffers: number
  /** How many bytes they show together, where two that show the same bytes count twice. */
  readonly byteLength: number
}

/** See {@link HostRegion.hugePages}. */
export interface HugePages {
  /** How many bytes of the region are in pages of 2 MiB. */
  readonly bytes: number
  /**
   * Why not all of the region is in huge pages; `null` if it is, apart from a tail of less than 2
   * MiB.
   */
  readonly reason: string | null
}

/** Whether a memory's addresses are numbers (`'i32'`) or BigInts (`'i64'`). */
export type AddressType = 'i32' | 'i64'

/**
 * An address as a module's functions take it: a number, a BigInt, or either if the address type is
 * not known.
 */
export type Pointer<A extends AddressType = AddressType> = A extends 'i64' ? bigint : number

/**
 * The argument of `new GuardedMemory`: the descriptor of `WebAssembly.Memory`. Sizes are in Wasm
 * pages of 64 KiB.
 *
 * It is checked more strictly than V8 does: sizes must be whole numbers or BigInts, for either kind
 * of memory, and nothing is converted. Strings, booleans, `null` and objects with a `valueOf` are
 * refused.
 */
export interface GuardedMemoryDescriptor<A extends AddressType = AddressType> {
  /** The initial size, in Wasm pages. */
  initial: number | bigint
  /** The largest size, in Wasm pages: at most 65,536 (4 GiB), or 262,144 (16 GiB) for `'i64'`. */
  maximum?: number | bigint | undefined
  /** Whether threads can share it (a SharedArrayBuffer). Needs `maximum`. Default: false. */
  shared?: boolean | undefined
  /**
   * `'i64'` for a 64-bit memory, whose addresses are BigInts (Node 24 and later). Default: `'i32'`.
   */
  address?: A | undefined
  /**
   * Space for mappings, in Wasm pages: the memory is made larger by it. `map`, `window` and `adopt`
   * without `at` and `allocator` use it first. Default: 0.
   *
   * The first `map` then takes microseconds. Without it the memory grows, which takes milliseconds
   * per GiB: V8 counts the new buffer as external memory, and may collect garbage for it. With it,
   * making the memory costs that, once. Nothing in it takes memory before it is mapped or written.
   *
   * Mappings with huge pages are aligned to 2 MiB: add 32 Wasm pages for each. Not for modules
   * whose allocator claims all memory that appears (Emscripten).
   *
   * At most what `initial` leaves of `maximum`. `memory.size` counts it, so a module that imports
   * the memory with a maximum must allow for it.
   */
  room?: number | bigint | undefined
}

/** A module's allocator, as its exports provide it. 64-bit memories use BigInts. */
export interface GuestAllocator {
  /** Returns the address of a block, or 0. Addresses above 2 GiB may be negative numbers. */
  malloc(byteLength: any): number | bigint
  /**
   * Frees a block that `malloc` returned. A function of two parameters or more (`free.length`), as
   * Rust's are, also gets what `malloc` was asked for.
   */
  free(address: any, byteLength?: any): void
  /**
   * Who frees the block of a mapping. Default: `'mapping'`, whose `unmap` does.
   *
   * `'engine'`: the code that gets the pointer frees it, as with SQLite's
   * `SQLITE_DESERIALIZE_FREEONCLOSE`. `unmap` does not. Then:
   *
   * - `malloc` is asked for exactly the mapping's whole pages and must return an address at a page,
   *   as `aligned_alloc` and `posix_memalign` do. Otherwise `map` frees the block and throws
   *   `ERR_HOSTMAP_ALLOCATOR_FAILED`. `free` is called only if `map` fails.
   * - The access is `'private'`, which is the default then. An allocator writes its lists into
   *   blocks that it gets back: with `'readonly'` that would trap in the middle of `free`, with
   *   `'shared'` it would change the region.
   * - Once freed, the block is memory of the engine like any other. Pages that nobody wrote still
   *   show the region, until the engine reuses them.
   * - `unmap` may be called before or after the engine frees the block. Pages that were written
   *   since the mapping was made stay as they are, the others become zeros. It costs a scan of the
   *   page tables and a copy of the written pages. While it runs, no other thread of the module may
   *   grow the memory.
   *
   * Not for windows. A snapshot does not keep it.
   */
  owner?: 'mapping' | 'engine' | undefined
}

/** Options of {@link GuardedMemory.reserve}. */
export interface ReserveOptions {
  /** The module's own allocator, to reserve in its heap. */
  allocator?: GuestAllocator | undefined
}

/** Options of {@link GuardedMemory.adopt}. */
export interface AdoptOptions {
  /**
   * Where its first page is to be: an offset in the memory, a multiple of the host page size. What
   * the memory has there is replaced. Default: free space, for which the memory grows.
   */
  at?: number | bigint | undefined
  /**
   * The module's own allocator, to put the buffer into a block of it, which `release` and `unmap`
   * free. `malloc` is asked for up to a page more than the buffer's pages, and 2 MiB more for a
   * buffer of at least as many. Its `owner` can't be `'engine'`.
   */
  allocator?: GuestAllocator | undefined
  /**
   * What to do where the pages can't be moved. `'allow'`, the default: copy them; `copiedBytes` and
   * `whyCopied` tell. `'never'`: throw `ERR_HOSTMAP_BUFFER_NOT_MOVABLE`, and `release` never copies
   * either.
   */
  copy?: 'allow' | 'never' | undefined
}

/**
 * Why the pages of a buffer were not moved.
 *
 * - `'small'`: less than 64 KiB of whole pages, which are copied sooner than moved.
 * - `'shared'`: a SharedArrayBuffer, which other threads may have.
 * - `'resizable'`: an ArrayBuffer with a `maxByteLength`.
 * - `'pinned'`: a buffer that Node.js or V8 lets nobody transfer: of a WebAssembly memory, of
 *   Node's pool of small Buffers, of an addon, a region's view, or marked by
 *   `markAsUntransferable`.
 * - `'mapped'`: its pages are those of a file or of a shared mapping, huge ones of hugetlbfs, or
 *   can't be written.
 * - `'split'`: its pages are in several mappings of the process.
 * - `'locked'`: its pages are locked (`mlock`, `mlockall`).
 * - `'kernel'`: Linux before 5.7, or a sandbox that forbids `mremap`.
 * - `'limited'`: `ulimit -v` or `ulimit -d` is set, or `vm.overcommit_memory` is 2.
 * - `'refused'`: the kernel refused to move them.
 * - `'engine'`: the runtime is Bun.
 */
export type WhyCopied =
  | 'small'
  | 'shared'
  | 'resizable'
  | 'pinned'
  | 'mapped'
  | 'split'
  | 'locked'
  | 'kernel'
  | 'limited'
  | 'refused'
  | 'engine'

/** Options of {@link GuardedMemory.map}. */
export interface MapOptions {
  /**
   * The address in the memory: a multiple of the host page size. The mapping replaces what is
   * there; `unmap` leaves zeros. Default: past the end of the memory, which grows; or `allocator`.
   */
  at?: number | bigint | undefined
  /** The first byte of the region to map: a multiple of the host page size. Default: 0. */
  byteOffset?: number | undefined
  /**
   * How many bytes to map. Default: to the end of the region.
   *
   * Whole pages are mapped. The remainder of the last page shows what follows in the file or memfd,
   * or zeros, and is writable with `'shared'`.
   */
  byteLength?: number | undefined
  /** What the module may do. Default: `'readonly'`. */
  access?: Access | undefined
  /**
   * When pages are loaded and mapped. Best effort.
   *
   * Default: when they are touched; and where a module reads one after the other, just before, by a
   * thread of the library: no further than the module has read so far, and at most 64 MiB. It looks
   * at mappings of at least 16 MiB, but not at `'shared'` ones of files; takes no time of an idle
   * process, and brings in nothing for reads here and there. Needs Linux 6.7.
   *
   * `false`: only when they are touched. `true`: all of them now, which takes as long as reading
   * the data; see {@link Mapping.prefetch} for another thread.
   */
  populate?: boolean | undefined
  /**
   * Whether the memory may grow by up to 2 MiB more so that the region's huge pages can be mapped
   * as such. Matters for parts of at least 2 MiB without `at` and `allocator`; the alignment is a
   * matter of chance with those. The extra space stays available for smaller mappings.
   *
   * Default: for parts of files of at least 64 MiB, of which the kernel's page cache may have huge
   * pages, and for regions that this process filled with huge pages; and only if no free space is
   * large enough. `true`: for every region, for example from {@link HostRegion.receive}, and in
   * preference to free space.
   *
   * One access maps 2 MiB then, all of which count as resident memory of the process. They take
   * none: they are in the kernel's page cache, or in the region.
   */
  hugePages?: boolean | undefined
  /**
   * The module's own `malloc` and `free`, for modules that manage all of their memory (Emscripten).
   * The region is mapped over a block from `malloc`. `unmap`, or a `map` that fails, frees it;
   * unless {@link GuestAllocator.owner} says that the engine does.
   *
   * `malloc` may grow the memory. If the module does not export its memory, pass a function to
   * {@link GuardedMemoryConstructor.from}.
   */
  allocator?: GuestAllocator | undefined
  /**
   * Whether a fault makes the mapping's calls, such as `prefetch`, throw `ERR_HOSTMAP_FAULTED`
   * until {@link Mapping.acknowledgeFaults} is called. `unmap` never does. Default: false.
   *
   * Call {@link GuardedMemory.checkFaults} after the module's work. Snapshots keep this setting. A
   * pool rejects a `run` during which a strict mapping or window faulted and discards the instance.
   */
  strict?: boolean | undefined
}

/**
 * A `WebAssembly.Memory`: that type in projects with the TypeScript library `dom` or `webworker`.
 * Without them `WebAssembly` is not declared, and this type has what every memory has.
 */
export type WasmMemory = typeof globalThis extends {
  WebAssembly: { Memory: { prototype: infer Memory } }
}
  ? Memory
  : { readonly buffer: ArrayBuffer; grow(wasmPages: number): number }

/** Options of {@link GuardedMemoryConstructor.from}. */
export interface FromOptions<A extends AddressType = AddressType> {
  /**
   * Whether the memory's addresses are numbers or BigInts. Default: determined from the memory.
   *
   * Only needed if that fails with `ERR_HOSTMAP_ADDRESS_UNKNOWN`: for the bare buffer of a 64-bit
   * memory of up to 4 GiB, rarely for that of a 32-bit memory, and on Node 20 with
   * `--experimental-wasm-memory64`.
   */
  address?: A | undefined
}

/** `GuardedMemory` as a class: its constructor and static methods. */
export interface GuardedMemoryConstructor {
  readonly prototype: GuardedMemory

  /**
   * Makes a new `WebAssembly.Memory` that can carry mappings.
   *
   * It takes 8 to 10 GiB of address space (`'i64'`: 16 GiB), not of memory, until it is collected.
   *
   * @throws `ERR_HOSTMAP_NO_MEMORY64`. If V8 can't allocate the memory, the cause that was found:
   *   `ERR_HOSTMAP_ADDRESS_SPACE`, `ERR_HOSTMAP_RLIMIT_AS`, `ERR_HOSTMAP_RLIMIT_DATA`,
   *   `ERR_HOSTMAP_OVERCOMMIT`, `ERR_HOSTMAP_MAP_COUNT` or `ERR_HOSTMAP_MEMORY_REFUSED`
   * @example
   * ```js
   * const guarded = new GuardedMemory({ initial: 1 }) // one Wasm page: 64 KiB
   * const mapping = guarded.map(region)
   * const instance = new WebAssembly.Instance(module, { host: { memory: guarded.memory } })
   * ```
   * @example
   * ```js
   * // Room for a mapping of the region: `map` does not grow the memory.
   * const roomy = new GuardedMemory({ initial: 1, room: Math.ceil(region.byteLength / 65536) })
   * roomy.map(region)
   * ```
   */
  new <A extends AddressType = 'i32'>(descriptor: GuardedMemoryDescriptor<A>): GuardedMemory<A>

  /**
   * Wraps an existing memory. Returns the same object every time for the same memory.
   *
   * @param memory One of:
   * - A `WebAssembly.Memory`, usually a module's export.
   * - A function that returns the memory's current buffer, if the module does not export its
   *   memory. It is called after each growth (for a shared memory, on each call). If other threads
   *   of the module have grown a shared memory, V8 tells its size, even if the function's buffer is
   *   behind.
   * - A buffer. Once the memory grows, most calls throw `ERR_HOSTMAP_MEMORY_HIDDEN` until you call
   *   `from` again with the new buffer or a function. (Not for a shared memory: V8 tells its size.)
   *   A buffer is accepted only if the process's memory map proves that a Wasm memory
   *   owns it.
   *
   * A memory known only by its buffer can't be grown by the host, so `map` needs `at` or
   * `allocator`.
   *
   * @throws
   * - `ERR_HOSTMAP_NOT_WASM_MEMORY`, `ERR_HOSTMAP_ADDRESS_UNKNOWN`, `ERR_HOSTMAP_NO_MEMORY64`,
   *   `ERR_HOSTMAP_MEMORY_REFUSED`
   * - `ERR_INVALID_ARG_VALUE`: `address` is not the memory's.
   * - `ERR_HOSTMAP_MEMORY_HIDDEN`: the function threw (see `cause`) or returned a detached buffer.
   *   Later calls also throw this if it returns no buffer, and `ERR_HOSTMAP_MEMORY_MOVED` if the
   *   buffer is at another address.
   * @example
   * ```js
   * // Emscripten: malloc may grow the memory, which replaces HEAPU8.
   * const guarded = GuardedMemory.from(() => Module.HEAPU8.buffer)
   * const allocator = { malloc: Module._malloc, free: Module._free }
   * const mapping = guarded.map(region, { allocator })
   * Module._scan(mapping.pointer, mapping.byteLength)
   * mapping.unmap()
   * ```
   */
  from<A extends AddressType = AddressType>(
    memory: WasmMemory | ArrayBuffer | SharedArrayBuffer | (() => ArrayBuffer | SharedArrayBuffer),
    options?: FromOptions<A>
  ): GuardedMemory<A>
}

export const GuardedMemory: GuardedMemoryConstructor

/**
 * A `WebAssembly.Memory` that can carry mappings: its place in the address space and its guards
 * were checked.
 *
 * The memory itself stays an ordinary one. Import `guarded.memory` into a module, or wrap the
 * memory that a module exports.
 *
 * @typeParam A - The address type, if it is known: `'i32'`, `'i64'`, or either.
 */
export interface GuardedMemory<A extends AddressType = AddressType> extends Disposable {
  /** The memory itself. Throws `ERR_HOSTMAP_MEMORY_HIDDEN` if only a buffer is known. */
  readonly memory: WasmMemory
  /** The memory's buffer. As with `WebAssembly.Memory`, each growth makes a new object. */
  readonly buffer: ArrayBuffer | SharedArrayBuffer
  /** The memory's current size. */
  readonly byteLength: number
  /** Whether addresses are numbers (`'i32'`) or BigInts (`'i64'`). */
  readonly address: A
  /**
   * Whether inaccessible pages surround the memory, so that V8 turns every access out of bounds
   * into a trap without checking bounds in code.
   *
   * False with `--disable-wasm-trap-handler`; for 64-bit memories also with
   * `--no-wasm-memory64-trap-handling` and before Node 24. The memory may then move when it grows.
   * If it moves, this is determined again.
   */
  readonly guarded: boolean

  /**
   * Grows the memory as `WebAssembly.Memory.prototype.grow` does, and makes read-only mappings
   * read-only again, because V8's growth makes all of the memory writable.
   *
   * After growth by the module itself, read-only mappings are copy-on-write until the next call
   * into this library. The region never changes. See {@link instrumentGrowth}.
   *
   * @param wasmPages How many Wasm pages (64 KiB) to add.
   * @returns The previous size, in Wasm pages.
   * @throws `ERR_HOSTMAP_MEMORY_HIDDEN`, `ERR_HOSTMAP_MEMORY_FULL`, and the causes that the
   *   constructor names
   */
  grow(wasmPages: number | bigint): number

  /**
   * Makes room for later, by one growth in place of many.
   *
   * With `allocator`: in the module's own heap. A block of `byteLength` bytes is taken and freed,
   * so that the module finds as much later without growing. Each growth of a memory over 1 GiB
   * costs 0.3 to 1.3 ms (Node 20 to 24: V8's collector counts each new buffer in full; not on Node
   * 26), and Rust's allocator grows by little more than it needs: `readParquet` of parquet-wasm
   * 0.8.0 took 0.7 s in place of 5.2 s for 256 MB. {@link GuardedMemory.grow} does not help there:
   * such allocators use only what they grew themselves. (Emscripten's uses all.)
   *
   * Without `allocator`: space past the end, for `map` and `window` without `at` and `allocator`.
   * Does nothing if there is enough. Not for modules whose allocator claims all memory that appears
   * (Emscripten).
   *
   * @param byteLength How many bytes, in one piece.
   * @throws `ERR_HOSTMAP_MEMORY_FULL`, `ERR_HOSTMAP_MEMORY_HIDDEN`, `ERR_HOSTMAP_ALLOCATOR_FAILED`,
   *   the causes that the constructor names, and what `malloc` and `free` throw
   * @example
   * ```js
   * // wasm-bindgen: malloc is __wbindgen_malloc(byteLength, 8), and free is
   * // __wbindgen_free(address, byteLength, 8).
   * const { memory, malloc, free } = instance.exports
   * GuardedMemory.from(memory).reserve(2 * region.byteLength, { allocator: { malloc, free } })
   * ```
   */
  reserve(byteLength: number, options?: ReserveOptions): void

  /**
   * Maps a region, or a part of it, into this memory.
   *
   * Without `at` and `allocator` the memory grows by the size of the region, or the mapping reuses
   * space that an earlier one left. Use `allocator` for modules whose allocator claims all memory
   * that appears (Emscripten).
   *
   * If `map` fails after the memory grew, the memory stays grown; the next `map` uses the space.
   *
   * @throws `ERR_HOSTMAP_REGION_CLOSED`, `ERR_HOSTMAP_REGION_READONLY`, `ERR_HOSTMAP_FILE_SHRUNK`,
   *   `ERR_HOSTMAP_OVERLAP`, `ERR_HOSTMAP_MEMORY_FULL`, `ERR_HOSTMAP_MEMORY_HIDDEN`,
   *   `ERR_HOSTMAP_ALLOCATOR_FAILED`, `ERR_HOSTMAP_OPEN_FAILED`, `ERR_HOSTMAP_OUT_OF_MEMORY`,
   *   `ERR_HOSTMAP_MAP_COUNT`, `ERR_HOSTMAP_MAP_FAILED`; the causes that the constructor names; and
   *   what `malloc` throws
   * @example
   * ```js
   * const mapping = guarded.map(region, { byteOffset: 65_536, byteLength: 4096 })
   * const bytes = new Uint8Array(guarded.buffer, mapping.address, mapping.byteLength)
   * instance.exports.scan(mapping.pointer, mapping.byteLength)
   * mapping.unmap()
   * ```
   */
  map(region: HostRegion, options?: MapOptions): Mapping<A>

  /**
   * Takes over an ArrayBuffer: moves its pages into this memory, without a copy, and detaches it.
   * {@link AdoptedBuffer.release} moves them back.
   *
   * V8's large buffers begin inside a page, and so they do in the memory: `pointer` is where the
   * first byte is. The first page and the rest of the last one are copied (`copiedBytes`). The
   * module may read and write all bytes; JavaScript finds them in the memory's buffer. All of the
   * buffer is adopted, also where a typed array over it shows only a part.
   *
   * Without `at` and `allocator` the memory grows by the buffer's size and up to 2 MiB more, or
   * space is used that is free. For large buffers such a place is found that the kernel moves page
   * tables and not single pages; with `at` it is found by chance.
   *
   * Where pages can't be moved ({@link WhyCopied}), they are copied, unless `copy` is `'never'`. A
   * buffer that can be transferred is detached then, too; of others (a SharedArrayBuffer, another
   * memory's) a copy is taken, and they stay.
   *
   * Until `release` or `unmap` the allocation of a buffer whose pages were moved stays, as zeros
   * that take address space and no memory. Await what still uses the buffer first: an `fs.read`
   * into it that is under way writes there, and its bytes are lost; a write, or zlib, reads zeros.
   * Of a buffer that was copied, as after any transfer, and after `unmap`, they use memory that V8
   * may have given to others. Other threads of a shared memory must not write to the range while
   * `adopt` and `release` run.
   *
   * A memory with an adopted buffer can't be put into a snapshot, restored or reset: such calls
   * throw `ERR_HOSTMAP_OVERLAP`. When the thread that adopted it ends, the bytes stay where they
   * are, as the memory's own.
   *
   * Cost: 0.5 to 2 ms for 1 GiB, 1 `mremap`, 1 `mmap`, 1 `madvise`, a query of the
   * process's map and some reads of limits; it grows by 0.2 us for each MiB, and with `at` by some
   * 7. A copy costs what a copy costs.
   *
   * @param buffer An ArrayBuffer with at least one byte, or a SharedArrayBuffer.
   * @throws `ERR_INVALID_ARG_VALUE` if it is detached or this memory's own;
   *   `ERR_HOSTMAP_BUFFER_NOT_MOVABLE`, `ERR_HOSTMAP_OVERLAP`, `ERR_HOSTMAP_MEMORY_FULL`,
   *   `ERR_HOSTMAP_MEMORY_HIDDEN`, `ERR_HOSTMAP_ALLOCATOR_FAILED`, `ERR_HOSTMAP_OUT_OF_MEMORY`,
   *   `ERR_HOSTMAP_MAP_COUNT`, `ERR_HOSTMAP_MAP_FAILED`; the causes that the constructor names; and
   *   what `malloc` throws. The buffer is as it was then.
   * @example
   * ```js
   * const numbers = new Float64Array(100_000).fill(0.5) // an array that exists
   * const { length } = numbers
   * const adopted = guarded.adopt(numbers.buffer)
   * instance.exports.scan(adopted.pointer, adopted.byteLength)
   * const back = new Float64Array(adopted.release()) // with what the module has written
   * console.log(numbers.length, back.length === length) // 0 true
   * ```
   */
  adopt(buffer: ArrayBuffer | SharedArrayBuffer, options?: AdoptOptions): AdoptedBuffer<A>

  /**
   * Opens a window: a fixed range of the memory that can show any part of any region. Use it for
   * regions larger than the memory. A new window shows nothing.
   *
   * Without `at` and `allocator` it is placed as by {@link GuardedMemory.map}. Windows of at least
   * 2 MiB start at a multiple of 2 MiB of host address if there is room, so that huge pages in the
   * page cache are mapped as such.
   *
   * @throws `ERR_HOSTMAP_OVERLAP`, `ERR_HOSTMAP_MEMORY_FULL`, `ERR_HOSTMAP_MEMORY_HIDDEN`,
   *   `ERR_HOSTMAP_ALLOCATOR_FAILED`, `ERR_HOSTMAP_OUT_OF_MEMORY`, `ERR_HOSTMAP_MAP_COUNT`,
   *   `ERR_HOSTMAP_MAP_FAILED`; the causes that the constructor names; and what `malloc` throws
   * @example
   * ```js
   * const window = guarded.window({ byteLength: 2 ** 20 }) // up to 1 MiB at once
   * let sum = 0
   * for (const { bytes } of window.chunks(region)) {
   *   for (const byte of bytes) sum += byte
   * }
   * ```
   */
  window(options: WindowOptions): Window<A>

  /**
   * Throws if an access to any mapping or window of this memory found no data, unless that was
   * acknowledged.
   *
   * Call it after an engine has answered and before you trust the answer: if a mapped file is
   * truncated, JavaScript and `memory.copy` read zeros in place of the missing data. It covers
   * strict and other mappings, unmapped ones, and accesses by all threads.
   *
   * @throws `ERR_HOSTMAP_FAULTED`: a {@link FaultedError}
   * @example
   * ```js
   * const mapping = guarded.map(HostRegion.open('orders.db'), { strict: true })
   * const rows = engine.query('select ...', mapping.pointer)
   * guarded.checkFaults() // throws if rows can't be trusted
   * ```
   */
  checkFaults(): void
  /**
   * Acknowledges all faults of this memory: `checkFaults` passes and strict mappings and windows
   * work again until the next fault. Includes unmapped ones and those of other threads.
   *
   * @returns How many faults there were since the last time.
   */
  acknowledgeFaults(): number

  /**
   * This thread's mappings, windows and adopted buffers of the memory, by address. A new array each
   * time.
   */
  readonly mappings: readonly (Mapping<A> | Window<A> | AdoptedBuffer<A>)[]

  /**
   * Takes a snapshot of the memory: its pages, its mappings (as mappings), and optionally an
   * instance's mutable globals. Zeros take no space.
   *
   * What was written to `'private'` mappings and windows is included. Stray writes to `'readonly'`
   * ones are not, and neither is what was written past the bytes that a window shows. What is
   * shared with others or with a file is not part of a snapshot. Take it while no function of the
   * module is on the stack, unless you intend to return there. For globals and tables see
   * {@link Snapshot.of}.
   *
   * Costs about as much as a copy of the pages that are not zeros. The memory shows the snapshot's
   * pages from then on, see {@link SnapshotOptions.sharePages}. Let reads into views of the memory
   * end first (`fs.read`, say): bytes that they write during the call may be lost.
   *
   * @throws
   * - `ERR_HOSTMAP_SHARED_MEMORY`, `ERR_HOSTMAP_MEMORY_HIDDEN`, `ERR_HOSTMAP_MEMORY_MOVED`,
   *   `ERR_HOSTMAP_OUT_OF_MEMORY`, `ERR_HOSTMAP_TOO_MANY_FILES`
   * - `ERR_HOSTMAP_REGION_CLOSED`: the region of a mapping or window is closed, or another thread
   *   made or changed that mapping or window.
   * - `ERR_HOSTMAP_UNSUITABLE_MODULE`: `globals` has several memories.
   * - `ERR_HOSTMAP_MAP_FAILED`: the kernel took pages of the memory and could not give them back.
   *   They hold zeros now. Only where the system is out of memory.
   */
  snapshot(options?: SnapshotOptions): Snapshot

  /**
   * Restores the memory to a snapshot of this or another memory.
   *
   * The memory grows if necessary; bytes past the snapshot's end become zeros. The snapshot's
   * mappings are back afterwards, as new {@link Mapping} objects where one was unmapped (see
   * {@link GuardedMemory.mappings}), and its windows show what they showed. A {@link WindowSource}
   * continues where it is.
   *
   * No function of the module may be on the stack or suspended: its locals would not match the
   * memory.
   *
   * @throws These leave everything as it was, except that the memory may have grown:
   *   `ERR_HOSTMAP_SNAPSHOT_CLOSED`, `ERR_HOSTMAP_SNAPSHOT_MISMATCH`, `ERR_HOSTMAP_SHARED_MEMORY`,
   *   `ERR_HOSTMAP_MEMORY_FULL`, `ERR_HOSTMAP_MEMORY_HIDDEN`, `ERR_HOSTMAP_MEMORY_MOVED`,
   *   `ERR_HOSTMAP_REGION_READONLY`, `ERR_HOSTMAP_FILE_SHRUNK`, `ERR_HOSTMAP_MAP_COUNT`,
   *   `ERR_HOSTMAP_NOT_RESTORABLE`; `ERR_HOSTMAP_OVERLAP` if the memory has a mapping that the
   *   snapshot does not have
   * @throws After these the memory may hold a part of the snapshot; restore it again or stop using
   *   it: `ERR_HOSTMAP_OUT_OF_MEMORY`, `ERR_HOSTMAP_MAP_FAILED`
   * @example
   * ```js
   * const snapshot = guarded.snapshot()
   * new Uint8Array(guarded.buffer).fill(255) // whatever happens to the memory,
   * guarded.restore(snapshot) // takes microseconds to undo
   * ```
   */
  restore(snapshot: Snapshot, options?: RestoreOptions): void

  /**
   * Fills the memory with zeros, except its mappings, which stay. Discards what was written to
   * private pages of mappings. Does not touch globals.
   *
   * @throws `ERR_HOSTMAP_SHARED_MEMORY`, `ERR_HOSTMAP_MEMORY_HIDDEN`, `ERR_HOSTMAP_MEMORY_MOVED`;
   *   `ERR_HOSTMAP_OUT_OF_MEMORY` and `ERR_HOSTMAP_MAP_FAILED` as for {@link GuardedMemory.restore}
   */
  reset(options?: ResetOptions): void

  /**
   * Returns the ranges of the memory's reservation: its own pages, mappings, free space and guards.
   *
   * @throws `ERR_HOSTMAP_MEMORY_HIDDEN` if only a detached buffer is known;
   *   `ERR_HOSTMAP_MEMORY_MOVED`
   */
  layout(): Layout

  /**
   * Unmaps all mappings and windows that this thread made in the memory, the last one first. The
   * memory stays usable.
   *
   * All code of this thread shares the one object for a memory. If others map into the memory,
   * unmap your own mappings instead.
   *
   * @throws what the first `unmap` that failed throws, after all others were unmapped
   */
  [Symbol.dispose](): void
}

/**
 * A range of a region that is mapped into a range of a memory. It stays until it is unmapped or its
 * memory is collected, even if you don't keep this object.
 */
export class Mapping<A extends AddressType = AddressType> implements Disposable {
  private constructor()
  /** The first byte, from the start of the memory. */
  readonly address: number
  /**
   * The address as the module's functions take it: a number, or a BigInt for a 64-bit memory.
   * Always unsigned, even above 2 GiB.
   *
   * Its type is `number | bigint` where TypeScript does not know of which kind the memory is: in a
   * parameter of the type `Mapping`, say. Name the kind (`Mapping<'i32'>`,
   * `GuardedMemory<'i32'>`), and it is `number`. Where either kind may come, use `address`, which
   * is always a number, or `Number(mapping.pointer)`.
   */
  readonly pointer: Pointer<A>
  /** How many bytes of the region are mapped. */
  readonly byteLength: number
  /** The byte of the region at `address`. */
  readonly byteOffset: number
  /** What the module may do. */
  readonly access: Access
  /** The mapped region. */
  readonly region: HostRegion
  /** The memory that it is mapped into. */
  readonly memory: GuardedMemory<A>
  /** Whether `unmap` was called. */
  readonly unmapped: boolean
  /**
   * How many writes hit a read-only page and went to a copy of it. The region does not change.
   * Stays after `unmap`.
   *
   * Only the first write to a page counts: then the page is writable until the next call into this
   * library that concerns the memory. After 32 such writes a block of 16 pages becomes writable at
   * once, after 64 one of 32 pages, and so on.
   *
   * The first one emits a process warning with the code `HOSTMAP_STRAY_WRITE`, in the thread that
   * made the mapping or, if that has ended, in another. A thread emits at most 100 warnings of a
   * kind.
   */
  readonly strayWrites: number
  /**
   * How many accesses hit a page without data: its file became shorter, an I/O error occurred, or
   * memory ran out. Stays after `unmap`.
   *
   * A load or store of the module traps. Everything else finds a page of zeros, which stays until
   * `unmap`; other pages show the file's data again when it grows back. Writes to a page of zeros
   * stay in this memory, even with `'shared'`.
   *
   * The first page of zeros emits a process warning with the code `HOSTMAP_MISSING_PAGE`, in the
   * thread that made the mapping.
   */
  readonly faults: number
  /** The last fault, including traps; `null` if there was none. Stays after `unmap`. */
  readonly lastFault: Fault | null
  /** Whether faults make its calls throw: see {@link MapOptions.strict}. */
  readonly strict: boolean

  /**
   * Throws if an access to this mapping found no data, unless that was acknowledged. Stray writes
   * don't count. See {@link GuardedMemory.checkFaults}.
   *
   * @throws `ERR_HOSTMAP_FAULTED`: a {@link FaultedError}
   */
  checkFaults(): void
  /**
   * Returns the address in the memory of bytes that you hold as a view: a view of the memory
   * itself, or of the mapped region ({@link HostRegion.view}, {@link HostRegion.bytes}).
   *
   * Use it to hand parts that JavaScript has found (a column of an Arrow table, say) to a function
   * of the module. What was written to a `'private'` Buffer of the region is in that Buffer only:
   * the mapping does not show it.
   *
   * @returns The address of the view's first byte: a number, or a BigInt for a 64-bit memory.
   * @throws
   * - `ERR_INVALID_ARG_TYPE`: it is not a view.
   * - `ERR_INVALID_ARG_VALUE`: it is a view of something else, or its buffer is detached.
   * - `ERR_OUT_OF_RANGE`: not all of it is in this mapping.
   * - `ERR_HOSTMAP_MAPPING_UNMAPPED`, `ERR_HOSTMAP_MEMORY_HIDDEN`, `ERR_HOSTMAP_MEMORY_MOVED`
   * @example
   * ```js
   * const bytes = region.bytes()
   * const header = bytes.subarray(0, bytes.indexOf(10)) // a part that JavaScript has found
   * instance.exports.scan(mapping.pointerOf(header), header.length)
   * ```
   */
  pointerOf(view: ArrayBufferView): Pointer<A>
  /**
   * Acknowledges the faults of this mapping: if it is strict, it works again.
   *
   * @returns How many there were since the last time.
   */
  acknowledgeFaults(): number

  /**
   * Loads and maps pages on another thread, so that first accesses cost nothing. Resolves when
   * done, or when the mapping is unmapped.
   *
   * Best effort: pages for which there is no memory, and all pages before Linux 5.14, are left to
   * the first access. Takes memory for holes of a memfd, as any read does. Windows don't have this:
   * a {@link WindowSource} reads ahead for them.
   *
   * @throws (rejects) `ABORT_ERR`, `ERR_HOSTMAP_FAULTED`; `ERR_HOSTMAP_READ_FAILED` if the file
   *   became shorter or its disk failed
   */
  prefetch(options?: PrefetchOptions): Promise<void>

  /**
   * Removes the mapping and leaves zeroed, writable pages. A block from the module's allocator is
   * freed; space past the end is kept for the next `map`. Unmapping twice does nothing.
   *
   * If V8 moved the memory, nothing is mapped any more, and what the mapping showed is now a copy
   * in plain memory. `unmap` then leaves the bytes and frees the block; other calls that need pages
   * throw `ERR_HOSTMAP_MEMORY_MOVED`.
   *
   * @throws `ERR_HOSTMAP_MEMORY_HIDDEN`, `ERR_HOSTMAP_OUT_OF_MEMORY`, `ERR_HOSTMAP_MAP_COUNT`,
   *   `ERR_HOSTMAP_MAP_FAILED`; and what `free` throws, after the mapping was removed
   */
  unmap(): void
  /** Does the same as {@link Mapping.unmap}. */
  [Symbol.dispose](): void
}

/**
 * A buffer whose bytes are in a memory: see {@link GuardedMemory.adopt}. They stay until they are
 * released or unmapped, or the memory is collected, even if you don't keep this object.
 */
export class AdoptedBuffer<A extends AddressType = AddressType> implements Disposable {
  private constructor()
  /** The first byte, from the start of the memory: as far into a page as in the buffer. */
  readonly address: number
  /** The address as the module's functions take it: a number, or a BigInt for a 64-bit memory. */
  readonly pointer: Pointer<A>
  /** How many bytes the buffer has. */
  readonly byteLength: number
  /** How many of them were copied when it was adopted: all, or less than two host pages. */
  readonly copiedBytes: number
  /** Why all of them were copied; `null` if whole pages were moved. */
  readonly whyCopied: WhyCopied | null
  /** The memory that it is in. */
  readonly memory: GuardedMemory<A>
  /** Whether `release` or `unmap` was called. */
  readonly unmapped: boolean

  /**
   * Gives the bytes back, as they are now, and leaves zeros in the memory: moves the pages into the
   * buffer's own allocation, and returns an ArrayBuffer over it. It is an ordinary one of V8's,
   * which can be adopted again. What was copied when it was adopted is copied into a new one.
   *
   * Cost: 0.3 ms for 1 GiB; and what V8 takes to count a buffer of its size again, as for every new
   * large buffer: 0.3 ms where it only begins to collect garbage, and more where no CPU is free for
   * its threads, or the heap is large.
   *
   * A time limit (`timeout` of `node:vm`) that ends just this call may lose the bytes of a buffer
   * of 64 MiB or more: `ERR_HOSTMAP_MAPPING_UNMAPPED` the next time.
   *
   * @returns An ArrayBuffer of `byteLength` bytes.
   * @throws `ERR_HOSTMAP_MAPPING_UNMAPPED`, `ERR_HOSTMAP_MEMORY_HIDDEN`,
   *   `ERR_HOSTMAP_MEMORY_MOVED`, `ERR_HOSTMAP_OUT_OF_MEMORY`, `ERR_HOSTMAP_MAP_COUNT`,
   *   `ERR_HOSTMAP_MAP_FAILED`: the bytes are still in the memory then; and what `free` throws,
   *   after they were moved: call `release` again for them
   */
  release(): ArrayBuffer

  /**
   * Drops the bytes and the buffer's allocation, and leaves zeroed pages. A block from the module's
   * allocator is freed; space past the end is kept for the next mapping. Unmapping twice does
   * nothing.
   *
   * @throws as {@link Mapping.unmap}
   */
  unmap(): void
  /** Does the same as {@link AdoptedBuffer.unmap}. */
  [Symbol.dispose](): void
}

/** Options of {@link Mapping.prefetch}. */
export interface PrefetchOptions {
  /** The first byte to load, from the start of the mapping. Default: 0. */
  byteOffset?: number | undefined
  /** How many bytes to load. Default: to the end of the mapping. */
  byteLength?: number | undefined
  /** Aborts it after at most 4 MiB more. Pages that were loaded stay. */
  signal?: AbortSignal | undefined
}

/** Options of {@link GuardedMemory.reset}. */
export interface ResetOptions {
  /** See {@link RestoreOptions.exclusive}. Default: false. */
  exclusive?: boolean | undefined
  /** See {@link SnapshotOptions.keepResidentBytes}. Default: 524,288 (512 KiB). */
  keepResidentBytes?: number | undefined
}

/** Options of {@link GuardedMemory.restore}. */
export interface RestoreOptions {
  /**
   * Your promise that until the call returns no other thread runs in the memory or accesses its
   * buffer. Required for shared memories, ignored for others. Default: false.
   *
   * Park workers outside the module (`Atomics.wait` on another buffer, for example), not inside.
   */
  exclusive?: boolean | undefined
  /**
   * The exports of the instance whose globals to restore. Default: the globals that the snapshot
   * was taken of, if it was taken of this memory.
   */
  globals?: object | undefined
}

/** Options of {@link GuardedMemory.snapshot}. */
export interface SnapshotOptions {
  /**
   * The exports of an instance whose mutable `WebAssembly.Global`s to include, by name. Default:
   * none.
   *
   * Globals that JavaScript can't read (v128, exnref) are left out; {@link Snapshot.of} refuses
   * them. {@link exposeState} exports those that the module hides.
   */
  globals?: object | undefined
  /**
   * The bytes of the module. Their SHA-256 is stored, so that {@link Snapshot.load} can refuse a
   * snapshot of another module. Default: none.
   */
  module?: ArrayBuffer | SharedArrayBuffer | ArrayBufferView | undefined
  /** See {@link RestoreOptions.exclusive}. Default: false. */
  exclusive?: boolean | undefined
  /**
   * How many bytes of written pages a restore copies back in place, which makes the next write to
   * them cheap. It drops the rest. A memory keeps at most this much for itself between uses.
   * Default: 524,288 (512 KiB).
   */
  keepResidentBytes?: number | undefined
  /**
   * Whether to store dense parts in huge pages where the system has them: reading becomes faster,
   * restoring cheaper, and taking the snapshot no slower. A part is dense if three quarters of its
   * 2 MiB are not zeros. Default: true.
   */
  hugePages?: boolean | undefined
  /**
   * Whether the memory gives up its own pages for the snapshot's, which are the same, so that they
   * are in physical memory once. Its next restore is then as cheap as later ones. The next write to
   * a page costs a page fault and a copy of the page: 1 to 4 us. Pass false for a memory that will
   * write to most of its pages and never be restored, because its snapshot is for a file, say.
   * Where the kernel refuses, the memory keeps its pages. Default: true.
   */
  sharePages?: boolean | undefined
  /**
   * A name for `inspect` and for `/proc/PID/maps`, which shows `/memfd:NAME`. At most 200 bytes,
   * without NUL. Default: `'snapshot'`.
   */
  name?: string | undefined
}

/** Options of {@link Snapshot.of}. */
export interface InstanceSnapshotOptions {
  /** See {@link SnapshotOptions.module}. Default: none. */
  module?: ArrayBuffer | SharedArrayBuffer | ArrayBufferView | undefined
  /** See {@link RestoreOptions.exclusive}. Default: false. */
  exclusive?: boolean | undefined
  /** See {@link SnapshotOptions.keepResidentBytes}. Default: 524,288 (512 KiB). */
  keepResidentBytes?: number | undefined
  /** See {@link SnapshotOptions.hugePages}. Default: true. */
  hugePages?: boolean | undefined
  /** See {@link SnapshotOptions.sharePages}. Default: true. */
  sharePages?: boolean | undefined
  /** See {@link SnapshotOptions.name}. Default: `'snapshot'`. */
  name?: string | undefined
  /**
   * State that need not be restored. {@link Snapshot.restoreTo} and {@link Snapshot.instantiate}
   * then accept it too. Default: none.
   */
  accept?: readonly AcceptedState[] | undefined
}

/**
 * Options of {@link Snapshot.load}. {@link Snapshot.fromFd} and {@link Snapshot.receive} take them
 * too, except `key`, `signal` and `hugePages`.
 */
export interface LoadSnapshotOptions {
  /**
   * The bytes of the module. A snapshot of another module, or one that does not name its module, is
   * refused with `ERR_HOSTMAP_SNAPSHOT_MISMATCH`. Default: not checked.
   */
  module?: ArrayBuffer | SharedArrayBuffer | ArrayBufferView | undefined
  /**
   * Returns the region for a mapping or window of the snapshot, which does not contain any.
   * Required if the snapshot has mappings.
   *
   * If you return a bare region, the module can read it and, if the snapshot says so, write to
   * private copies of its pages. Return `{ region, access }` to set an upper limit on what the
   * module may do: only `'shared'` lets it write to the region, whatever the file says. Mappings
   * and windows that were saved with access `'shared'` need an answer with `access`; a window that
   * shows nothing needs no region.
   */
  regions?: ((mapping: SnapshotMapping) => HostRegion | SnapshotGrant) | undefined
  /**
   * Refuses a file that was not saved with this key or has changed since. At least 16 bytes, better
   * 32 random ones. Default: not checked.
   */
  key?: SnapshotKey | undefined
  /** Aborts the load: the promise rejects with an `AbortError` (code `ABORT_ERR`). */
  signal?: AbortSignal | undefined
  /** See {@link SnapshotOptions.keepResidentBytes}. Default: 524,288 (512 KiB). */
  keepResidentBytes?: number | undefined
  /** See {@link SnapshotOptions.hugePages}. Default: true. */
  hugePages?: boolean | undefined
}

/** Options of {@link Snapshot.open}. */
export interface OpenSnapshotOptions extends Omit<LoadSnapshotOptions, 'hugePages'> {
  /**
   * Whether to read the whole file and compare its checksum, which takes as long as reading it.
   * Without it, only what the file says of itself is checked, and not the pages of the memory.
   * Default: false.
   */
  verify?: boolean | undefined
}

/** What {@link LoadSnapshotOptions.regions} grants a mapping or window. */
export interface SnapshotGrant {
  /** The region. Omit it for a window that shows nothing. */
  region?: HostRegion | undefined
  /** The most that the module may do. Default: what the snapshot says, except `'shared'`. */
  access?: Access | undefined
}

/** A secret key: bytes, which are copied, or a `KeyObject` from `crypto.createSecretKey`. */
export type SnapshotKey =
  | ArrayBuffer
  | SharedArrayBuffer
  | ArrayBufferView
  | {
      readonly type: 'secret' | 'public' | 'private'
      readonly symmetricKeySize?: number | undefined
    }

/** Options of {@link Snapshot.save}. */
export interface SaveSnapshotOptions {
  /** Signs the file with an HMAC-SHA256, which {@link Snapshot.load} verifies. Default: no key. */
  key?: SnapshotKey | undefined
  /** Aborts the save: the promise rejects with an `AbortError` (code `ABORT_ERR`). */
  signal?: AbortSignal | undefined
}

/** A mapping or window in a snapshot. */
export interface SnapshotMapping {
  readonly kind: 'mapping' | 'window'
  /** The first byte, from the start of the memory. */
  readonly address: number
  /** The size of the mapping or window. */
  readonly byteLength: number
  readonly access: Access
  /** The name of its region; `null` for a window that shows nothing. */
  readonly regionName: string | null
  /** The byte of the region at `address`. */
  readonly byteOffset: number
}

/**
 * The state of a memory, and of an instance's globals and tables, at one moment. It is kept in
 * memory of its own that nobody can write.
 *
 * Any number of memories can be restored to it; they share its pages until they write to them. A
 * snapshot keeps the regions of its mappings open.
 *
 * It can't be posted to a worker. Send the token that {@link Snapshot.share} returns and call
 * {@link Snapshot.receive} there.
 */
export class Snapshot implements Disposable {
  private constructor()

  /**
   * Takes a snapshot of an instance: its memory, its mutable globals and its tables.
   *
   * Only exported state can be seen. Instantiate what {@link exposeState} returns, which exports
   * all of it.
   *
   * @param instance A `WebAssembly.Instance` that exports its one memory.
   * @throws as {@link GuardedMemory.snapshot}
   * @throws
   * - `ERR_HOSTMAP_UNSUITABLE_MODULE`: it exports no memory, or several.
   * - `ERR_HOSTMAP_NOT_RESTORABLE`: some state can't be restored (see {@link AcceptedState}), or a
   *   table has more than a million entries. All such state is found if the module went through
   *   {@link exposeState}; otherwise only what is exported.
   * @example
   * ```js
   * const { instance } = await WebAssembly.instantiate(exposeState(bytes), imports)
   * instance.exports.boot()
   * const snapshot = Snapshot.of(instance)
   * const copy = await snapshot.instantiate(bytes, imports) // an instance that has booted
   * ```
   */
  static of(instance: object, options?: InstanceSnapshotOptions): Snapshot

  /**
   * Loads a snapshot file that {@link Snapshot.save} wrote, in this process or another.
   *
   * Its bytes are copied into memory. It can be restored only to instances of the same module.
   *
   * Without a key, a checksum (XXH3) detects damage but not forgery. A forged file can put the
   * module into any state, and so make it do whatever the module can do. It can't harm the host:
   * all that it says is checked, the memory it takes is a small multiple of its size at most, and a
   * module never gets more access to a region than {@link LoadSnapshotOptions.regions} grants.
   *
   * With a key, an HMAC-SHA256 proves that the file was saved with that key and not altered since.
   * The check covers the sealed copy that memories will use, and happens before `regions` is
   * called. It does not prove which of your snapshots it is, or that it is the newest.
   *
   * @throws (rejects) `ABORT_ERR`, `ERR_HOSTMAP_OPEN_FAILED`, `ERR_HOSTMAP_NOT_A_FILE`,
   *   `ERR_HOSTMAP_READ_FAILED`, `ERR_HOSTMAP_SNAPSHOT_INVALID`, `ERR_HOSTMAP_SNAPSHOT_MISMATCH`,
   *   `ERR_HOSTMAP_OUT_OF_MEMORY`, `ERR_HOSTMAP_TOO_MANY_FILES`; and what `regions` throws
   */
  static load(path: string | URL, options?: LoadSnapshotOptions): Promise<Snapshot>

  /**
   * Opens a snapshot file that {@link Snapshot.save} wrote, without a copy: its own pages are
   * mapped privately.
   *
   * It takes less than 10 ms, however large the memory was. All processes that open a file share
   * its pages in the page cache, and a memory takes pages of its own only where it is written. What
   * is restored for the first time is read from the disk as it is touched.
   *
   * Nobody else's writes show in a memory. The kernel guards the file by a lease: an `open` for
   * writing or a `truncate` of it waits, in any process, until this one has copied the file and put
   * the copy in the file's place in all memories. That happens as soon as the threads that have
   * them reach their event loops, and takes the memory of one copy. Then the snapshot goes on as a
   * loaded one. A file of another name that takes the place of this one (`save`, `rename`) and a
   * removal change nothing and wait for nothing: replace snapshots in this way.
   *
   * Limits:
   * - The file must be this user's (or the process has `CAP_LEASE`), open for writing nowhere, and
   *   on a file system with leases: ext4, XFS, Btrfs and tmpfs have them. Network file
   *   systems and overlays (a container's own file system) don't. Else it is refused.
   * - For a thread that does not reach its event loop the writer waits a second, and that includes
   *   the thread that writes the file synchronously itself. Then the copy takes the file's place
   *   while the thread runs; a system call that writes to the memory in that moment (of
   *   `fs.readSync`, say) may fail with EFAULT.
   * - Where there is no memory for the copy until 10 seconds before `fs.lease-break-time` (45) is
   *   over, the process ends. So does one that was stopped (SIGSTOP) for longer than that while
   *   another wrote the file, when it goes on.
   * - Opening it with `O_RDONLY | O_TRUNC`, which POSIX leaves undefined, empties it in spite of
   *   the lease. Nothing foreign shows. Accesses to the lost pages are as those to a mapping whose
   *   file got shorter: loads and stores of WebAssembly trap, and others meet zeros, with a
   *   `HOSTMAP_MISSING_PAGE` warning. From then on restores to this snapshot throw
   *   `ERR_HOSTMAP_SNAPSHOT_UNGUARDED`, and a pool discards the instance.
   * - Shared memories can't be restored to it: `ERR_HOSTMAP_SHARED_MEMORY`.
   *
   * What a forged file can do is what {@link Snapshot.load} says. With a key, all of the file is
   * read.
   *
   * @throws (rejects) as {@link Snapshot.load}; `ERR_HOSTMAP_SNAPSHOT_UNGUARDED`
   * @example
   * ```js
   * const booted = await Snapshot.open('booted.snapshot') // in each of 8 processes
   * const instance = await booted.instantiate(bytes, imports)
   * ```
   */
  static open(path: string | URL, options?: OpenSnapshotOptions): Promise<Snapshot>

  /**
   * Makes a snapshot over the descriptor of another thread's snapshot, or of a saved file: the same
   * pages. The descriptor is duplicated; a file's is opened again, as by {@link Snapshot.open}.
   *
   * @throws as {@link Snapshot.open}
   */
  static fromFd(
    fd: number,
    options?: Omit<LoadSnapshotOptions, 'key' | 'signal' | 'hugePages'>
  ): Snapshot

  /**
   * Receives a snapshot that another thread or process shared: the same pages, not a copy.
   *
   * The token is used up even if `regions` throws or returns something unsuitable, or `module` does
   * not match. Share the snapshot again in that case.
   *
   * @throws as {@link HostRegion.receive} and {@link Snapshot.load}
   */
  static receive(
    token: ShareToken,
    options?: Omit<LoadSnapshotOptions, 'key' | 'signal' | 'hugePages'>
  ): Snapshot

  /**
   * Revokes a token that this process made and nobody has received yet.
   *
   * @returns Whether this call revoked it.
   */
  static unshare(token: ShareToken): boolean

  /** The size of the memory that it was taken of. */
  readonly byteLength: number
  /**
   * How much memory the snapshot itself takes now; 0 after `close`, and for the pages of a file,
   * which are the system's.
   */
  readonly residentBytes: number
  /** The kind of memory that it fits. */
  readonly address: 'i32' | 'i64'
  /** Its name. */
  readonly name: string
  /**
   * Makes a token by which another thread or process can receive the snapshot. See
   * {@link HostRegion.share}. Receivers can't write to it.
   *
   * @throws `ERR_HOSTMAP_SNAPSHOT_CLOSED`, `ERR_HOSTMAP_TOO_MANY_SHARES`,
   *   `ERR_HOSTMAP_TOO_MANY_FILES`, `ERR_HOSTMAP_DESCRIPTOR_LOST`
   */
  share(): ShareToken
  /**
   * Returns a new, close-on-exec descriptor of its memfd or file, which is yours to close.
   *
   * @throws `ERR_HOSTMAP_SNAPSHOT_CLOSED`, `ERR_HOSTMAP_TOO_MANY_FILES`, `ERR_HOSTMAP_OPEN_FAILED`,
   *   `ERR_HOSTMAP_DESCRIPTOR_LOST`
   */
  duplicateFd(): number
  /** `'sha256-'` and the module's digest in hexadecimal; `null` if no module was given. */
  readonly moduleDigest: string | null
  /** The mappings and windows in it, by address. */
  readonly mappings: readonly SnapshotMapping[]
  /** Whether `close` was called. */
  readonly closed: boolean

  /**
   * Restores an instance of the same module: its memory, globals and tables.
   *
   * Functions in tables and globals become the instance's own.
   *
   * @param options.exclusive See {@link RestoreOptions.exclusive}. Default: false.
   * @param options.accept State that need not be restored, beside what {@link Snapshot.of}
   *   accepted. Default: none.
   * @throws as {@link GuardedMemory.restore}
   * @throws
   * - `ERR_HOSTMAP_SNAPSHOT_MISMATCH`: the instance or the snapshot lacks a global or table that
   *   the other has, or the instance is known to be of another module (a pool or `instantiate` made
   *   it from bytes).
   * - `ERR_HOSTMAP_NOT_RESTORABLE`: a table has grown, and its added entries can't be null, or its
   *   module may know its size and `accept` does not name `'grown-tables'`; the instance does not
   *   show a function; or some state can't be restored and is not in `accept`.
   * @example
   * ```js
   * const snapshot = Snapshot.of(instance)
   * instance.exports.handle(42)
   * snapshot.restoreTo(instance) // as if handle had never run
   * ```
   */
  restoreTo(
    instance: object,
    options?: { exclusive?: boolean | undefined; accept?: readonly AcceptedState[] | undefined }
  ): void

  /**
   * Forks: makes a new instance of the module in this state.
   *
   * {@link Snapshot.of} must have seen all of the old instance's state: take it of an instance of
   * what {@link exposeState} returns. The module's start function runs first. State that your
   * imports keep is yours to handle.
   *
   * @param module The module that the snapshot was taken of: compiled, or its bytes, which go
   *   through {@link exposeState}.
   * @param options.accept State that need not be restored, beside what {@link Snapshot.of}
   *   accepted. Default: none.
   * @throws (rejects) as {@link Snapshot.restoreTo}; what V8 throws;
   *   `ERR_HOSTMAP_SNAPSHOT_MISMATCH` if the bytes don't match `moduleDigest`
   */
  instantiate(
    module: object,
    imports?: object,
    options?: { accept?: readonly AcceptedState[] | undefined }
  ): Promise<WasmInstance>

  /**
   * Saves the snapshot to a file, atomically. Replaces a file of the same name.
   *
   * Only the current user can read the file. Zeros become holes. A symbolic link to a file is
   * followed.
   *
   * @throws (rejects) `ABORT_ERR`, `ERR_HOSTMAP_SNAPSHOT_CLOSED`, `ERR_HOSTMAP_NOT_A_FILE`,
   *   `ERR_HOSTMAP_OPEN_FAILED`, `ERR_HOSTMAP_WRITE_FAILED`; `ERR_HOSTMAP_OUT_OF_MEMORY` if the
   *   disk is full; `ERR_HOSTMAP_NOT_RESTORABLE` if a global or table refers to an object of this
   *   process
   * @example
   * ```js
   * await snapshot.save('booted.snapshot', { key })
   * const loaded = await Snapshot.load('booted.snapshot', { key }) // in this process or another
   * ```
   */
  save(path: string | URL, options?: SaveSnapshotOptions): Promise<void>

  /**
   * Closes it. Its memory is released once no memory uses its pages; memories that do are not
   * affected. Closing twice does nothing.
   */
  close(): void
  /** Does the same as {@link Snapshot.close}. */
  [Symbol.dispose](): void
}

/** Options of {@link GuardedMemory.window}. */
export interface WindowOptions {
  /**
   * How much it can show at once: at least one host page; rounded up to whole pages. If the first
   * shown byte is not at the start of a page, the bytes before it in that page take up room too.
   */
  byteLength: number
  /**
   * The address in the memory: a multiple of the host page size. Default: past the end of the
   * memory, which grows; or `allocator`.
   */
  at?: number | bigint | undefined
  /**
   * The most that a slide may ask for: `'shared'` includes the others, `'private'` includes
   * `'readonly'`. Default: `'readonly'`.
   */
  access?: Access | undefined
  /**
   * What the module finds in the part of the window that shows nothing: past the shown bytes, or
   * everywhere while no region is shown. Default: `'trap'`.
   *
   * - `'trap'`: a load or store traps. Other accesses find zeros, count in {@link Window.faults},
   *   and emit one process warning with the code `HOSTMAP_PAST_END`. Without the fault guard
   *   (`limits().faultGuard`) these end the process.
   * - `'zeros'`: zeros, read-only in a `'readonly'` window. What is written there is lost at the
   *   next slide.
   *
   * The part starts at the next host page; until there, the module sees the file's next bytes or
   * zeros. After the module grows its memory by itself, the part is writable zeros until the next
   * call into this library that concerns the memory, such as a slide: V8 makes all of a memory
   * accessible when it grows.
   */
  rest?: 'trap' | 'zeros' | undefined
  /** See {@link MapOptions.allocator}. */
  allocator?: GuestAllocator | undefined
  /**
   * Whether a fault, including an access past what is shown, makes `slide`, `source` and `chunks`
   * throw `ERR_HOSTMAP_FAULTED` until {@link Window.acknowledgeFaults} is called. `next` of its
   * sources throws too, even at the end, so that the module traps. Default: false.
   *
   * See also {@link MapOptions.strict}.
   */
  strict?: boolean | undefined
}

/** Options of {@link Window.slide}. */
export interface SlideOptions {
  /**
   * How many bytes to show: at least 1, at most what the window holds and the region has. Default:
   * as many as possible.
   */
  byteLength?: number | undefined
  /** What the module may do: at most what the window allows. Default: the window's access. */
  access?: Access | undefined
}

/** What a window shows after a slide. */
export interface Shown<A extends AddressType = AddressType> {
  /**
   * The address of the first shown byte, from the start of the memory: the window's address plus
   * the offset within the page.
   */
  address: number
  /** The same address as the module's functions take it. */
  pointer: Pointer<A>
  /** How many bytes are shown. */
  byteLength: number
}

/** Options of {@link Window.source}. */
export interface SourceOptions {
  /**
   * The most new bytes that each step shows: 1 to the window's `byteLength` less `overlap`; in a
   * 32-bit memory below 4 GiB. A step shows fewer if kept bytes and the offset within the page
   * leave less room. Default: what the window holds, in multiples of 2 MiB, or of host pages if it
   * is smaller.
   */
  chunk?: number | undefined
  /**
   * How many of the last shown bytes each step shows again in front of the next chunk, unless the
   * module says. At most the window's `byteLength` less a host page. Default: 0.
   */
  overlap?: number | undefined
  /** The first byte of the region to read. Default: 0. */
  byteOffset?: number | undefined
  /** How many bytes to read. Default: to the end of the region. */
  byteLength?: number | undefined
  /** What the module may do: at most what the window allows. Default: the window's access. */
  access?: Access | undefined
  /**
   * Whether background threads load the next chunk while the module works on the current one: at
   * least 8 MiB ahead, less if memory is scarce. Default: true.
   *
   * Not for `'shared'` access. The threads run at low priority; turn them off if every processor is
   * busy and the data is in the page cache. They skip holes of memfds.
   */
  readAhead?: boolean | undefined
  /**
   * Whether pages leave the page cache once they were shown, unless another mapping uses them or
   * they wait to be written. Files only. Default: `'auto'`, which does so if the region is larger
   * than half of the memory that the process may use (the limit of its control group, or the
   * machine's).
   */
  leaveBehind?: boolean | 'auto' | undefined
}

/** Options of {@link Window.chunks}. */
export interface ChunkOptions extends SourceOptions {
  /** Ends the loop with an `AbortError` (code `ABORT_ERR`) before the next chunk. */
  signal?: AbortSignal | undefined
  /** Called after each chunk, when the loop asks for the next one. */
  onProgress?: ((doneBytes: number, totalBytes: number) => void) | undefined
}

/** One step of {@link Window.chunks}. */
export interface Chunk<A extends AddressType = AddressType> extends Shown<A> {
  /** The first shown byte, from the start of the region. */
  readonly byteOffset: number
  /** The bytes, in the memory. Valid until the next step, or until the memory grows. */
  readonly bytes: Uint8Array
}

/** What {@link Window.chunks} returns. Works with `for` and `for await`. */
export interface Chunks<A extends AddressType = AddressType>
  extends Iterable<Chunk<A>>, AsyncIterable<Chunk<A>> {}

/** The functions that a module imports to read a region chunk by chunk. They need no `this`. */
export type SourceImports<A extends AddressType = AddressType> = {
  /**
   * Shows the next chunk.
   *
   * @param keep How many of the last shown bytes to show again in front of it: at most as many as
   *   were shown. Default: {@link SourceOptions.overlap}.
   * @returns How many bytes are shown, including kept ones. 0 at the end, where what is shown
   *   stays. A BigInt for 64-bit memories.
   */
  readonly next: (keep?: number | bigint) => Pointer<A>
  /** Returns the address of the first shown byte. A BigInt for 64-bit memories. */
  readonly pointer: () => Pointer<A>
}

/**
 * A pass over a region through a window, for a module that asks for each chunk itself.
 *
 * Each source has its own position. Several sources of one window take turns at showing their
 * chunks.
 */
export class WindowSource<A extends AddressType = AddressType> {
  private constructor()
  /**
   * The functions that a module imports: `next(keep: i32) -> i32` and `pointer() -> i32` (i64 in a
   * 64-bit memory). The package's guest/ directory has helpers for C and Rust.
   */
  readonly imports: SourceImports<A>
  /** The window that it slides. */
  readonly window: Window<A>
  /** The region that it reads. */
  readonly region: HostRegion
  /** The next byte of the region to show. */
  readonly position: number
  /** The first byte of the region that is shown. */
  readonly start: number
  /** The address of that byte, as the module's functions take it. */
  readonly pointer: Pointer<A>

  /**
   * Shows the next chunk: see {@link SourceImports.next}. A call that throws changes nothing.
   *
   * @throws as {@link Window.slide}; `ERR_OUT_OF_RANGE` if kept bytes leave no room for more
   */
  next(keep?: number | bigint): Pointer<A>

  /**
   * Moves to another position: the next chunk starts there, with nothing kept.
   *
   * @param byteOffset A byte of the part that the source reads, or the one after its last.
   */
  seek(byteOffset: number): void

  /** Moves to the first byte of the part that it reads. */
  rewind(): void
}

/**
 * A range of a memory that can show any part of any region, one after another.
 *
 * It stays until it is unmapped or its memory is collected, even if you don't keep this object or
 * its worker ends. In a shared memory, unmap what a worker opened before the worker ends. A window
 * can't be posted to a worker.
 */
export class Window<A extends AddressType = AddressType> implements Disposable {
  private constructor()
  /** The first byte, from the start of the memory. */
  readonly address: number
  /** The address as the module's functions take it. */
  readonly pointer: Pointer<A>
  /** How much it can show, in whole host pages. */
  readonly byteLength: number
  /** The most that a slide may ask for. */
  readonly access: Access
  /** What the module finds in the part that shows nothing: see {@link WindowOptions.rest}. */
  readonly rest: 'trap' | 'zeros'
  /** The region that it shows; `null` if none. */
  readonly region: HostRegion | null
  /** The first byte of the region that is shown; 0 if none. */
  readonly byteOffset: number
  /** How many bytes are shown. */
  readonly shownBytes: number
  /** The memory that it belongs to. */
  readonly memory: GuardedMemory<A>
  /** Whether `unmap` was called. */
  readonly unmapped: boolean
  /** See {@link Mapping.strayWrites}. Covers everything it ever showed. */
  readonly strayWrites: number
  /**
   * See {@link Mapping.faults}. Covers everything it ever showed, and accesses past what it shows.
   */
  readonly faults: number
  /**
   * See {@link Mapping.lastFault}. The `cause` is `'unavailable'` if the window no longer shows the
   * file of that fault.
   */
  readonly lastFault: Fault | null
  /** Whether faults make its calls throw: see {@link WindowOptions.strict}. */
  readonly strict: boolean

  /**
   * Throws if an access to this window found no data, unless that was acknowledged.
   *
   * @throws `ERR_HOSTMAP_FAULTED`: a {@link FaultedError}
   */
  checkFaults(): void
  /**
   * Acknowledges the faults of this window: if it is strict, it works again.
   *
   * @returns How many there were since the last time.
   */
  acknowledgeFaults(): number

  /**
   * Shows another part of a region, or nothing if `region` is `null`. What was written with
   * `'private'` access is lost.
   *
   * You can call it while the module runs, usually from a function that the module imports. Another
   * thread that reads a shared memory meanwhile sees each page either as it was or as it is now. A
   * file that became shorter is not noticed here: see {@link Mapping.faults}.
   *
   * @param byteOffset The first byte to show: any offset. Default: 0.
   * @throws `ERR_HOSTMAP_REGION_CLOSED`, `ERR_HOSTMAP_REGION_READONLY`,
   *   `ERR_HOSTMAP_WINDOW_UNMAPPED`, `ERR_HOSTMAP_MEMORY_MOVED`, `ERR_HOSTMAP_MEMORY_HIDDEN`,
   *   `ERR_HOSTMAP_FAULTED`, `ERR_HOSTMAP_OUT_OF_MEMORY`, `ERR_HOSTMAP_MAP_FAILED`. The window then
   *   shows what it showed before, or the beginning of that if less was asked for
   * @example
   * ```js
   * const { pointer, byteLength } = window.slide(region, 65_536, { byteLength: 4096 })
   * instance.exports.scan(pointer, byteLength)
   * ```
   */
  slide(region: HostRegion, byteOffset?: number, options?: SlideOptions): Shown<A>
  /** Shows a part of a region. */
  slide(region: HostRegion, part: Partial<RegionPart> & SlideOptions): Shown<A>
  /** Shows nothing. */
  slide(region: null): Shown<A>

  /**
   * Starts a pass over the region for a module, which imports `source.imports` and asks for each
   * chunk itself.
   *
   * @throws `ERR_HOSTMAP_REGION_CLOSED`, `ERR_HOSTMAP_WINDOW_UNMAPPED`, `ERR_HOSTMAP_FAULTED`
   */
  source(region: HostRegion, options?: SourceOptions): WindowSource<A>

  /**
   * Reads the region chunk by chunk in JavaScript.
   *
   * `for await` lets the event loop run between chunks. Each loop starts at the first byte of its
   * part. Nested loops over one window each show their own chunk, which replaces the outer loop's
   * bytes.
   *
   * @throws as {@link Window.source}
   * @example
   * ```js
   * for await (const { bytes, byteOffset } of window.chunks(region, { chunk: 65_536 })) {
   *   console.log(byteOffset, bytes[0])
   * }
   * ```
   */
  chunks(region: HostRegion, options?: ChunkOptions): Chunks<A>

  /** Removes the window: see {@link Mapping.unmap}. Its sources can't be used any more. */
  unmap(): void
  /** Does the same as {@link Window.unmap}. */
  [Symbol.dispose](): void
}

/** One range of a memory's reservation. */
export interface LayoutRange {
  /**
   * What the range is.
   *
   * - `'linear'`: the module's own memory.
   * - `'mapped'`: a mapping or window.
   * - `'adopted'`: a buffer that this thread has adopted, with its pages' rests.
   * - `'reserved'`: inaccessible; the memory may grow into it.
   * - `'guard'`: inaccessible for good.
   */
  readonly kind: 'linear' | 'mapped' | 'adopted' | 'reserved' | 'guard'
  /** The first byte, from the start of the memory; negative for a guard below it. */
  readonly start: number
  /** The byte after the last. */
  readonly end: number
  /**
   * A mapping's access; `'readwrite'` for the module's own memory; `'none'` where nothing is
   * accessible.
   */
  readonly access: Access | 'readwrite' | 'none'
  /**
   * A mapping's region; `null` for other ranges, empty windows, and mappings that another thread
   * made.
   */
  readonly region: HostRegion | null
  /** The byte of the region at `start`; 0 for other ranges. */
  readonly byteOffset: number
  /**
   * For a window: how much of it shows the region, in whole host pages. Otherwise `undefined`.
   */
  readonly windowBytes: number | undefined
}

/**
 * The ranges of a memory's reservation, without gaps or overlaps. `console.log`, `util.inspect` and
 * `String` draw it.
 */
export class Layout implements Iterable<LayoutRange> {
  private constructor()
  /** The ranges, by address. */
  readonly ranges: readonly LayoutRange[];
  [Symbol.iterator](): Iterator<LayoutRange>
  /** Returns the drawing: a bar, and a line for each range. */
  toString(): string
}

/** A `WebAssembly.Module`, as {@link WasmMemory} is a `WebAssembly.Memory`. */
export type WasmModule = typeof globalThis extends {
  WebAssembly: { Module: { prototype: infer Module } }
}
  ? Module
  : object

/** A `WebAssembly.Instance`, as {@link WasmMemory} is a `WebAssembly.Memory`. */
export type WasmInstance = typeof globalThis extends {
  WebAssembly: { Instance: { prototype: infer Instance } }
}
  ? Instance & { readonly exports: Record<string, any> }
  : { readonly exports: Record<string, any> }

/**
 * Returns a copy of a module that exports all of its state: its memory (if it has exactly one), its
 * mutable globals and its tables. Blocks the thread; {@link InstancePool.create} and
 * {@link Snapshot.instantiate} do the same on another one.
 *
 * Added exports have names that start with `hostmap:`. Otherwise the module changes only by a
 * custom section `wasm-hostmap`, by which {@link InstancePool.create} recognizes a
 * `WebAssembly.Module` that was compiled from the result. Exposing twice is the same as exposing
 * once.
 *
 * That section is trusted in compiled modules: compile only what you exposed yourself. (In bytes it
 * is replaced.)
 *
 * If an instance may drop segments that it uses, or hold objects with mutable fields, its memory
 * has one more name (`hostmap:dropped-segments`, `hostmap:gc-objects`), by which {@link Snapshot}
 * knows.
 *
 * @param module The bytes of the module. They are not validated.
 * @throws
 * - `ERR_INVALID_ARG_VALUE`: the bytes can't be parsed (the message says where), or exceed the
 *   limits of all engines.
 * - `ERR_HOSTMAP_UNSUITABLE_MODULE`: it would need more than 100,000 added exports, or more than V8
 *   takes; or another version of this package exposed it. Then pass the original bytes.
 * - `ERR_HOSTMAP_OUT_OF_MEMORY`
 * @example
 * ```js
 * const { instance } = await WebAssembly.instantiate(exposeState(bytes), imports)
 * console.log(Object.keys(instance.exports)) // [..., 'hostmap:global:0', ...]
 * ```
 */
export function exposeState(
  module: ArrayBuffer | SharedArrayBuffer | ArrayBufferView
): ReturnType<typeof Uint8Array.from>

/** A module's request to grow a memory: see {@link GrowthOptions.onGrow}. */
export interface GrowthRequest {
  /** How many Wasm pages (64 KiB) to add: at least 1, possibly more than the memory can have. */
  readonly wasmPages: number
  /** The memory's current size, in bytes. */
  readonly byteLength: number
  /** The size after the growth, in bytes. */
  readonly newByteLength: number
  /** Which memory of the module, from 0. */
  readonly memoryIndex: number
  /** The memory; `null` while the start function runs, if the module makes the memory itself. */
  readonly memory: GuardedMemory | null
}

/** Options of {@link instrumentGrowth} and {@link InstancePoolOptions.growth}. */
export interface GrowthOptions {
  /**
   * Called before each growth, on the module's thread. Default: allow all.
   *
   * Return `false` to refuse: the module gets -1, as if memory had run out. Return `true` or
   * nothing to allow. An exception propagates through the module to its caller, and the memory does
   * not grow. Must not return a promise.
   */
  onGrow?: ((request: GrowthRequest) => boolean | void) | undefined
  /**
   * The largest size of a memory, in bytes. Growth beyond it is refused without calling `onGrow`.
   * Threads that grow one shared memory at the same moment may exceed it. Default: no limit.
   */
  limit?: number | undefined
}

/** A module whose `memory.grow` asks the host: see {@link instrumentGrowth}. */
export class InstrumentedModule {
  private constructor()

  /** The bytes of the module, with calls in place of `memory.grow`. */
  readonly bytes: ReturnType<typeof Uint8Array.from>
  /**
   * The import module of the host's functions: `'hostmap'`, or another name if the module uses that
   * one.
   */
  readonly importModule: string

  /**
   * Returns the imports for one instance: yours plus the host's functions.
   *
   * Each instance needs its own. Call `bind` with the instance as soon as it is made. Until then, a
   * memory that the module makes is grown by the module itself once the host allows it; imported
   * memories are known without `bind`.
   *
   * @example
   * ```js
   * const instrumented = instrumentGrowth(bytes)
   * const module = await WebAssembly.compile(instrumented.bytes)
   * const { imports, bind } = instrumented.importsFor({ env: {} })
   * const instance = new WebAssembly.Instance(module, imports)
   * bind(instance)
   * ```
   */
  importsFor(imports?: object): { imports: Record<string, any>; bind: (instance: object) => void }

  /**
   * Compiles the bytes, makes an instance and binds it.
   *
   * @throws (rejects) what V8 throws
   */
  instantiate(imports?: object): Promise<WasmInstance>
}

/**
 * Rewrites a module so that each `memory.grow` asks the host, which can watch, limit or refuse it.
 * Read-only mappings are protected again before the module continues.
 *
 * Blocks the thread. Can be combined with {@link exposeState}, in either order. Limits:
 *
 * - Growth by JavaScript (`WebAssembly.Memory.prototype.grow`) is not seen. Emscripten's modules
 *   grow that way.
 * - Function indices shift by one per memory that code grows, so snapshots of the original module
 *   don't fit.
 * - A memory that is not exported gets an export (`hostmap:memory`).
 * - Function names are kept. Compiler hints (`metadata.code.*`) are removed, and source maps and
 *   DWARF no longer match.
 *
 * @param module The bytes of the module. They are not validated.
 * @throws
 * - `ERR_INVALID_ARG_VALUE`: the bytes can't be parsed.
 * - `ERR_HOSTMAP_UNSUITABLE_MODULE`: code of an unknown proposal, more than 1,000 memories that are
 *   grown, or more functions, imports or types than V8 takes; or another version of this package
 *   exposed the module. Then pass the original bytes.
 * - `ERR_HOSTMAP_OUT_OF_MEMORY`
 * @example
 * ```js
 * const instrumented = instrumentGrowth(bytes, { limit: 256 * 2 ** 20 })
 * const instance = await instrumented.instantiate(imports)
 * ```
 */
export function instrumentGrowth(
  module: ArrayBuffer | SharedArrayBuffer | ArrayBufferView,
  options?: GrowthOptions
): InstrumentedModule

/**
 * State that can't be restored, and that may stay as the program left it. Used by
 * {@link InstancePoolOptions.accept}, {@link Snapshot.of}, {@link Snapshot.restoreTo},
 * {@link Snapshot.instantiate} and {@link CheckpointOptions.accept}.
 *
 * - `'hidden-globals'`, `'hidden-tables'`: what can't be reached. For a `WebAssembly.Module` that
 *   was not compiled from the result of {@link exposeState}: all that it does not export.
 *   Otherwise: tables whose elements JavaScript can't represent (`exnref`).
 * - `'v128-globals'`: mutable globals whose values JavaScript can't represent (`v128`, `exnref`).
 * - `'dropped-segments'`: passive segments that code running after the start function may both use
 *   and drop (`data.drop`, `elem.drop`). Nothing brings them back.
 * - `'gc-objects'`: structs and arrays with mutable fields that a global or table may refer to. The
 *   references are restored, the fields are not, and instances share the objects.
 * - `'grown-memory'`: the size of a memory that the program grew. The added bytes become zeros.
 * - `'grown-tables'`: the size of a table that has grown, where the module's code may have learnt
 *   it (by `table.grow` or `table.size`), or where nothing is known of the code. The added entries
 *   become null. Code that keeps books of its table in memory finds more entries than it remembers:
 *   that of wasm-bindgen aborts then.
 *
 * A {@link Checkpoint}, and a pool of what a factory makes, take memories and tables that have
 * grown without the last two: see {@link Checkpoint.restore}.
 */
export type AcceptedState =
  | 'hidden-globals'
  | 'hidden-tables'
  | 'v128-globals'
  | 'dropped-segments'
  | 'gc-objects'
  | 'grown-memory'
  | 'grown-tables'

/** What {@link capture} resolves to. */
export interface Captured<T> {
  /** What `make` returned, or what its promise resolved to. */
  readonly value: T
  /** The instances that `make` made. */
  readonly unit: CapturedUnit
}

/**
 * Runs a factory, such as `() => loadEngine(options)`, and captures the WebAssembly instances that
 * it makes, so that {@link checkpoint} can keep and restore all of their state.
 *
 * While `make` runs, functions and classes of `WebAssembly` are replaced: `compile`, `instantiate`,
 * `compileStreaming`, `instantiateStreaming`, `Module`, `Instance`, `Table`, and `promising` where
 * V8 has it. For code in `make`'s async context (see `AsyncLocalStorage` of node:async_hooks) they
 * compile what {@link exposeState} makes of the bytes; the instances' `exports` don't show what it
 * added. `FinalizationRegistry` is replaced, too: what is registered in one that `make` makes is
 * dropped when {@link Checkpoint.restore} goes back to a moment before. All other code gets what it
 * would have got. When the last capture of the thread ends, what was there before is back, unless
 * an engine with a large table was captured (see {@link Checkpoint.restore}): then when that is
 * collected. Captures can run at the same time, and in each other: then the outer one has the inner
 * one's instances, too.
 *
 * All instances that `make` makes are one unit: an engine, its side modules, helpers. Memories,
 * tables and globals that its glue makes and the modules import are part of it. The unit does not
 * keep the engine alive.
 *
 * Not captured are instances that are made before, after, in other threads, or by a function of
 * `WebAssembly` that code has kept from before. So let the engine load everything that it will need
 * (extensions, shared libraries) within `make`: PGlite loads `plpgsql`, for one, when it is used
 * first, or by `LOAD 'plpgsql'`.
 *
 * Costs: a second pass over each module's bytes, on another thread where the engine compiles
 * asynchronously (about 20 ms a MiB).
 *
 * @param make Makes the engine, and returns it or a promise of it. The promise must not resolve
 *   before the instances are made.
 * @throws (rejects) what `make` throws, or:
 * - `ERR_HOSTMAP_NOT_CAPTURED`: `make` made no instance in its async context; its promise resolved
 *   while an instance was still being made; it instantiated a `WebAssembly.Module` that was
 *   compiled elsewhere and not from the result of {@link exposeState} (by an earlier
 *   `PGlite.create()`, say, which keeps it), or one that can't be exposed; or a script has frozen
 *   `WebAssembly`. What `make` made works, and is not captured.
 * - `ERR_HOSTMAP_UNSUITABLE_MODULE`: a module has several memories.
 * @example
 * ```js
 * import { capture, checkpoint } from 'wasm-hostmap'
 *
 * const { value: made } = await capture(() => makeEngine())
 * const clean = checkpoint(made)
 * // After each test:
 * clean.restore()
 * ```
 */
export function capture<T>(make: () => T | PromiseLike<T>): Promise<Captured<T>>

/**
 * The instances that one call of {@link capture} made. It does not keep them alive: an instance
 * that nobody else holds has no state that matters.
 */
export class CapturedUnit {
  private constructor()
  /** How many instances were made. */
  readonly instanceCount: number
  /** How many memories they have. */
  readonly memoryCount: number
}

/**
 * Keeps a part of an engine's state that is in JavaScript: a file system, open streams, a cache.
 * Called once, when the checkpoint is taken; returns the function that restores that state, which
 * {@link Checkpoint.restore} calls each time. Both are synchronous, and neither may call into the
 * engine's checkpoints.
 */
export type StateKeeper = () => () => void

/** Options of {@link checkpoint}. */
export interface CheckpointOptions {
  /**
   * What keeps state in JavaScript. Called in order; after each restore of memories, tables and
   * globals, what they returned is called in the same order. Default: none.
   */
  state?: readonly StateKeeper[] | undefined
  /**
   * For a `WebAssembly.Instance` that was not captured: its module's bytes, or the
   * `WebAssembly.Module` that was compiled from what {@link exposeState} returned. They prove what
   * the instance does not export. Default: not known, so that it is refused unless `accept` has
   * `'hidden-globals'` and `'hidden-tables'`.
   */
  module?: ArrayBuffer | SharedArrayBuffer | ArrayBufferView | WasmModule | undefined
  /** State that need not be restored. Default: none. */
  accept?: readonly AcceptedState[] | undefined
  /**
   * Your promise for each restore: see {@link RestoreOptions.exclusive}. Required if a memory is
   * shared. Default: false.
   */
  exclusive?: boolean | undefined
  /** See {@link SnapshotOptions.keepResidentBytes}. Default: 524,288 (512 KiB) a memory. */
  keepResidentBytes?: number | undefined
  /** See {@link SnapshotOptions.hugePages}. Default: true. */
  hugePages?: boolean | undefined
  /** See {@link SnapshotOptions.name}. Default: `'checkpoint'`. */
  name?: string | undefined
}

/**
 * Takes a checkpoint of an engine: its memories, mutable globals and tables, and what
 * {@link CheckpointOptions.state} keeps of its JavaScript. {@link Checkpoint.restore} brings it
 * back there, at a cost that goes with what was written since.
 *
 * What the engine's JavaScript keeps and `state` does not stays as it is: variables of its glue,
 * pointers that an object of yours holds, and the files of an Emscripten module, unless `state` has
 * its `emscriptenState`. An engine that has files and does not export its `FS` (sql.js 1.17) can't
 * be brought back. Take the checkpoint when nothing is in progress: no transaction, no query.
 *
 * @param target A {@link CapturedUnit}; the value that the captured factory gave, or one of its
 *   instances (both mean the unit); or a `WebAssembly.Instance` that exports its memory and hides
 *   nothing: see {@link CheckpointOptions.module}.
 * @throws as {@link GuardedMemory.snapshot}; what `state` throws; and
 * - `ERR_HOSTMAP_NOT_CAPTURED`: the target is an engine that was made without {@link capture}.
 * - `ERR_HOSTMAP_NOT_RESTORABLE`: some state can't be reached or restored and is not in `accept`;
 *   a table shows an instance that was made after the capture; or tables have more than a million
 *   entries.
 * - `ERR_HOSTMAP_CALL_PENDING`: a call into the engine is suspended (by Asyncify or
 *   `WebAssembly.promising`, where the captured engine uses them), or WebAssembly has called the
 *   function that takes the checkpoint.
 * - `ERR_HOSTMAP_UNSUITABLE_MODULE`: the engine has no memory, or is gone.
 */
export function checkpoint(target: CapturedUnit | object, options?: CheckpointOptions): Checkpoint

/** Options of {@link once}. */
export interface OnceOptions {
  /** The file that has, or will have, the state after the call. */
  snapshot: string | URL
  /**
   * A snapshot of that file that you have already, to be used in place of reading it: one that
   * another thread has loaded and shared, say. It stays open. For shared memories this is the way
   * to have the pages once: they can't show a file's own, so each reads a copy otherwise. Default:
   * the file is opened by {@link Snapshot.open} with `verify`, or loaded where that can't be.
   */
  from?: Snapshot | undefined
  /**
   * The module's bytes, exposed or not. A file of another module is not used. For a
   * `WebAssembly.Instance` that was not captured they also prove what it does not export, as
   * {@link CheckpointOptions.module} does.
   */
  module: ArrayBuffer | SharedArrayBuffer | ArrayBufferView
  /**
   * A secret by which the file is signed and verified, as {@link SaveSnapshotOptions.key}. A file
   * that was not saved with it is not used. Default: none.
   */
  key?: SnapshotKey | undefined
  /** State that need not be restored. Default: none. */
  accept?: readonly AcceptedState[] | undefined
  /** See {@link RestoreOptions.exclusive}. Required if the memory is shared. Default: false. */
  exclusive?: boolean | undefined
  /** See {@link SnapshotOptions.keepResidentBytes}. Default: 524,288 (512 KiB). */
  keepResidentBytes?: number | undefined
  /** See {@link SnapshotOptions.hugePages}. Default: true. */
  hugePages?: boolean | undefined
}

/**
 * Makes an expensive call once for many processes and threads: runs `fn`, and saves the state of
 * the instance after it to a file. Where the file is there already, and the instance is in the very
 * state in which `fn` was called then, it takes on the state from the file and `fn` is not called.
 *
 * **Only the instance's own state comes back**: its memory, mutable globals and tables. What `fn`
 * changes elsewhere does not happen where it is not called: JavaScript objects and variables, those
 * of the module's glue included (files of MEMFS, say), files, and what imports have done. Let `fn`
 * make one call into the instance, and give what you need of it: a pointer or a handle.
 *
 * "The very state" is a SHA-256 of the module, the memory, globals and tables. A clock, random
 * numbers or an address of the process that the instance has stored before make it another one, and
 * `fn` is called. The file must be as trustworthy as the program: its writers decide what the
 * instance does. With `key`, only those who have the key can.
 *
 * Nothing is saved if `fn` throws. The file is replaced in one step, so nobody sees half of it. If
 * several find no file at once, each calls `fn`, and the last file stays. A file that is damaged,
 * or of another state, is replaced. Memories may show its pages, so write it in no other way: see
 * {@link Snapshot.open}. No other code may use the instance until the promise resolves.
 *
 * Cost: SHA-256 of the pages that are not zeros, on this thread (2 to 4 ms a MiB), and then either
 * one look at all of the file, or `fn`, a snapshot and its save.
 *
 * @param target One instance, as for {@link checkpoint}, with a memory and nothing mapped in it.
 * @param fn May be asynchronous. What it gives must be plain data: primitives, arrays, plain
 *   objects, ArrayBuffers and typed arrays, at most 512 KiB in all.
 * @returns A copy of what `fn` gave, now or then.
 * @throws (rejects) what `fn` throws; as {@link checkpoint}, {@link Snapshot.load},
 *   {@link Snapshot.save} and {@link Snapshot.restoreTo}; and
 * - `ERR_HOSTMAP_NOT_RESTORABLE`: the memory has mappings; a global or table refers to an object of
 *   this process; or `fn` gave more than plain data. In the last case it has been called.
 * - `ERR_HOSTMAP_UNSUITABLE_MODULE`: the target has several instances, or no memory.
 * @example
 * ```js
 * import { exposeState, once } from 'wasm-hostmap'
 *
 * const { instance } = await WebAssembly.instantiate(exposeState(bytes), imports)
 * const options = { snapshot: 'booted.snapshot', module: bytes }
 * await once(instance, () => instance.exports.boot(), options)
 * instance.exports.handle(42)
 * ```
 */
export function once<T>(
  target: CapturedUnit | object,
  fn: () => T | PromiseLike<T>,
  options: OnceOptions
): Promise<T>

/**
 * An engine's state at one moment, which {@link checkpoint} takes. It does not keep the engine
 * alive.
 */
export class Checkpoint implements Disposable {
  private constructor()

  /**
   * Brings the engine back to the checkpoint, as often as you like, and whatever it has done since:
   * traps, the end of the stack, and exceptions that left frames behind included.
   *
   * Memories stay as large as they are, with zeros past their size at the checkpoint; tables, too.
   * An entry of a table that was empty keeps a function of JavaScript's that was put there since,
   * and an entry that was added also one of the engine's own, since Emscripten's `addFunction` and
   * `dlsym` remember the index; anything else becomes null. Mappings and windows are as
   * {@link GuardedMemory.restore} describes.
   *
   * Finalizers (`FinalizationRegistry`) that were registered since the checkpoint are dropped, if
   * their registry was made by `make` of {@link capture}, or in a request of a pool: they would
   * free what is something else by now.
   *
   * Calls that the glue counts in JavaScript can't be told: with a call pending that nothing counts
   * (a query that was not awaited), the engine goes on in the restored state when its promise
   * resolves. Await what you begin.
   *
   * Costs what the written pages cost (see {@link GuardedMemory.restore}), 30 to 200 ns for each
   * entry of a table that may have been written, 5 to 40 us for a look at the stack, and what
   * `state` does.
   *
   * Of a table of 64 entries and more only what was written is read, if all that can write to it is
   * known: it was made within the capture, no code of the modules writes to it, and no instance was
   * given it later. To know that, the package gives such a table a method `set` of its own, which
   * notes the index, and keeps `WebAssembly.Table.prototype.set`, `WebAssembly.instantiate`,
   * `instantiateStreaming` and `Instance` replaced as long as the table lives. A function of
   * `WebAssembly` that a script kept from before, or has of another realm (node:vm), and calls with
   * the table goes past: what it writes is found later, since each restore reads 16 other entries
   * in turn, and from then on reads all. Where that is not enough, look functions of `WebAssembly`
   * up when they are called, or freeze the table in `make`: then all of it is read.
   *
   * @throws Nothing is changed where it throws
   * - `ERR_HOSTMAP_CALL_PENDING`: as for {@link checkpoint}; or `state` has called it.
   * - `ERR_HOSTMAP_NOT_RESTORABLE`: an instance was made since (an extension was loaded), or a
   *   function that glue had added to a table was removed; the glue would believe so afterwards,
   *   too. Or a table has grown whose added entries can't be null.
   * - `ERR_HOSTMAP_CHECKPOINT_CLOSED`, and what {@link GuardedMemory.restore} throws.
   *
   * The engine must be thrown away where it throws
   * - `ERR_HOSTMAP_CHECKPOINT_BROKEN`: this restore, or one before, failed half-way; for instance
   *   since a function of `state` threw. `cause` is what failed.
   */
  restore(): void

  /** Its name. */
  readonly name: string
  /** The size of the memories that it was taken of. */
  readonly byteLength: number
  /** How much memory the checkpoint itself takes now, without what `state` keeps. */
  readonly residentBytes: number
  /** What broke it: the error of the restore that failed half-way. `null` if none did. */
  readonly failure: unknown
  /** Whether `close` was called. */
  readonly closed: boolean

  /**
   * Closes it, which gives its memory back. The engine stays as it is. Closing twice does nothing.
   */
  close(): void
  /** Does the same as {@link Checkpoint.close}. */
  [Symbol.dispose](): void
}

/** Options of {@link InstancePool.create}. */
export interface InstancePoolOptions {
  /**
   * The imports: one object for all instances, or a function that returns an object for each, given
   * the instance's number from 0. Default: none.
   *
   * Mutable globals, tables and the memory must be new in each call. A module that imports its
   * memory needs the function, and all those memories must have one size. Must not return a
   * promise.
   */
  imports?: object | ((index: number) => object) | undefined
  /**
   * Called for each instance right after it is made, for imports that need the instance, such as
   * WASI's. Must not be asynchronous. Default: none.
   *
   * What it does to the first instance becomes part of the state of all; what it does to the others
   * is undone.
   */
  bind?: ((instance: WasmInstance, memory: GuardedMemory) => void) | undefined
  /**
   * Called once, for the first instance. Every acquired instance starts in the state that it
   * leaves. Regions that it maps are mapped in each instance. Default: none.
   */
  init?: ((instance: WasmInstance, memory: GuardedMemory) => unknown) | undefined
  /**
   * A saved state to start from instead of calling `init`: of a pool, or of an instance of what
   * {@link exposeState} returns. It must hold all of the module's state and be of this module,
   * which is checked if both digests are known. The pool does not close it; keep it open as long as
   * the pool. Default: none.
   */
  snapshot?: Snapshot | undefined
  /** How many instances `create` makes: 0 to `max`; at least 1 with `init`. Default: 1. */
  size?: number | undefined
  /**
   * The most instances at once: 1 to 1,000,000. Each takes 8 to 10 GiB of address space. Default:
   * 64.
   */
  max?: number | undefined
  /**
   * State that need not be restored. Anything else that can't be restored makes `create` reject, or
   * the instance is discarded. Default: none.
   */
  accept?: readonly AcceptedState[] | undefined
  /** See {@link SnapshotOptions.keepResidentBytes}. Default: 524,288 (512 KiB). */
  keepResidentBytes?: number | undefined
  /**
   * Watches each instance's growth as {@link instrumentGrowth} does. Only for modules given as
   * bytes. Snapshots of pools with and without this option are not interchangeable. Default: none.
   */
  growth?: GrowthOptions | undefined
}

/**
 * A unit of a pool of a factory: what one call of `make` gave, and its instances. Hooks get it; a
 * request gets a {@link PooledInstance}, which has the same properties until it is released.
 */
export interface FactoryUnit<T> {
  /** What `make` returned, or what its promise resolved to. */
  readonly value: T
  /** The main instance: the first with a memory that `make` made. */
  readonly instance: WasmInstance
  /** All instances that `make` and `init` made, in that order, and that somebody still holds. */
  readonly instances: readonly WasmInstance[]
  /** The exports of the main instance, as the engine sees them. */
  readonly exports: Record<string, any>
  /** The memory of the main instance. */
  readonly memory: GuardedMemory
}

/** What {@link FactoryPoolOptions.make} is given. */
export interface FactoryTools {
  /**
   * Makes the hook that an Emscripten module takes as `instantiateWasm`:
   * `createModule({ instantiateWasm: instantiateWasm(bytes) })`. For an engine whose own way to its
   * bytes can't be captured. Where it fails, the boot does. It serves this call of `make` alone.
   *
   * @param source The module's bytes. Or, to compile it once for all units, a `WebAssembly.Module`
   *   that was compiled from what {@link exposeState} returned.
   */
  instantiateWasm(
    source: ArrayBuffer | SharedArrayBuffer | ArrayBufferView | WasmModule
  ): (imports: any, receive: (instance: any, module: any) => unknown) => Record<string, never>
}

/** What a request has begun that is not over. */
export interface PendingWork {
  /** How much. */
  readonly count: number
  /**
   * How much of each kind, as node:async_hooks names it: `{ Timeout: 2, PROMISE: 1 }`. `PROMISE` is
   * a function that waits for a promise. `SUSPENDED_CALL` is a call into the unit, and
   * `STACK_OVERFLOW` what was begun at the end of the stack, where it can't be told what it is.
   */
  readonly kinds: Readonly<Record<string, number>>
}

/** Options of {@link InstancePool.create} for a pool of what a factory makes. */
export interface FactoryPoolOptions<T> {
  /**
   * Makes the value of one unit, such as `() => loadPyodide()`, and returns it or a promise of it.
   * Called for each unit. {@link capture} describes what it may do: instances must be made in its
   * async context and before its promise resolves. It must not return an engine, or use a memory,
   * global or table, that another unit has.
   *
   * It runs in an async context of its own: `AsyncLocalStorage` of the request that a unit is
   * booted for is not seen. It can't acquire from the pool that waits for it. One call runs at a
   * time, so it must end, by a timeout where it waits for anything.
   */
  make: (tools: FactoryTools) => T | PromiseLike<T>
  /**
   * Brings a unit into the state in which requests find it: loads packages, warms caches. Called
   * for each unit, after `make` and captured like it, so that instances that it makes are part of
   * the unit. May be asynchronous. Default: none.
   */
  init?: ((unit: FactoryUnit<T>) => unknown) | undefined
  /**
   * What keeps state in JavaScript: see {@link CheckpointOptions.state}. Each function is called
   * once for each unit, after `init`, and returns the function that restores that state, which is
   * called after each request, once memories, tables and globals are back; and once at the boot, so
   * that what fails does so there. Both are synchronous. If the latter throws after a request, the
   * unit is discarded. Default: none.
   *
   * Where an adapter gives what {@link CheckpointOptions.state} takes, call it:
   * `({ value }) => emscriptenState(value)()`.
   */
  state?: readonly ((unit: FactoryUnit<T>) => () => void)[] | undefined
  /**
   * Called before each request, in its async context. May be asynchronous. If it throws, `acquire`
   * or `run` rejects with that, `after` is not called, and the unit goes back to its state.
   * Default: none.
   */
  before?: ((unit: FactoryUnit<T>) => unknown) | undefined
  /**
   * Called after each request, in its async context and before the unit is restored; with what the
   * function given to `run` threw, if it did. Not called after {@link PooledInstance.discard}. May
   * be asynchronous: the unit is busy until it is done. If it throws, the unit is discarded; `run`
   * still resolves to what its function returned. Default: none.
   */
  after?: ((unit: FactoryUnit<T>, error?: unknown) => unknown) | undefined
  /**
   * Called once for each unit that `make` gave and that the pool lets go: discarded, idle when the
   * pool is closed or released after that, or not booted to the end; to call `php.exit()`, say, and
   * to stop timers that `make` began. The unit's state is whatever was left; afterwards its memory
   * is zeros, unless something may still run in it. May be asynchronous. What it throws becomes
   * {@link PoolStats.lastFailure}. Default: none.
   */
  destroy?: ((unit: FactoryUnit<T>) => unknown) | undefined
  /**
   * What happens to a unit whose request has left work that is not over: timers, promises, calls
   * and handles that were begun in its async context. They can't be called back, and would go on in
   * the state of another request.
   *
   * - `'discard'`: the unit is discarded if some is left one turn of the event loop after the
   *   release.
   * - `'ignore'`: nobody looks. For requests that can't begin any, or whose work does not touch the
   *   unit.
   * - A function, called with what is left: `true` means that it is harmless.
   *
   * Default: `'discard'`.
   */
  pending?: 'discard' | 'ignore' | ((pending: PendingWork) => boolean) | undefined
  /**
   * How many units `create` boots, one after another: 0 to `max`. Others are booted when they are
   * needed. Default: 1.
   */
  size?: number | undefined
  /**
   * The most units at once: 1 to 1,000,000. Each has its own copy of all that it consists of.
   * Default: 4, or `size` if that is larger.
   */
  max?: number | undefined
  /**
   * A unit whose memories together are larger than this after a request, in bytes, is discarded.
   * Memories can't shrink: a unit keeps its memories as large as requests grew them, though the
   * pages that were added are given back. Allocators that use only what they grew themselves
   * (those of wasi-libc and Rust) grow them a bit more in each request, until there is no more.
   * Default: 1 GiB more than they have after `init`.
   */
  maxMemoryBytes?: number | undefined
  /** State that need not be restored: see {@link CheckpointOptions.accept}. Default: none. */
  accept?: readonly AcceptedState[] | undefined
  /** See {@link SnapshotOptions.keepResidentBytes}. Default: 524,288 (512 KiB) a memory. */
  keepResidentBytes?: number | undefined
}

/** The numbers of a pool: see {@link InstancePool.stats}. */
export interface PoolStats {
  /** All instances: idle, busy, or being made. */
  readonly size: number
  /** Instances that can be acquired. */
  readonly idle: number
  /** Instances that are acquired and not released, or not restored yet. */
  readonly busy: number
  /** Calls to `acquire` that wait. */
  readonly waiting: number
  /** The most instances at once. */
  readonly max: number
  /** How many instances were ever made. */
  readonly created: number
  /** How many were dropped: they could not be restored, or `discard` was called. */
  readonly discarded: number
  /** How often an instance was handed out. */
  readonly acquired: number
  /** How often an instance was restored at its release. */
  readonly restored: number
  /** How long that alone took, in microseconds; 0 before the first. */
  readonly restoreMicroseconds: {
    readonly last: number
    readonly mean: number
    readonly max: number
  }
  /**
   * Why an instance could last not be restored; `null` if that never happened. In a pool of a
   * factory: why a unit was last discarded, which may be anything that `after` threw; or what
   * `destroy`, or a boot that nobody waited for any more, threw last.
   */
  readonly lastFailure: Error | null
}

/**
 * Instances that all start in the same state, and return to it when they are released: memory,
 * mutable globals and tables. Either of one module, or units of what a factory makes, such as
 * Pyodide: then also what {@link FactoryPoolOptions.state} keeps of its JavaScript.
 *
 * A program finds nothing of those that ran before it, however they ended, even by a trap deep in
 * the stack. Exceptions:
 *
 * - State that {@link AcceptedState} names.
 * - Host objects in `externref` globals and tables, and behind imports, are the same for all
 *   instances. But each {@link WindowSource} of a window that is part of the state starts again at
 *   its `byteOffset`.
 * - A NaN in a global comes back as a NaN, perhaps with other bits.
 * - Of a factory: what its JavaScript keeps and no `state` does; the size of memories and tables
 *   that grew; and what {@link Checkpoint.restore} lets stay in tables.
 *
 * An instance that can't be restored is discarded, and another is made when needed. Reasons: its
 * memory has grown (without `'grown-memory'`); a table has grown whose size its code may have
 * learnt (without `'grown-tables'`), or that takes no null; it has a mapping or window that the
 * snapshot does not have, one of the snapshot's was unmapped, or the kernel has no memory. See
 * {@link PoolStats.lastFailure}. If the memory is shared, no other thread may run when an instance
 * is released. Of tables, a release reads what {@link Checkpoint.restore} reads.
 *
 * A unit of a factory is discarded if
 *
 * - its request left work that is not over (`ERR_HOSTMAP_REQUEST_PENDING`; see
 *   {@link FactoryPoolOptions.pending}), or a call into it that is suspended
 *   (`ERR_HOSTMAP_CALL_PENDING`), one turn of the event loop after its release;
 * - `after`, `pending` or a function of `state` threw;
 * - its memories are larger than `maxMemoryBytes`, one of its mappings or windows was unmapped, or
 *   {@link Checkpoint.restore} throws.
 *
 * All instances of a unit go back, or the unit is discarded. Its memory is given back at once,
 * unless something may still run in it; its value is dropped.
 *
 * @typeParam T What the factory makes; `undefined` in a pool of a module.
 */
export class InstancePool<T = undefined> implements Disposable {
  private constructor()

  /**
   * Makes a pool of what a factory makes: boots `size` units, one after another. Each is made by
   * `make` and `init`, and keeps a {@link Checkpoint} of its own, to which it goes back after each
   * request.
   *
   * Costs: a unit takes as long as its factory, and the memory of a snapshot beside its own. One
   * unit boots at a time. A restore costs what {@link Checkpoint.restore} says.
   *
   * @throws (rejects) as {@link capture}, {@link checkpoint} and {@link Checkpoint.restore}; what
   *   `make`, `init` and `state` throw
   * @throws
   * - `ERR_HOSTMAP_UNSUITABLE_MODULE`: `make` made no instance that has a memory, or gave a unit
   *   with a memory, global or table that another unit has.
   * @example
   * ```js
   * const pool = await InstancePool.create({
   *   make: () => makeEngine(), // for each unit
   *   init: ({ value }) => value.exports.boot(), // all requests start in the state after it
   *   size: 2
   * })
   * const answer = await pool.run(({ value }) => value.exports.handle(42))
   * ```
   */
  static create<T>(options: FactoryPoolOptions<T>): Promise<InstancePool<T>>

  /**
   * Compiles the module if necessary, makes an instance, calls `init`, takes a snapshot, and makes
   * the other instances.
   *
   * @param module The bytes of the module, which go through {@link exposeState}; or a
   *   `WebAssembly.Module` that exports its memory. Nobody can tell what a compiled module hides
   *   unless it was compiled from the result of `exposeState`. Otherwise it is refused unless
   *   `accept` names `'hidden-globals'` and `'hidden-tables'`, and anything else that can't be
   *   restored goes unnoticed. What a compiled module says of itself is trusted and can be forged:
   *   pass untrusted modules as bytes.
   * @throws (rejects) as {@link Snapshot.of} and {@link Snapshot.restoreTo}; what compiling,
   *   instantiating, `imports`, `bind` and `init` throw
   * @throws
   * - `ERR_HOSTMAP_UNSUITABLE_MODULE`
   * - `ERR_HOSTMAP_NOT_RESTORABLE`: state that can't be restored; or other instances can't reach
   *   the state that `init` left, because they don't show a function in a table.
   * - `ERR_HOSTMAP_SNAPSHOT_MISMATCH`: `snapshot` is of another module; or an instance's memory is
   *   larger than the state's, without `'grown-memory'`.
   * @example
   * ```js
   * const pool = await InstancePool.create(bytes, {
   *   imports,
   *   init: instance => instance.exports.boot(), // once; all instances start in the state after it
   *   max: 100
   * })
   * const answer = await pool.run(({ exports }) => exports.handle(42))
   * ```
   */
  static create(
    module: (ArrayBuffer | SharedArrayBuffer | ArrayBufferView | WasmModule) & { make?: never },
    options?: InstancePoolOptions
  ): Promise<InstancePool>

  /**
   * Acquires an instance for exclusive use until it is released.
   *
   * Waits if `max` instances are busy; waiters are served in order. An instance that is never
   * released is never handed out again. Prefer {@link InstancePool.run}, which always releases.
   *
   * In a pool of a factory, use {@link PooledInstance.run}: what is begun elsewhere does not count
   * as begun by the request.
   *
   * @param options.signal Aborts the wait with an `AbortError` (code `ABORT_ERR`).
   * @throws (rejects) `ERR_HOSTMAP_POOL_CLOSED`, `ABORT_ERR`; and what making another instance
   *   throws, of which each failure rejects one waiter. In a pool of a factory: what `before`
   *   throws; `ERR_HOSTMAP_CALL_PENDING` if `make` or `init` calls it of the pool that waits for
   *   them.
   * @example
   * ```js
   * const pooled = await pool.acquire()
   * try {
   *   pooled.exports.handle(42)
   * } finally {
   *   pooled.release()
   * }
   * ```
   */
  acquire(options?: { signal?: AbortSignal | undefined }): Promise<PooledInstance<T>>

  /**
   * Calls a function with an instance, and releases the instance when the function, or the promise
   * that it returns, is done, whatever the outcome.
   *
   * In a pool of a factory the function runs in the request's async context: what it begins must be
   * over when it is done (see {@link FactoryPoolOptions.pending}). The promise resolves once the
   * unit is restored or discarded.
   *
   * @param options.signal Aborts the wait for an instance.
   * @returns What the function returned.
   * @throws (rejects) as {@link InstancePool.acquire}; what the function throws;
   *   `ERR_HOSTMAP_FAULTED` if a strict mapping or window faulted
   */
  run<R>(
    fn: (instance: PooledInstance<T>) => R | PromiseLike<R>,
    options?: { signal?: AbortSignal | undefined }
  ): Promise<R>

  /** Returns the pool's current numbers. Works after `close`. */
  stats(): PoolStats
  /**
   * The state that instances start in. `close` closes it, unless you passed it. `null` in a pool of
   * a factory: each unit has its own, half of which is JavaScript.
   */
  readonly snapshot: [T] extends [undefined] ? Snapshot : null
  /** Whether `close` was called. */
  readonly closed: boolean

  /**
   * Closes the pool. Waiters are rejected with `ERR_HOSTMAP_POOL_CLOSED`. Acquired instances stay
   * usable until they are released. Closing twice does nothing.
   *
   * Of a pool of a factory, idle units are destroyed; one that boots is when that is done.
   */
  close(): void
  /** Does the same as {@link InstancePool.close}. */
  [Symbol.dispose](): void
}

/**
 * An acquired instance, or unit of a factory. After its release, everything except `released`,
 * `release` and `discard` throws `ERR_HOSTMAP_INSTANCE_RELEASED`.
 *
 * @typeParam T What the factory makes; `undefined` in a pool of a module.
 */
export class PooledInstance<T = undefined> implements Disposable {
  private constructor()
  /** What the factory made; `undefined` in a pool of a module. */
  readonly value: T
  /** The instance itself. Of a unit, the main one: see {@link FactoryUnit.instance}. */
  readonly instance: WasmInstance
  /** Of a unit, all of its instances: see {@link FactoryUnit.instances}. */
  readonly instances: readonly WasmInstance[]
  /**
   * Its exports, without those that the pool added. Don't use them after the release: someone else
   * may have the instance then.
   */
  readonly exports: Record<string, any>
  /** Its memory. */
  readonly memory: GuardedMemory
  /** Whether `release` was called. */
  readonly released: boolean

  /**
   * Calls a function in the request's async context, and returns what it returns. In a pool of a
   * factory, what the function begins counts as begun by the request: see
   * {@link FactoryPoolOptions.pending}. {@link InstancePool.run} does this by itself.
   */
  run<R>(fn: (instance: this) => R): R

  /**
   * Restores the instance and returns it to the pool. Releasing twice does nothing.
   *
   * Use {@link PooledInstance.discard} instead if code of the instance is on the stack, or
   * suspended and might continue (promise integration, another thread). Drop views of the memory's
   * buffer, functions and tables: they would reach the next user's instance.
   *
   * If the instance can't be restored, it is discarded (see {@link PoolStats.lastFailure}). The
   * only exception is a RangeError at the end of the stack: nothing has changed, and you can
   * release it again.
   *
   * A unit of a factory is restored when this returns, unless `after` is asynchronous, the stack
   * has little room, or something is left that may be over in the next turn of the event loop: work
   * of the request, or a call on the stack. It counts as busy till then.
   */
  release(): void

  /**
   * Takes the instance out of the pool instead of releasing it, for one that may still be running.
   * A waiter gets a new one. Does nothing after a release.
   */
  discard(): void
  /** Does the same as {@link PooledInstance.release}. */
  [Symbol.dispose](): void
}

/** What this machine, process and V8 allow. See {@link limits}. */
export interface Limits {
  /** The size of a host page, in bytes. */
  readonly pageSize: number
  /** What V8 allows in a WebAssembly memory. */
  readonly wasm: {
    /** The size of a Wasm page, in bytes: 65536. */
    readonly pageSize: 65536
    /** The largest 32-bit memory, in Wasm pages. */
    readonly maxPages32: number
    /** The largest 64-bit memory, in Wasm pages; 0 if this V8 has none. */
    readonly maxPages64: number
    /** The address space that a 32-bit memory takes, including guards, in bytes. */
    readonly reservationBytes32: number
    /** The address space that a 64-bit memory takes, including guards, in bytes; 0 if none. */
    readonly reservationBytes64: number
    /** Whether V8 guards memories with inaccessible pages (its trap handler). */
    readonly trapHandler: boolean
  }
  /** The process's address space. */
  readonly addressSpace: {
    /** Its size, in bytes. */
    readonly totalBytes: number
    /** The bytes that nothing takes. */
    readonly freeBytes: number
    /** The largest gap, in bytes. */
    readonly largestFreeBytes: number
  }
  /** The limit on address space (RLIMIT_AS, `ulimit -v`), in bytes; `Infinity` if there is none. */
  readonly rlimitAddressSpaceBytes: number
  /** `vm.overcommit_memory`: 0 is `'heuristic'`, 1 `'always'`, 2 `'never'`. */
  readonly overcommit: 'heuristic' | 'always' | 'never'
  /**
   * How faulting accesses are handled: see docs/faults.md. Reading this installs the fault guard,
   * as the first mapping or view does.
   */
  readonly faultGuard: {
    /**
     * The handler for SIGSEGV and SIGBUS.
     *
     * - `'first'`: the kernel calls it first, and it passes on what is not its own.
     * - `'covered'`: another one was installed later (by another addon or another copy of this
     *   package) and must pass faults on.
     * - `'none'`: `WASM_HOSTMAP_FAULT_GUARD` is `off` or `0` in the environment that the process
     *   started with, or installing it failed. Writes to read-only pages end the process.
     */
    readonly handler: 'first' | 'covered' | 'none'
    /**
     * Whether faulting loads and stores of modules trap. If not, their writes go to private pages
     * and they read zeros where data is missing.
     */
    readonly traps: boolean
    /** Why there is no handler, or no traps; `null` if there are both. */
    readonly reason: string | null
  }
  /** The process's memory mappings (VMAs). */
  readonly mapCount: {
    /** How many there are. */
    readonly used: number
    /** How many there may be: `vm.max_map_count`. */
    readonly limit: number
  }
  /**
   * Whether the kernel, and what filters its calls, let this process have a userfaultfd whose
   * missing pages raise a signal. Paged regions use it; without it they take memory mappings.
   */
  readonly userfaultfd: boolean
  /**
   * An estimate of how many more 32-bit guarded memories fit, by address space, RLIMIT_AS and
   * mappings, of which one in eight is left to V8. 0 where V8 has no trap handler.
   *
   * What is not collected yet counts as taken: memories that nobody holds any more, and the two or
   * three that the first call makes to measure V8's reservations.
   */
  readonly guardedMemoriesLeft: number
}

/**
 * Returns what this machine, process and V8 allow right now.
 *
 * Reads the process's memory map, so don't call it on hot paths.
 *
 * @example
 * ```js
 * const { guardedMemoriesLeft, faultGuard } = limits()
 * if (faultGuard.handler !== 'first') console.warn(faultGuard.reason)
 * ```
 */
export function limits(): Limits

/**
 * What {@link inspect} leaves out, or adds.
 */
export interface InspectOptions {
  /**
   * Whether to read the process's map: what is in memory, and of what the rest of the address space
   * is made. Without it, all `resident` are `null`. Default: `true`.
   */
  readonly processMap?: boolean
  /**
   * Whether to list the pages of each entry of the map that are in memory, for a page that zooms to
   * them. Default: `false`.
   */
  readonly pages?: boolean
}

/** How much of something is in memory, in bytes, by the kernel's count. */
export interface InspectedResident {
  /** In memory, and in the page tables of this process (RSS). */
  readonly residentBytes: number
  /** The same, each page divided by how many mappings of all processes show it (PSS). */
  readonly proportionalBytes: number
  /** Of `residentBytes`, what was written and is no file's or region's any more. */
  readonly ownBytes: number
  readonly swappedBytes: number
}

/** The counts of {@link Mapping.faults} and its neighbours. `null`: not known from outside. */
export interface InspectedFaults {
  readonly strayWrites: number | null
  readonly faults: number | null
  readonly unacknowledgedFaults: number | null
  readonly lastFault: Fault | null
}

/** A mapping or window of a memory. */
export interface InspectedMapping extends InspectedFaults {
  /** `null`: from outside, the two look the same. */
  readonly kind: 'mapping' | 'window' | 'adopted' | null
  /** Where it is in its memory, in bytes from the memory's start. */
  readonly address: number
  /** Bytes of its place, in whole host pages. */
  readonly byteLength: number
  readonly access: Access
  /**
   * Which of {@link Inspection.regions} it shows; `null`: an empty window, or an adopted buffer.
   */
  readonly regionId: number | null
  /** The byte of the region at its start. */
  readonly byteOffset: number | null
  /** How much of its place shows the region. */
  readonly shownBytes: number
  /** As {@link Window.rest}; `null` for a mapping. */
  readonly rest: 'trap' | 'zeros' | null
  readonly strict: boolean | null
  /** Whether it was made by the thread that was asked. */
  readonly ofThisThread: boolean | null
  readonly resident: InspectedResident | null
}

/** A `WebAssembly.Memory`. */
export interface InspectedMemory {
  /** Its place in {@link Inspection.memories}. */
  readonly id: number
  /** The address of its first byte, in the process. */
  readonly base: number
  /** Of another thread's memory, the size when anything was last done with it, or more. */
  readonly byteLength: number
  /** `null`: not known. V8 tells it only of memories that it made for this package. */
  readonly maximumByteLength: number | null
  readonly address: 'i32' | 'i64' | null
  readonly shared: boolean | null
  readonly guarded: boolean | null
  /** The addresses that V8 keeps for it; `null`: not known, or there are no guards. */
  readonly reservation: { readonly start: number; readonly end: number } | null
  /**
   * - `'object'`: the thread that was asked has a `GuardedMemory` for it.
   * - `'table'`: the process's mapping table knows it; its object is another thread's.
   * - `'mappings'`: the same, and no thread has an object for it any more.
   * - `'shape'`: recognised from outside, by what V8 reserves.
   */
  readonly knownBy: 'object' | 'table' | 'mappings' | 'shape'
  /** Whether only its buffer is known: its module shows no memory. */
  readonly hidden: boolean | null
  /** Mappings and windows of all threads, by address. */
  readonly mappings: readonly InspectedMapping[]
  /** Of the memory with its mappings, without its guards. */
  readonly resident: InspectedResident | null
}

/** A {@link HostRegion}. The counts of faults are those of its views. */
export interface InspectedRegion extends InspectedFaults {
  readonly id: number
  readonly name: string
  /**
   * `'closed'` and `'elsewhere'` (of another thread): it is here since a mapping shows it.
   * `'unknown'`: seen from outside, where it may be a snapshot as well.
   */
  readonly state: 'open' | 'closed' | 'elsewhere' | 'unknown'
  readonly backing: 'memfd' | 'file' | null
  /** Of a file that is mapped anywhere. */
  readonly path: string | null
  /** The file's device as /proc/self/maps has it, and its inode, in decimal digits. */
  readonly device: string | null
  readonly inode: string
  /** Where the region starts in its file. */
  readonly fileOffset: number | null
  readonly byteLength: number | null
  /** Bytes of memory that its memfd takes, mapped or not; `null` for a file. */
  readonly heldBytes: number | null
  readonly writable: boolean | null
  readonly sealed: boolean | null
  /** As {@link HostRegion.holders}. */
  readonly holders: {
    readonly views: number
    readonly buffers: number
    readonly byteLength: number
  } | null
  /** At all addresses of this process where it is mapped: each counts. */
  readonly resident: InspectedResident | null
}

/** A {@link Snapshot}. */
export interface InspectedSnapshot {
  readonly id: number
  readonly name: string
  readonly backing: 'memfd' | 'file'
  readonly device: string
  readonly inode: string
  /** Of the memory that it was taken of. */
  readonly byteLength: number
  /** Bytes of memory that its memfd takes, or of disk that its file does. */
  readonly heldBytes: number
  /** How many mappings and windows it keeps. */
  readonly keptMappings: number
  /** Which of {@link Inspection.memories} show pages of it. Empty without `processMap`. */
  readonly memories: readonly number[]
  readonly resident: InspectedResident | null
}

/** An {@link InstancePool}, with the numbers of {@link InstancePool.stats}. */
export interface InspectedPool extends Omit<PoolStats, 'lastFailure'> {
  readonly id: number
  readonly of: 'module' | 'factory'
  readonly closed: boolean
  /** Which of {@link Inspection.snapshots} its instances go back to. */
  readonly snapshotId: number | null
  /** The message of the last failure. */
  readonly lastFailure: string | null
}

/** An entry of the process's map (a VMA), as /proc/self/smaps has it. */
export interface InspectedEntry {
  readonly start: number
  readonly end: number
  /** Such as `'rw-p'`. */
  readonly access: string
  readonly fileOffset: number
  readonly device: string
  /** In decimal digits; `'0'`: no file. */
  readonly inode: string
  /** Empty for anonymous memory. A file's name may hold any character. */
  readonly path: string
  readonly residentBytes: number | null
  readonly proportionalBytes: number | null
  readonly ownBytes: number | null
  readonly swappedBytes: number | null
  /**
   * With {@link InspectOptions.pages}: runs of pages that are in memory or swapped out, by address,
   * in host pages from `start`. `null`: too many to be listed, or not told.
   */
  readonly pages?:
    | readonly {
        readonly from: number
        readonly count: number
        readonly kind: 'own' | 'shared' | 'swapped'
      }[]
    | null
}

/** What {@link inspect} found: plain data, which `JSON.stringify` takes as it is. */
export interface Inspection {
  readonly format: 'wasm-hostmap.inspection'
  /** It changes where what reads saved inspections would be wrong about them. */
  readonly version: 1
  /** As `Date.prototype.toISOString` gives it. */
  readonly takenAt: string
  readonly pid: number
  /** The `threadId` of each thread that was asked: of `inspect`, this one. */
  readonly threads: readonly number[]
  /** The version of this package. */
  readonly hostmap: string
  readonly runtime: string
  /** Bytes of a host page. */
  readonly pageBytes: number
  /** Of all threads, by address. */
  readonly memories: readonly InspectedMemory[]
  /** Open ones of this thread, and those that mappings of any thread show. */
  readonly regions: readonly InspectedRegion[]
  /** Open ones of this thread. */
  readonly snapshots: readonly InspectedSnapshot[]
  /** Of this thread. */
  readonly pools: readonly InspectedPool[]
  /** Of the process; `null` without `processMap`. */
  readonly resident: InspectedResident | null
  /** By address; `null` without `processMap`. */
  readonly processMap: readonly InspectedEntry[] | null
}

/**
 * Returns what is where in this process: memories, mappings, windows, regions, snapshots, pools,
 * faults, and how much of each is in memory. It is data of one moment, and keeps nothing alive.
 *
 * Objects that were not collected yet are listed. `npx wasm-hostmap inspect --file FILE` draws what
 * was saved.
 *
 * Cost: reading the process's map takes some 20 us for each of its entries, of which an empty
 * process has 200, and 20 ms for each GiB in memory. `{ processMap: false }` takes 50 us, and 15 us
 * for each region with a mapping. Nothing is counted or kept for it: a program that never calls it
 * pays nothing.
 *
 * @throws `ERR_HOSTMAP_READ_FAILED` if /proc/self/smaps can't be read;
 *   `ERR_HOSTMAP_OUT_OF_MEMORY`
 * @example
 * ```js
 * const { memories, regions } = inspect()
 * for (const { name, resident } of regions) console.log(name, resident?.proportionalBytes)
 * ```
 */
export function inspect(options?: InspectOptions): Inspection

/** Where {@link allowInspect} answers. */
export interface InspectAccess {
  /** The path of the Unix socket. */
  readonly path: string
  /** Answers nobody any more. */
  close(): void
  /** Does the same as {@link InspectAccess.close}. */
  [Symbol.dispose](): void
}

/**
 * Lets `npx wasm-hostmap inspect PID` ask this thread what only it knows: mappings and windows,
 * faults, snapshots and pools. Without it, the command shows what the kernel tells.
 *
 * It listens on a Unix socket in a folder that only the process's user (and root) can enter:
 * `wasm-hostmap` in `$XDG_RUNTIME_DIR`, or `wasm-hostmap-UID` in the folder for temporary files.
 * Answers have names, sizes and addresses, and no contents; nothing is read from who asks. It does
 * not keep the process running. Each thread allows it for itself.
 *
 * Cost: one descriptor, and what {@link inspect} takes for each question.
 *
 * @param options `directory`: another folder, whose parent exists. It is made if it is not there.
 * @throws (rejects) `ERR_HOSTMAP_OPEN_FAILED` if others can enter the folder, or no socket can be
 *   made in it
 * @example
 * ```js
 * const access = await allowInspect()
 * console.log(access.path)
 * access.close()
 * ```
 */
export function allowInspect(options?: {
  readonly directory?: string | URL
}): Promise<InspectAccess>

/**
 * Counts and gauges of the whole process: of all threads, and of all copies of the package.
 *
 * A count only grows, and starts at 0 with the process. A gauge is what there is now. Names and
 * meanings don't change between minor versions; properties may be added.
 *
 * Where `WASM_HOSTMAP_FAULT_GUARD` is `off`, the gauges of mappings and windows, and all faults,
 * are 0.
 */
export interface Metrics {
  /** Gauge: mappings in memories now, and adopted buffers. */
  readonly mappings: number
  /** Gauge: bytes of address space of these mappings, in whole host pages. */
  readonly mappingBytes: number
  /**
   * Count: mappings made by {@link GuardedMemory.map}, and not those that a restore makes; and
   * buffers adopted.
   */
  readonly mapped: number
  /** Gauge: windows in memories now. */
  readonly windows: number
  /** Gauge: bytes of address space of these windows. */
  readonly windowBytes: number
  /** Count: windows opened by {@link GuardedMemory.window}. */
  readonly windowsOpened: number
  /** Count: mappings and windows that a call unmapped. A collected memory unmaps without one. */
  readonly unmapped: number
  /** Count: slides, those by a source or by chunks included. */
  readonly slides: number
  /**
   * Count: growths of memories through the package: `grow`, `reserve`, mappings past the end, and
   * modules of {@link instrumentGrowth}. V8 tells nobody of a module's own `memory.grow`.
   */
  readonly growths: number
  /** Count: bytes that memories grew by in these. */
  readonly grownBytes: number
  /** Gauge: regions that are open, or that an open snapshot holds. */
  readonly regions: number
  /** Gauge: bytes of these regions. Not all of them need be in memory. */
  readonly regionBytes: number
  /** Count: regions made, opened or received. */
  readonly regionsMade: number
  /** Gauge: snapshots that are not closed or collected. */
  readonly snapshots: number
  /** Gauge: bytes of the pages in these snapshots. */
  readonly snapshotBytes: number
  /** Count: snapshots taken, loaded, opened or received. */
  readonly snapshotsMade: number
  /** Count: restores of a memory, those of pools and checkpoints included. */
  readonly restores: number
  /** Count: resets of a memory, those of instances that a pool lets go included. */
  readonly resets: number
  /** Count: host pages that restores and resets copied back. */
  readonly copiedPages: number
  /**
   * Count: restores that dropped written pages, since there were more than `keepResidentBytes`, or
   * since the kernel (before 6.7) does not tell which were written. Each dropped page costs a page
   * fault when it is next used.
   */
  readonly droppingRestores: number
  /** Counts of all pools. {@link InstancePool.stats} tells of one. */
  readonly pool: {
    /** Instances, or units of a factory, made. */
    readonly made: number
    /** Instances lent. */
    readonly acquired: number
    /** Calls of `acquire` that could not be served at once. */
    readonly waited: number
    /** Instances released, and restored unless the pool was closed. */
    readonly released: number
    /** Instances thrown away: by `discard`, or because they could not be restored. */
    readonly discarded: number
  }
  /** Counts of faults in mappings, windows, views and memories of opened snapshots, by cause. */
  readonly faults: {
    /**
     * Writes to read-only pages. `trap`: the module got a RuntimeError. `private-page`: a stray
     * write, which went to a private copy of the page.
     */
    readonly readonly: { readonly trap: number; readonly 'private-page': number }
    /** Accesses to pages whose contents could not be had, where a file got shorter, say. */
    readonly unavailable: { readonly trap: number; readonly zeros: number }
    /** Accesses to broken memory. */
    readonly 'memory-error': { readonly trap: number; readonly zeros: number }
    /** Accesses past what a window shows. */
    readonly 'past-end': { readonly trap: number; readonly zeros: number }
  }
}

/** One metric, as exporters want it. */
export interface MetricFamily {
  /** As Prometheus names it: `wasm_hostmap_slides_total`. */
  readonly name: string
  readonly type: 'counter' | 'gauge'
  /** What it counts, in one line. */
  readonly help: string
  /** `'bytes'`, or `''` for a number of things. */
  readonly unit: '' | 'bytes'
  /** One without labels, or one for each `cause` and `outcome` of faults. */
  readonly samples: readonly {
    readonly labels: Readonly<Record<string, string>>
    readonly value: number
  }[]
}

/**
 * Returns what the package has done in this process, and what it has now.
 *
 * Counting costs the calls that are counted 2 to 3 ns. This call looks at each mapping of
 * the process: 17 us for 1,000.
 *
 * @example
 * ```js
 * const { slides, faults } = metrics()
 * console.log(slides, faults.readonly['private-page'])
 * ```
 */
export function metrics(): Metrics

export namespace metrics {
  /** The same as a list, for OpenTelemetry and other exporters: see docs/monitoring.md. */
  function families(): MetricFamily[]
  /** The same in Prometheus's text format, version 0.0.4: what `GET /metrics` answers. */
  function prometheus(): string
}

/** What every message of a channel has, but for a fault's. */
export interface Timed {
  /** When the change began: milliseconds, as `performance.now()` has them. */
  readonly startTime: number
  /** How long it took, in milliseconds. */
  readonly duration: number
}

/** A mapping or window that was made or unmapped, or a buffer that was adopted or given back. */
export interface MapMessage extends Timed {
  readonly kind: 'mapping' | 'window' | 'adopted'
  /** Itself. */
  readonly mapping: Mapping | Window | AdoptedBuffer
  /** `null` where nobody has asked for its {@link GuardedMemory}. */
  readonly memory: GuardedMemory | null
  /** Its offset in the memory, in bytes. */
  readonly address: number
  /** In bytes. */
  readonly byteLength: number
  readonly access: Access
  /**
   * What it shows; for `wasm-hostmap:unmap`, what it showed. `null` for an empty window and an
   * adopted buffer.
   */
  readonly region: HostRegion | null
  /** Where in the region it starts. */
  readonly byteOffset: number
}

/** A window that shows something else now. */
export interface SlideMessage extends Timed {
  readonly window: Window
  readonly memory: GuardedMemory | null
  /** `null`: it shows nothing. */
  readonly region: HostRegion | null
  /** Where in the region it starts. */
  readonly byteOffset: number
  /** How many bytes it shows. */
  readonly byteLength: number
}

/** A memory that has grown. */
export interface GrowMessage extends Timed {
  /** Who asked: `'host'` for the package and its caller, `'module'` for instrumented code. */
  readonly by: 'host' | 'module'
  readonly memory: GuardedMemory | null
  /** Its size now, in bytes. */
  readonly byteLength: number
  /** How many bytes it grew by. */
  readonly grownBytes: number
}

/** A memory that was restored, or reset. */
export interface RestoreMessage extends Timed {
  readonly memory: GuardedMemory | null
  /** Of the snapshot; `null` for a reset. */
  readonly snapshotName: string | null
  /** The memory's size, in bytes. */
  readonly byteLength: number
  /** How many host pages were copied back. Pages that were dropped are not in it. */
  readonly copiedPages: number
}

/** A region that was made or closed. One that is collected without `close` gives no message. */
export interface RegionMessage extends Timed {
  readonly action: 'made' | 'closed'
  readonly region: HostRegion
  /** The function of {@link HostRegion} that made it; `null` if it was closed. */
  readonly how:
    | 'allocate'
    | 'copyFrom'
    | 'from'
    | 'load'
    | 'open'
    | 'fromFd'
    | 'paged'
    | 'receive'
    | 'find'
    | null
}

/** A snapshot that was made or closed. */
export interface SnapshotMessage extends Timed {
  readonly action: 'made' | 'closed'
  readonly snapshot: Snapshot
  /** `'take'`, or the function of {@link Snapshot} that made it; `null` if it was closed. */
  readonly how: 'take' | 'load' | 'open' | 'fromFd' | 'receive' | null
}

/** A step of a pool. */
export interface PoolMessage extends Timed {
  /**
   * - `'make'`: an instance was made. `duration` is how long that took.
   * - `'acquire'`: one was lent. `duration` is how long its user waited.
   * - `'release'`: one is back. `duration` is how long its restore took. A closed pool makes
   *   none.
   * - `'discard'`: one was thrown away.
   */
  readonly action: 'make' | 'acquire' | 'release' | 'discard'
  readonly pool: InstancePool<unknown>
  /** Why it was discarded; `null` where its user did it, and for all other steps. */
  readonly failure: unknown
}

/**
 * The first faults of a kind in a mapping, window, view or memory of an opened snapshot: what the
 * process is warned of, too. {@link metrics} counts all faults.
 */
export interface FaultMessage {
  readonly kind: 'stray-write' | 'missing-page' | 'past-end'
  readonly where: 'mapping' | 'window' | 'view' | 'snapshot'
  /** The name of the region or snapshot. */
  readonly name: string
  /** Where the mapping or window starts in its memory, in bytes; `null` for a view or snapshot. */
  readonly address: number | null
  /** Bytes of the mapping, window, view or memory, in whole host pages. */
  readonly byteLength: number
  readonly access: Access
  /** Which byte of the region or memory the last fault was at; `null` if other kinds came after. */
  readonly byteOffset: number | null
  /** When it was told: milliseconds, as `performance.now()` has them. The fault came before. */
  readonly startTime: number
}

/**
 * The channels of `node:diagnostics_channel`, and what they carry.
 *
 * A message comes when the call that made the change has done everything else; a subscriber may
 * call anything. What a subscriber throws is no error of the call: Node.js makes it an uncaught
 * exception. Don't keep messages: they hold regions and memories. While nobody subscribes, a
 * channel costs a few nanoseconds at most.
 *
 * A thread has channels of its own. A worker's changes are told in that worker, and a fault in the
 * thread that made the mapping, in another turn of its event loop.
 *
 * @example
 * ```js
 * import { subscribe } from 'node:diagnostics_channel'
 *
 * subscribe('wasm-hostmap:fault', message => console.warn(message))
 * ```
 */
export interface HostmapChannels {
  'wasm-hostmap:map': MapMessage
  'wasm-hostmap:unmap': MapMessage
  'wasm-hostmap:slide': SlideMessage
  'wasm-hostmap:grow': GrowMessage
  'wasm-hostmap:restore': RestoreMessage
  'wasm-hostmap:region': RegionMessage
  'wasm-hostmap:snapshot': SnapshotMessage
  'wasm-hostmap:pool': PoolMessage
  'wasm-hostmap:fault': FaultMessage
}

/** See {@link observe}. */
export interface ObserveOptions {
  /**
   * Whether each change becomes a measure of `node:perf_hooks`, with the name of its channel:
   * `wasm-hostmap:map`. Default: false.
   *
   * Measures go to every `PerformanceObserver` of `measure` entries in this thread, and are not
   * kept in the timeline. `detail` has the numbers and texts of the message. Faults take no time,
   * and are none.
   */
  performance?: boolean
}

/** What {@link observe} started. */
export interface Observation {
  /** Ends it. */
  stop(): void
  [Symbol.dispose](): void
}

/**
 * Turns the messages of {@link HostmapChannels} into measures, in this thread, until it is stopped.
 *
 * @example
 * ```js
 * import { PerformanceObserver } from 'node:perf_hooks'
 *
 * new PerformanceObserver(list => console.log(list.getEntries())).observe({ type: 'measure' })
 * const observation = observe({ performance: true })
 * ```
 */
export function observe(options?: ObserveOptions): Observation
