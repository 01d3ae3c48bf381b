/**
 * wasm-hostmap maps host memory and files into the linear memories of WebAssembly modules, without
 * a copy.
 *
 * Sizes and offsets are bytes unless a name says otherwise. A *host page* is `limits().pageSize`
 * bytes (4096 on x64, 4096 to 65536 on arm64), a *Wasm page* is 65536 bytes.
 *
 * Every failure is an Error with a stable `code`. Wrong arguments are a `TypeError` or `RangeError`
 * with Node's own codes (`ERR_INVALID_ARG_TYPE`, `ERR_INVALID_ARG_VALUE`, `ERR_OUT_OF_RANGE`,
 * `ERR_ILLEGAL_CONSTRUCTOR` for a class that is not made by `new`, `ERR_INVALID_THIS` for a method
 * that is called on another object); all others are {@link HostmapErrorCode} and carry `errno`
 * (negative, as Node's own system errors do) and `syscall` where the kernel said no. A call that
 * throws has changed nothing, except where its documentation says so.
 *
 * Options are the enumerable properties of the object, or what its classes define (getters, say),
 * each read once. Nothing is read from `Object.prototype`. An option of an unknown name is an
 * `ERR_INVALID_ARG_VALUE`, whose message has the nearest one.
 */

/// <reference types="node" />
/// <reference lib="es2020" />
/// <reference lib="esnext.disposable" />

/** The codes of errors that are not about an argument's type or range. */
export type HostmapErrorCode =
  /** The machine is not Linux on x64 or arm64. Thrown when the package is loaded. */
  | 'ERR_HOSTMAP_UNSUPPORTED_PLATFORM'
  /**
   * The native part is missing or can't be loaded. Thrown when the package is loaded; the message
   * says how to mend it.
   */
  | 'ERR_HOSTMAP_LOAD_FAILED'
  /**
   * Another version, or another build, of the package was loaded before into this process. Thrown
   * when the package is loaded; the message names both, and how to make them one. Copies of one
   * version share a process.
   */
  | 'ERR_HOSTMAP_TWO_VERSIONS'
  /** The region was closed. */
  | 'ERR_HOSTMAP_REGION_CLOSED'
  /**
   * Other code of the process closed the descriptor of a region or snapshot, or put another file
   * under its number.
   */
  | 'ERR_HOSTMAP_DESCRIPTOR_LOST'
  /** The token was altered or made up: what it names is not what was shared. */
  | 'ERR_HOSTMAP_SHARE_INVALID'
  /** The token was received before. Each is for one receiver. */
  | 'ERR_HOSTMAP_SHARE_USED'
  /** The token was ended by `unshare`, or with the process that made it. */
  | 'ERR_HOSTMAP_SHARE_CLOSED'
  /** The token is another user's, or the system keeps this process from what it stands for. */
  | 'ERR_HOSTMAP_SHARE_DENIED'
  /** As many tokens as a process may have were neither received nor ended. */
  | 'ERR_HOSTMAP_TOO_MANY_SHARES'
  /**
   * Write access was asked for, but the region is sealed or its file was opened for reading only.
   */
  | 'ERR_HOSTMAP_REGION_READONLY'
  /** The region can't be sealed while a `shared` mapping of it stands in a memory. */
  | 'ERR_HOSTMAP_REGION_BUSY'
  /**
   * The path or descriptor is a directory, pipe, socket or device, or a file that can't be mapped
   * or has huge pages that may be missing.
   */
  | 'ERR_HOSTMAP_NOT_A_FILE'
  /** The file has no bytes, so there is nothing to map. */
  | 'ERR_HOSTMAP_EMPTY_FILE'
  /** The file got shorter since the region was made, or while it was loaded. */
  | 'ERR_HOSTMAP_FILE_SHRUNK'
  /**
   * The file can't be opened or examined: it does not exist, or permission is missing. See `errno`.
   */
  | 'ERR_HOSTMAP_OPEN_FAILED'
  /** Reading the file failed: an input/output error. See `errno`. */
  | 'ERR_HOSTMAP_READ_FAILED'
  /** The kernel has no memory, or no room, for the region. See `errno`. */
  | 'ERR_HOSTMAP_OUT_OF_MEMORY'
  /** The process has as many open files as it may have (`ulimit -n`). */
  | 'ERR_HOSTMAP_TOO_MANY_FILES'
  /**
   * The kernel refused a mapping for a reason that has no code of its own. See `errno` and
   * `syscall`.
   */
  | 'ERR_HOSTMAP_MAP_FAILED'
  /** The process has as many memory mappings as it may have (`sysctl vm.max_map_count`). */
  | 'ERR_HOSTMAP_MAP_COUNT'
  /** No gap in the address space is large enough for another memory's reservation. */
  | 'ERR_HOSTMAP_ADDRESS_SPACE'
  /** The limit on the process's address space (`ulimit -v`, RLIMIT_AS) leaves no room. */
  | 'ERR_HOSTMAP_RLIMIT_AS'
  /** The kernel's overcommit accounting (`sysctl vm.overcommit_memory`) leaves no room. */
  | 'ERR_HOSTMAP_OVERCOMMIT'
  /** V8 could not allocate or grow a memory, and none of the known causes was found. */
  | 'ERR_HOSTMAP_MEMORY_REFUSED'
  /**
   * This V8 has no 64-bit memories, or no typed array over one of this size (Node 20, more than 4
   * GiB).
   */
  | 'ERR_HOSTMAP_NO_MEMORY64'
  /** The buffer is not that of a WebAssembly memory, or it can't be proven. */
  | 'ERR_HOSTMAP_NOT_WASM_MEMORY'
  /**
   * Nothing tells whether the memory has 32- or 64-bit addresses: pass {@link FromOptions.address}.
   */
  | 'ERR_HOSTMAP_ADDRESS_UNKNOWN'
  /** Only the memory's buffer is known, not the `WebAssembly.Memory` that the call needs. */
  | 'ERR_HOSTMAP_MEMORY_HIDDEN'
  /** The memory can't grow enough: its maximum is reached. */
  | 'ERR_HOSTMAP_MEMORY_FULL'
  /**
   * V8 moved the memory when it grew, as it does without guards, and V8 11 with them: its mappings
   * are lost. Or the function that was passed to {@link GuardedMemory.from} gave the buffer of
   * another memory.
   */
  | 'ERR_HOSTMAP_MEMORY_MOVED'
  /** The window was unmapped. */
  | 'ERR_HOSTMAP_WINDOW_UNMAPPED'
  /**
   * Accesses found no data, so that what was computed since may be wrong: see {@link
   * GuardedMemory.checkFaults}.
   */
  | 'ERR_HOSTMAP_FAULTED'
  /** The range is in use by another mapping. */
  | 'ERR_HOSTMAP_OVERLAP'
  /** The module's allocator gave no block, or one that is not in the memory. */
  | 'ERR_HOSTMAP_ALLOCATOR_FAILED'
  /** The snapshot was closed. */
  | 'ERR_HOSTMAP_SNAPSHOT_CLOSED'
  /** The snapshot is not one of this kind of memory, of this module, or of these regions. */
  | 'ERR_HOSTMAP_SNAPSHOT_MISMATCH'
  /**
   * The file or descriptor is no snapshot, or a damaged one, or of another version of the format.
   */
  | 'ERR_HOSTMAP_SNAPSHOT_INVALID'
  /** The memory is shared, and the call needs it alone: see {@link RestoreOptions.exclusive}. */
  | 'ERR_HOSTMAP_SHARED_MEMORY'
  /** Writing a file failed: the disk is full, or an input/output error. See `errno`. */
  | 'ERR_HOSTMAP_WRITE_FAILED'
  /** This runtime does not allow ArrayBuffers over external memory (Electron). */
  | 'ERR_HOSTMAP_NO_EXTERNAL_BUFFERS'
  /** The module has no memory, or several, or its instances share what each needs for itself. */
  | 'ERR_HOSTMAP_UNSUITABLE_MODULE'
  /** State that can't be reached, or can't be put back. The message says which, and what to do. */
  | 'ERR_HOSTMAP_NOT_RESTORABLE'
  /** The pool was closed. */
  | 'ERR_HOSTMAP_POOL_CLOSED'
  /** The instance was released to its pool. */
  | 'ERR_HOSTMAP_INSTANCE_RELEASED'
  /** A defect in wasm-hostmap itself. Please report it. */
  | 'ERR_HOSTMAP_INTERNAL'

/**
 * What a module may do with the pages of a mapping.
 *
 * - `'readonly'`: loads read the region. A store of the module traps with a
 *   `WebAssembly.RuntimeError`. Writes that V8 can't make traps of (`memory.fill`, `copy` and
 *   `init`, stores whose address is a constant, JavaScript) go to a copy of the page that only this
 *   memory sees; they count in {@link Mapping.strayWrites}. An atomic may do either, and change
 *   while the program runs, when V8 optimizes it. A system call that would write there fails with
 *   `EFAULT`.
 * - `'private'`: writes go to copies of the pages that only this memory sees; the region stays as
 *   it is.
 * - `'shared'`: writes go to the region, and everybody who maps or views it sees them at once.
 *   Atomics work between memories, but not waiting: V8 keeps waiters by memory, so
 *   `memory.atomic.notify` through one memory wakes nobody who waits through another. Use {@link
 *   HostRegion.wait} and {@link HostRegion.notify}.
 */
export type Access = 'readonly' | 'private' | 'shared'

/**
 * An access to a mapping, or to a view of a region, that could not be had as it was asked for: see
 * docs/faults.md.
 *
 * Where the outcome was a trap, the stack of the `WebAssembly.RuntimeError` names the function of
 * the module.
 */
export interface Fault {
  /** The byte that was accessed, from the start of the memory; `null` for a view. */
  readonly address: number | null
  /** The same, as a byte of the region. */
  readonly byteOffset: number
  readonly operation: 'read' | 'write'
  /**
   * - `'readonly'`: a write to a read-only page.
   * - `'file-shrunk'`: the region's file ends before this byte, as its size is when you ask.
   * - `'out-of-memory'`: there was no memory for a page of a memfd that can't shrink.
   * - `'unavailable'`: an I/O error; or the disk is full (a hole of a sparse file that is written);
   *   or the file was shorter then; or nobody can say, since the region was closed.
   * - `'memory-error'`: the machine's memory is broken there.
   * - `'past-end'`: a window with rest `'trap'` shows nothing there; `byteOffset` goes on from what
   *   it showed.
   */
  readonly cause:
    'readonly' | 'file-shrunk' | 'out-of-memory' | 'unavailable' | 'memory-error' | 'past-end'
  /**
   * - `'trap'`: a `WebAssembly.RuntimeError`, as for an access out of bounds.
   * - `'private-page'`: the write went to a copy of the page that only this memory, or this view,
   *   sees.
   * - `'zeros'`: a page of zeros was put there.
   */
  readonly outcome: 'trap' | 'private-page' | 'zeros'
}

/** What is thrown where accesses found no data. */
export interface FaultedError extends Error {
  readonly code: 'ERR_HOSTMAP_FAULTED'
  /** The last of them; `null` if a stray write came after it, or another thread has the mapping. */
  readonly fault: Fault | null
}

/** Options of {@link HostRegion.allocate} and {@link HostRegion.copyFrom}. */
export interface AllocateOptions {
  /**
   * Shown by `inspect`, in layouts and as `/memfd:NAME` in `/proc/PID/maps`. At most 200 bytes,
   * without NUL.
   */
  name?: string | undefined
  /**
   * Takes memory in pages of 2 MiB, as far as the system has them: one page fault then brings in 2
   * MiB, random reads are done 1.5 to 2 times as often, and closing costs next to nothing. Such
   * pages have to be cleared before they are filled: `copyFrom` takes up to three times as long,
   * and `allocate` takes and clears all of the region's memory at once. Default false; what came of
   * it: {@link HostRegion.hugePages}.
   *
   * `'hugetlb'`: all of them from the pool that an administrator has filled (`sysctl
   * vm.nr_hugepages=N`), or an error. They stay whole and in memory until the region is gone. Such
   * a region takes whole pages of 2 MiB; it is mapped `'readonly'` or `'shared'`, at addresses that
   * are multiples of 2 MiB of the process, from multiples of 2 MiB of the region on; windows don't
   * show it. `private` mappings are refused, and a stray write goes to a copy of its page in
   * ordinary ones. Where a module has grown its memory by itself, what it writes to a `readonly`
   * mapping until the next call into the library takes pages of the pool, as long as there are
   * some, and system calls that are to write there may fail with EFAULT. Needs the fault guard, and
   * Linux 5.16.
   */
  hugePages?: boolean | 'hugetlb' | undefined
}

/** Options of {@link HostRegion.load}. */
export interface LoadOptions {
  /** Where in the file to start. Any offset. Default 0. */
  byteOffset?: number | undefined
  /** How many bytes. Default: to the end of the file. */
  byteLength?: number | undefined
  /** As in {@link AllocateOptions}. Default: the file's base name. */
  name?: string | undefined
  /**
   * As in {@link AllocateOptions}, for each 2 MiB of the region that hold data and no hole; with
   * `'hugetlb'` holes take memory, too. Default true, since no thread of yours waits for it.
   */
  hugePages?: boolean | 'hugetlb' | undefined
  /**
   * Ends the load. The promise is rejected with an `AbortError` (`code: 'ABORT_ERR'`) once
   * everything is released.
   */
  signal?: AbortSignal | undefined
  /**
   * Called about ten times a second, and once at the end, with the bytes done and the bytes to do.
   */
  onProgress?: ((loadedBytes: number, totalBytes: number) => void) | undefined
}

/** Options of {@link HostRegion.open}. */
export interface OpenOptions {
  /** Where in the file the region starts: a multiple of the host page size. Default 0. */
  byteOffset?: number | undefined
  /** How many bytes. Default: to the end of the file. */
  byteLength?: number | undefined
  /**
   * Opens the file for writing too, so that `shared` mappings and views change it. Default false.
   */
  writable?: boolean | undefined
}

/** Options of {@link HostRegion.fromFd}. */
export interface FromFdOptions {
  /** Where in the file the region starts: a multiple of the host page size. Default 0. */
  byteOffset?: number | undefined
  /** How many bytes. Default: to the end of the file. */
  byteLength?: number | undefined
}

/**
 * A part of a region or mapping, in bytes of it. Every call that takes a part takes it by these
 * names: pass what {@link HostRegion.split} gives as its options, or spread it among others.
 */
export interface RegionPart {
  /** The first byte. */
  byteOffset: number
  /** How many bytes. */
  byteLength: number
}

/** Options of {@link HostRegion.wait}. */
export interface WaitOptions {
  /** After how many milliseconds it ends with `'timed-out'`. Default: never. */
  timeoutMs?: number | undefined
  /** Ends it: the promise is rejected with an `AbortError` (`code: 'ABORT_ERR'`). */
  signal?: AbortSignal | undefined
}

/** Options of {@link HostRegion.split}. */
export interface SplitOptions {
  /**
   * Every part but the first starts at a multiple of it, counted from `byteOffset`: the size of a
   * record. Default: a page of the region.
   */
  align?: number | undefined
  /** Where to start. Default 0. */
  byteOffset?: number | undefined
  /** How many bytes to divide. Default: to the region's end. */
  byteLength?: number | undefined
}

/** For {@link HostRegion.share}. */
export interface ShareOptions {
  /** What the receiver may do: `'shared'` is to write too. Default: what the region allows. */
  access?: 'readonly' | 'shared' | undefined
  /**
   * With `access: 'readonly'`: from now on the kernel lets nobody write the memfd who does not yet
   * (F_SEAL_FUTURE_WRITE, Linux 5.1). Writable views and `shared` mappings that exist go on; new
   * ones are refused, this region's too. Where a writable mapping of another process then makes
   * `seal` fail, this region's views are read-only all the same. Not for files. Default false.
   */
  enforce?: boolean | undefined
}

/**
 * Stands for a region or a snapshot that was shared. Plain data: JSON and structured clones of it
 * are as good.
 */
export interface ShareToken {
  readonly type: 'wasm-hostmap.region' | 'wasm-hostmap.snapshot'
  readonly version: number
  /** The process that shared. */
  readonly pid: number
  /** What the receiver may do. */
  readonly access: 'readonly' | 'shared'
  readonly name: string
  readonly byteLength: number
  /** Where in its file it starts. */
  readonly byteOffset: number
  readonly device: string
  readonly inode: string
  /** 128 random bits. */
  readonly nonce: string
  readonly proof: number
  readonly socket: string
}

/**
 * Bytes that the host owns, outside the JavaScript heap, behind a file descriptor: a memfd of our
 * own or a file. The kernel can map the same pages at many addresses, so any number of memories,
 * views, threads and processes share them.
 *
 * The descriptor and, for a memfd, the memory are released when the region was closed or collected
 * and the last mapping and view of it is gone.
 *
 * A region can't be posted to a worker or sent to a process: post what {@link HostRegion.share}
 * gives, and call {@link HostRegion.receive} there.
 */
export class HostRegion implements Disposable {
  private constructor()

  /**
   * A region of zeros in memory. Pages are taken from the system when they are first touched.
   *
   * @param byteLength 1 to 2^53 - 1. The region has just this many bytes: nothing is rounded.
   * @throws `ERR_INVALID_ARG_TYPE`, `ERR_INVALID_ARG_VALUE`, `ERR_OUT_OF_RANGE`,
   *   `ERR_HOSTMAP_OUT_OF_MEMORY`, `ERR_HOSTMAP_TOO_MANY_FILES`; with `'hugetlb'` also
   *   `ERR_HOSTMAP_MAP_FAILED`
   * @remarks Cost: `memfd_create`, `ftruncate`, `fcntl` and `fstat`, whatever the size. With
   *   `hugePages`, five more for each 16 MiB and one for each 2 MiB, and clearing them. With
   *   `'hugetlb'`, an `mmap`, and an `fallocate` for each 64 MiB, which clears them.
   */
  static allocate(byteLength: number, options?: AllocateOptions): HostRegion

  /**
   * A region in memory with a copy of these bytes.
   *
   * @param source At least one byte long. A SharedArrayBuffer that others write meanwhile is copied
   *   as it is found.
   * @throws as {@link HostRegion.allocate}
   * @remarks Cost: as `allocate`, and one copy of the bytes, by `pwrite` (with `'hugetlb'`, which
   *   knows no `write`, two: `pwrite` and `pread`, a MiB at a time); blocks the thread. A region
   *   that holds memory also takes one memory mapping and as much address space, for a buffer that
   *   nobody sees: V8 and `process.memoryUsage().external` count buffers only.
   */
  static copyFrom(
    source: ArrayBuffer | SharedArrayBuffer | ArrayBufferView,
    options?: AllocateOptions
  ): HostRegion

  /**
   * A region in memory with a copy of a file's bytes. Later changes of the file don't show.
   * Holes of a sparse file stay holes and take no memory.
   *
   * @param path A path or a `file:` URL, of a regular file that has bytes.
   * @throws (rejects) as {@link HostRegion.allocate}, and `ABORT_ERR`, `ERR_HOSTMAP_OPEN_FAILED`,
   *   `ERR_HOSTMAP_NOT_A_FILE`, `ERR_HOSTMAP_EMPTY_FILE`, `ERR_HOSTMAP_FILE_SHRUNK`,
   *   `ERR_HOSTMAP_READ_FAILED`
   * @remarks Cost: one copy inside the kernel (`copy_file_range` or `sendfile`; `pread` with
   *   `'hugetlb'`), on a thread of libuv's pool; `fstat` and two `lseek` for each hole. If
   *   `onProgress` throws, the load ends and is rejected with what it threw.
   */
  static load(path: string | URL, options?: LoadOptions): Promise<HostRegion>

  /**
   * A region that is the file itself: its pages are read when they are first touched and shared
   * with everybody who maps the file. Files of any size; nothing is read or reserved now.
   *
   * @throws as {@link HostRegion.load}, but for `ABORT_ERR`
   * @remarks Cost: `open`, `fstat`, `fstatfs`, `fcntl`, and `mmap` and `munmap` of one page, to see
   *   that it can be mapped. If the file is made shorter later, its pages past the new end can't be
   *   read.
   */
  static open(path: string | URL, options?: OpenOptions): HostRegion

  /**
   * A region over a descriptor of a regular file or a memfd. The descriptor is duplicated: the
   * caller keeps his, and closes it when he likes. It is writable if the descriptor is open for
   * reading and writing.
   *
   * @throws as {@link HostRegion.open}
   */
  static fromFd(fd: number, options?: FromFdOptions): HostRegion

  /**
   * Takes what a token stands for: the region over the same pages that another thread or process
   * shared.
   *
   * @param token What {@link HostRegion.share} gave, or a copy of it.
   * @throws `ERR_INVALID_ARG_TYPE`, `ERR_INVALID_ARG_VALUE`; `ERR_HOSTMAP_SHARE_USED` if it was
   *   received before; `ERR_HOSTMAP_SHARE_CLOSED` if it was ended, or its process has;
   *   `ERR_HOSTMAP_SHARE_INVALID` if it was altered or made up; `ERR_HOSTMAP_SHARE_DENIED` for
   *   another user's; `ERR_HOSTMAP_TOO_MANY_FILES`, `ERR_HOSTMAP_OPEN_FAILED`
   * @example
   * parentPort.on('message', token => {
   *   const region = HostRegion.receive(token)
   * })
   */
  static receive(token: ShareToken): HostRegion

  /**
   * Ends a token that this process made and nobody has received: it stands for nothing from then
   * on.
   *
   * @returns Whether this call ended it.
   */
  static unshare(token: ShareToken): boolean

  /** Size in bytes. Stays after `close`. */
  readonly byteLength: number
  /** `'memfd'`: memory that lives as long as somebody holds it. `'file'`: a file's own pages. */
  readonly backing: 'memfd' | 'file'
  /** What it is called in layouts and `/proc/PID/maps`. */
  readonly name: string
  /**
   * Whether `shared` mappings and writable views can be had. False after `close`. Asks the kernel:
   * one `fcntl`.
   */
  readonly writable: boolean
  /**
   * Whether nobody, in this process or another, can write it any more. Only memfds can be sealed.
   * False after `close`. Asks the kernel: one `fcntl`.
   */
  readonly sealed: boolean
  /** Whether `close` was called. */
  readonly closed: boolean
  /**
   * Offers the region to another thread or process of the same user. The token is a plain object:
   * post it, clone it, write it into `workerData`, send it to a child process, or store it as JSON.
   *
   * - A token is for one receiver. Make one for each.
   * - It keeps the pages until it is received or ended by {@link HostRegion.unshare}, even if the
   *   region is closed. A process has 1,024 that wait, at most. They end with the process.
   * - The receiver gets just what was shared, or an error: device, inode, size and a random number
   *   must be right.
   *
   * With `access: 'readonly'` the receiver's region can't be written, and its descriptor is open
   * for reading alone. A hostile process of the same user could open the file anew, for writing.
   * Against that, seal the region, or use `enforce`.
   *
   * @throws `ERR_HOSTMAP_REGION_CLOSED`, `ERR_INVALID_ARG_VALUE`, `ERR_HOSTMAP_TOO_MANY_SHARES`,
   *   `ERR_HOSTMAP_TOO_MANY_FILES`; `ERR_HOSTMAP_REGION_READONLY` for more access than the region
   *   has, or where `enforce` can't be; `ERR_HOSTMAP_DESCRIPTOR_LOST`
   * @example
   * worker.postMessage(region.share({ access: 'readonly' }))
   */
  share(options?: ShareOptions): ShareToken
  /**
   * A new descriptor of the region's file or memfd, close-on-exec, which is yours to close. Byte 0
   * of the region is at the `byteOffset` that it was made with.
   *
   * The region's own descriptor is told to nobody, and checked each time it is used.
   *
   * @throws `ERR_HOSTMAP_REGION_CLOSED`, `ERR_HOSTMAP_TOO_MANY_FILES`, `ERR_HOSTMAP_OPEN_FAILED`;
   * `ERR_HOSTMAP_DESCRIPTOR_LOST` if other code of the process closed the region's descriptor
   */
  duplicateFd(): number
  /**
   * How much of the region is in huge pages at this moment. The system may split them when it runs
   * out of memory.
   *
   * @remarks Cost: a mapping of the region for a moment, and two or three system calls for each 2
   *   MiB of it that hold data. Where the kernel can't tell (before 6.7), `bytes` is 0.
   */
  readonly hugePages: HugePages
  /**
   * Writes to views that are read-only, at most one for each page of a view: they went to copies of
   * the page. Stays after `close`.
   */
  readonly strayWrites: number
  /**
   * Accesses of views to pages whose contents could not be had, and that found zeros. Stays after
   * `close`.
   */
  readonly faults: number
  /** The last fault of its views; `null` if there was none. Stays after `close`. */
  readonly lastFault: Fault | null

  /**
   * Throws if views of this region found zeros where there was no data, unless that was
   * acknowledged. Ask after an engine that reads the region through a view has answered. Nothing
   * else throws for it: a view is an ArrayBuffer.
   *
   * @throws `ERR_HOSTMAP_FAULTED`: a {@link FaultedError}
   */
  checkFaults(): void
  /**
   * Takes note of the faults of its views, so that `checkFaults` passes until the next one. Gives
   * how many they were.
   */
  acknowledgeFaults(): number

  /**
   * The region's bytes as an ArrayBuffer, without a copy. Writes go to the region if it is
   * writable; otherwise they go to copies of the pages that only this view sees, and count in
   * {@link HostRegion.strayWrites}. The buffer can't be posted. It is detached when the region is
   * closed; where `ArrayBuffer.prototype.transfer` took its bytes over, zeros stand there then. V8
   * counts a view's length as external memory as long as it lives.
   *
   * @param byteOffset Any offset below `byteLength`. Default 0.
   * @param byteLength At least 1. Default: to the end. At most `buffer.constants.MAX_LENGTH` (4 GiB
   *   on Node 20).
   * @throws `ERR_INVALID_ARG_TYPE`, `ERR_OUT_OF_RANGE`, `ERR_HOSTMAP_REGION_CLOSED`,
   *   `ERR_HOSTMAP_FILE_SHRUNK`, `ERR_HOSTMAP_OPEN_FAILED`, `ERR_HOSTMAP_MAP_COUNT`,
   *   `ERR_HOSTMAP_RLIMIT_AS`, `ERR_HOSTMAP_OUT_OF_MEMORY`, `ERR_HOSTMAP_MAP_FAILED`,
   *   `ERR_HOSTMAP_NO_EXTERNAL_BUFFERS`
   * @remarks Cost: `mmap`, `madvise`, `fcntl` and `fstat`, whatever the size; an `munmap` when it
   *   is collected. Uses one memory mapping of the process.
   */
  view(byteOffset?: number, byteLength?: number): ArrayBuffer
  /** The same for a part, by its names. */
  view(part: Partial<RegionPart>): ArrayBuffer

  /**
   * Divides the region, or a part of it, among `count` readers, workers for example: parts that
   * follow each other, about as long as each other. Each is what {@link Window.source}, {@link
   * GuardedMemory.map} and all other calls that take a part of a region want as options.
   *
   * @param count 1 to 1,048,576. Fewer parts are given where there are fewer than `count` units of
   *   `align`; none for an empty part.
   * @throws `ERR_INVALID_ARG_TYPE`, `ERR_OUT_OF_RANGE`
   */
  split(count: number, options?: SplitOptions): RegionPart[]

  /**
   * Waits for a 32-bit word of the region, as `Atomics.waitAsync` does, but for any memory, view,
   * thread or process that has the same file or memfd: until {@link HostRegion.notify}. A thread of
   * its own waits, and not the event loop; a pending wait keeps the process alive. It goes on when
   * the region is closed.
   *
   * Store the new value before you notify. V8's own waiters, `Atomics.wait` and
   * `memory.atomic.wait32`, are others.
   *
   * @param byteOffset A multiple of 4.
   * @param expected It waits only while the word is this, with or without a sign.
   * @returns `'ok'` when notified, `'not-equal'` if the word was another one, or `'timed-out'`.
   * @throws (rejects) `ERR_INVALID_ARG_TYPE`, `ERR_INVALID_ARG_VALUE`, `ERR_OUT_OF_RANGE`,
   *   `ABORT_ERR`, `ERR_HOSTMAP_REGION_CLOSED`, `ERR_HOSTMAP_FILE_SHRUNK` if the file ends before
   *   the word, `ERR_HOSTMAP_MAP_COUNT`, `ERR_HOSTMAP_MAP_FAILED`
   * @remarks Cost: a thread, and one memory mapping, while it waits. Before kernel 5.16 it looks
   *   for the signal every 50 ms.
   *
   * @example
   * // A module stores into its mapping of the region and calls an import: () => region.notify(8)
   * const words = new Int32Array(region.view())
   * for (let seen = 0; ; seen = Atomics.load(words, 2)) {
   *   await region.wait(8, seen)
   *   // ...
   * }
   */
  wait(
    byteOffset: number,
    expected: number,
    options?: WaitOptions
  ): Promise<'ok' | 'not-equal' | 'timed-out'>

  /**
   * The same, blocking the thread: for workers, which can be terminated meanwhile. The main thread
   * must give a `timeoutMs`.
   *
   * @throws as {@link HostRegion.wait}
   * @remarks Cost: two system calls, and one more every 50 ms.
   */
  waitSync(
    byteOffset: number,
    expected: number,
    options?: Pick<WaitOptions, 'timeoutMs'>
  ): 'ok' | 'not-equal' | 'timed-out'

  /**
   * Wakes those who wait for a word of the region, in whatever thread or process.
   *
   * @param count How many at most. Default: all.
   * @returns how many they were.
   * @throws as {@link HostRegion.wait}
   * @remarks Cost: `mmap`, `futex` and `munmap`.
   */
  notify(byteOffset: number, count?: number): number

  /**
   * Makes the region read-only for everybody and for good: `F_SEAL_WRITE` on the memfd. Views that
   * exist stay and become read-only, as {@link HostRegion.view} says. `readonly` and `private`
   * mappings stay as they are. Sealing a sealed region does nothing.
   *
   * @throws `ERR_HOSTMAP_REGION_CLOSED`, `ERR_HOSTMAP_REGION_BUSY`, `ERR_HOSTMAP_REGION_READONLY`
   *   for a file or foreign memfd that can't be sealed
   * @remarks Cost: `mmap`, `mremap` or `madvise` for each view, and one `fcntl`.
   */
  seal(): this

  /**
   * Closes the descriptor and detaches all views. Mappings stay, and keep the memory, until they
   * are unmapped. Closing twice does nothing.
   */
  close(): void
  /** The same as {@link HostRegion.close}. */
  [Symbol.dispose](): void
}

/** See {@link HostRegion.hugePages}. */
export interface HugePages {
  /** Bytes of the region in pages of 2 MiB. */
  readonly bytes: number
  /**
   * Why there are none, or not everywhere, in words; `null` where all of it is in huge pages, but
   * for a rest of less than 2 MiB.
   */
  readonly reason: string | null
}

/** Whether a memory's addresses are numbers (`'i32'`) or BigInts (`'i64'`). */
export type AddressType = 'i32' | 'i64'

/**
 * An address as the functions of a module take it. Where the address type is not known, a number or
 * a BigInt.
 */
export type Pointer<A extends AddressType = AddressType> = A extends 'i64' ? bigint : number

/**
 * What `new GuardedMemory` takes: the descriptor of `WebAssembly.Memory`. Sizes are in Wasm pages
 * of 64 KiB.
 *
 * It is read more strictly than V8 does: sizes are numbers or BigInts for either kind of memory,
 * and whole ones; nothing is converted, so that strings, booleans, `null` and objects with a
 * `valueOf` are refused, as are addresses that are not strings. Errors are those of this package
 * (`ERR_INVALID_ARG_TYPE`, `ERR_OUT_OF_RANGE`), and not V8's.
 */
export interface GuardedMemoryDescriptor<A extends AddressType = AddressType> {
  /** The memory's size at first, in Wasm pages. */
  initial: number | bigint
  /**
   * The most it can grow to, in Wasm pages. At most 65,536 (4 GiB), or for `'i64'` 262,144 (16
   * GiB).
   */
  maximum?: number | bigint | undefined
  /** A memory for several threads, over a SharedArrayBuffer; needs `maximum`. Default false. */
  shared?: boolean | undefined
  /** `'i64'`: a 64-bit memory, whose addresses are BigInts (Node 24 and later). Default `'i32'`. */
  address?: A | undefined
}

/** A module's allocator, as its exports show it. A `bigint` for 64-bit memories. */
export interface GuestAllocator {
  /**
   * Gives the address of a block of this many bytes, or 0. Addresses over 2 GiB may come as
   * negative numbers.
   */
  malloc(byteLength: any): number | bigint
  /** Takes back what `malloc` gave. */
  free(address: any): void
}

/** Options of {@link GuardedMemory.map}. */
export interface MapOptions {
  /**
   * Where in the memory: a multiple of the host page size. What is there now is replaced, and zeros
   * stand there after `unmap`. Without `at` and `allocator`, the region is put past the end of the
   * memory, which grows by it. For a region with `hugePages: 'hugetlb'`, the address in the process
   * must be a multiple of 2 MiB; where those lie in the memory V8 decides: the error says it.
   */
  at?: number | bigint | undefined
  /**
   * Which part of the region: a multiple of the host page size; of 2 MiB with `hugePages:
   * 'hugetlb'`. Default 0.
   */
  byteOffset?: number | undefined
  /** How many bytes. Default: to the end of the region. Whole pages are mapped: the rest of the last page shows what follows in the
   * file or memfd, or zeros, and with `'shared'` it can be written too. */
  byteLength?: number | undefined
  /** Default `'readonly'`. */
  access?: Access | undefined
  /**
   * Brings the pages in and maps them now, so that the first touch costs nothing. Best effort, and
   * takes as long as reading the data. Default false.
   */
  populate?: boolean | undefined
  /**
   * Whether the memory may grow by up to 2 MiB more, so that the region's huge pages are mapped as
   * such: for parts of 2 MiB or more, without `at` and `allocator`; with these, it is chance.
   * Default: for regions that were filled with huge pages here, and where no space is free already
   * that is large enough. `true`: for any region, one of {@link HostRegion.fromFd} say, and before
   * other free space. What is left over is free space for smaller mappings.
   */
  hugePages?: boolean | undefined
  /**
   * Puts the region into a block of the module's own `malloc`, for modules that manage all of their
   * memory. `malloc` may grow it: where the module hides its memory, pass a function to {@link
   * GuardedMemory.from}. `unmap` gives the block back to `free`, and so does a `map` that fails.
   */
  allocator?: GuestAllocator | undefined
  /**
   * Once an access found no data (see {@link Mapping.faults}), calls on the mapping throw
   * `ERR_HOSTMAP_FAULTED` until {@link Mapping.acknowledgeFaults}: `prefetch`, but not `unmap`.
   * After a module's work call {@link GuardedMemory.checkFaults}. Snapshots keep it. A pool rejects
   * a `run` after which such a mapping or window has faulted, and discards the instance. Default
   * false.
   */
  strict?: boolean | undefined
}

/**
 * A `WebAssembly.Memory`. `@types/node` does not declare `WebAssembly`, the TypeScript libraries
 * `dom` and `webworker` do: this is their type in a project that has one of them, and otherwise
 * what every memory has.
 */
export type WasmMemory = typeof globalThis extends {
  WebAssembly: { Memory: { prototype: infer Memory } }
}
  ? Memory
  : { readonly buffer: ArrayBuffer; grow(wasmPages: number): number }

/** Options of {@link GuardedMemory.from}. */
export interface FromOptions<A extends AddressType = AddressType> {
  /**
   * Whether the memory's addresses are numbers or BigInts. Only needed where nothing tells, which
   * is `ERR_HOSTMAP_ADDRESS_UNKNOWN`: for the buffer of a 64-bit memory of up to 4 GiB, rarely for
   * that of a 32-bit one, and on Node 20 with `--experimental-wasm-memory64`.
   */
  address?: A | undefined
}

/** `GuardedMemory` as a class: its constructor and static methods. */
export interface GuardedMemoryConstructor {
  readonly prototype: GuardedMemory

  /**
   * Makes a new `WebAssembly.Memory` and checks it.
   *
   * @throws `ERR_INVALID_ARG_TYPE`, `ERR_INVALID_ARG_VALUE`, `ERR_OUT_OF_RANGE`,
   *   `ERR_HOSTMAP_NO_MEMORY64`; and where V8 only says "could not allocate memory", the cause that
   *   was found: `ERR_HOSTMAP_ADDRESS_SPACE`, `ERR_HOSTMAP_RLIMIT_AS`, `ERR_HOSTMAP_OVERCOMMIT`,
   *   `ERR_HOSTMAP_MAP_COUNT` or `ERR_HOSTMAP_MEMORY_REFUSED`
   * @remarks Cost: what V8 takes, 8 to 10 GiB (`'i64'`: 16 GiB) of address space until it is
   *   collected, and a few looks into the process's own map. The first one of each kind (or the
   *   first `from` or `limits`) also makes two memories to measure, which are collected later, and
   *   reads `/proc/self/maps`, which stays open.
   */
  new <A extends AddressType = 'i32'>(descriptor: GuardedMemoryDescriptor<A>): GuardedMemory<A>

  /**
   * Wraps a memory that exists. The same object is given for the same memory.
   *
   * @param memory A `WebAssembly.Memory`. Where a module hides it, a function that gives its buffer
   *   as it is now: it is called after each growth, by `malloc` or whatever else (for a shared
   *   memory, at each call). A buffer alone also does, until the memory grows: then most calls
   *   throw `ERR_HOSTMAP_MEMORY_HIDDEN`, and `from` with a function or the new buffer mends the
   *   same object. (A shared memory's old buffer does not tell of growth.) A buffer is accepted
   *   when the process's map proves that it is a Wasm memory's. We can't grow a hidden memory, so
   *   `map` needs `at` or `allocator`.
   * @throws `ERR_INVALID_ARG_TYPE`, `ERR_INVALID_ARG_VALUE` if `address` is not what the memory
   *   has, `ERR_HOSTMAP_ADDRESS_UNKNOWN`, `ERR_HOSTMAP_NOT_WASM_MEMORY`, `ERR_HOSTMAP_NO_MEMORY64`,
   *   `ERR_HOSTMAP_MEMORY_REFUSED`; `ERR_HOSTMAP_MEMORY_HIDDEN` if the function throws (see
   *   `cause`), or gives a detached buffer. Later calls throw this too, if it gives no buffer
   *   either, and `ERR_HOSTMAP_MEMORY_MOVED` if it gives a buffer at another address
   *
   * @example // Emscripten: malloc may grow the memory, which makes a new HEAPU8. const guarded =
   * GuardedMemory.from(() => Module.HEAPU8.buffer) const mapping = guarded.map(region, { allocator:
   * { malloc: Module._malloc, free: Module._free } }) Module._scan(mapping.pointer,
   * mapping.byteLength) mapping.unmap()
   */
  from<A extends AddressType = AddressType>(
    memory: WasmMemory | ArrayBuffer | SharedArrayBuffer | (() => ArrayBuffer | SharedArrayBuffer),
    options?: FromOptions<A>
  ): GuardedMemory<A>
}

export const GuardedMemory: GuardedMemoryConstructor

/**
 * A `WebAssembly.Memory` whose place in the address space was found and checked, and which can
 * carry mappings. The memory stays an ordinary one: give `guarded.memory` to a module as an import,
 * or wrap one that a module exports.
 *
 * @typeParam A Its address type, as far as it is known: `'i32'`, `'i64'`, or either.
 */
export interface GuardedMemory<A extends AddressType = AddressType> {
  /** The memory itself. Throws `ERR_HOSTMAP_MEMORY_HIDDEN` where only a buffer is known. */
  readonly memory: WasmMemory
  /** The memory's buffer. A new object after each growth, as with `WebAssembly.Memory`. */
  readonly buffer: ArrayBuffer | SharedArrayBuffer
  /** The memory's size now, in bytes. */
  readonly byteLength: number
  /** Whether addresses are numbers (`'i32'`) or BigInts (`'i64'`). */
  readonly address: A
  /**
   * Whether everything round the memory that a module could reach with a plain load or store is
   * inaccessible, by the process's own map, so that an access out of bounds traps. False with
   * `--disable-wasm-trap-handler`, for 64-bit memories with `--no-wasm-memory64-trap-handling`, and
   * for 64-bit memories before Node 24, which modules alone can make: V8 checks bounds in code
   * then, and the memory may move when it grows. Found out anew when it has moved.
   */
  readonly guarded: boolean

  /**
   * Grows the memory as `WebAssembly.Memory.prototype.grow` does, and makes read-only mappings
   * read-only again, which V8's growing undid. (After the module's own growth they are
   * copy-on-write until the next call into the library: the region never changes.)
   *
   * @param wasmPages How many Wasm pages of 64 KiB to add.
   * @returns The size before, in Wasm pages.
   * @throws `ERR_INVALID_ARG_TYPE`, `ERR_OUT_OF_RANGE`, `ERR_HOSTMAP_MEMORY_HIDDEN`,
   *   `ERR_HOSTMAP_MEMORY_FULL` and the causes named at the constructor
   */
  grow(wasmPages: number | bigint): number

  /**
   * Makes a range of a region stand in this memory.
   *
   * Without `at` or `allocator` the memory grows by the region, or space is taken that an earlier
   * mapping left. Don't let it grow by the hands of a module whose allocator takes over all memory
   * that appears (Emscripten): use `allocator` there.
   *
   * @throws `ERR_INVALID_ARG_TYPE`, `ERR_INVALID_ARG_VALUE`, `ERR_OUT_OF_RANGE`,
   *   `ERR_HOSTMAP_REGION_CLOSED`, `ERR_HOSTMAP_REGION_READONLY`, `ERR_HOSTMAP_FILE_SHRUNK`,
   *   `ERR_HOSTMAP_OVERLAP`, `ERR_HOSTMAP_MEMORY_FULL`, `ERR_HOSTMAP_MEMORY_HIDDEN`,
   *   `ERR_HOSTMAP_ALLOCATOR_FAILED`, `ERR_HOSTMAP_OPEN_FAILED`, `ERR_HOSTMAP_OUT_OF_MEMORY`,
   *   `ERR_HOSTMAP_MAP_COUNT`, `ERR_HOSTMAP_MAP_FAILED`, the causes named at the constructor, and
   *   what `malloc` throws. A memory that has grown for a mapping that then failed stays grown; the
   *   next `map` uses the space
   * @remarks Cost: one `mmap`, whatever the size (`'private'` and `'shared'`: and one `madvise`;
   *   `'shared'`, and all mappings of files: and one `mremap`; `'shared'`: and one `fcntl`; a file:
   *   and one `fstat`; `populate`: one `madvise` for each 16 MiB); after a growth one `mprotect`
   *   for each read-only mapping; a growth of the memory where one is needed, which is V8's own
   *   work and takes it milliseconds for a gigabyte (give the memory a large `initial` and use `at`
   *   to avoid it). Uses up to two memory mappings of the process.
   */
  map(region: HostRegion, options?: MapOptions): Mapping<A>

  /**
   * Opens a window: a mapping that shows one part of a region after the other at the same address,
   * for regions that are larger than the memory. It shows nothing at first.
   *
   * Without `at` or `allocator` it is placed as {@link GuardedMemory.map} does, and one of 2 MiB or
   * more where the host's address is a multiple of 2 MiB, if there is room: then huge pages of the
   * page cache are mapped as such.
   *
   * @throws `ERR_INVALID_ARG_TYPE`, `ERR_INVALID_ARG_VALUE`, `ERR_OUT_OF_RANGE`,
   *   `ERR_HOSTMAP_OVERLAP`, `ERR_HOSTMAP_MEMORY_FULL`, `ERR_HOSTMAP_MEMORY_HIDDEN`,
   *   `ERR_HOSTMAP_ALLOCATOR_FAILED`, `ERR_HOSTMAP_OUT_OF_MEMORY`, `ERR_HOSTMAP_MAP_COUNT`,
   *   `ERR_HOSTMAP_MAP_FAILED`, the causes named at the constructor, and what `malloc` throws
   * @remarks Cost: one `mmap`; growing the memory as for `map`. Uses up to three memory mappings of
   *   the process.
   */
  window(options: WindowOptions): Window<A>

  /**
   * Throws if an access to a mapping or window of this memory found no data (see {@link
   * Mapping.faults}): whether it is strict or not, whichever thread made it, also if it was
   * unmapped since. Passes again after {@link GuardedMemory.acknowledgeFaults}.
   *
   * A file that is truncated while it is mapped reads as zeros in JavaScript and in V8's C++
   * (`memory.copy`), and an engine computes a wrong answer from them. So ask when it has answered,
   * before you trust it.
   *
   * @example
   * const mapping = guarded.map(HostRegion.open('orders.db'), { allocator, strict: true })
   * const rows = engine.query('select ...')
   * guarded.checkFaults()
   * return rows
   *
   * @throws `ERR_HOSTMAP_FAULTED`: a {@link FaultedError}
   * @remarks Cost: a look at each mapping's counts; no system call. Other calls on the memory don't
   *   throw for it.
   */
  checkFaults(): void
  /**
   * Takes note of the faults of all mappings and windows, those of other threads and unmapped ones
   * included: strict ones work again, and `checkFaults` passes until the next fault.
   *
   * @returns how many there were since the last time.
   */
  acknowledgeFaults(): number

  /**
   * The mappings and windows that stand in the memory, as far as this thread knows of them, in
   * order of address. A new array each time.
   */
  readonly mappings: readonly (Mapping<A> | Window<A>)[]

  /**
   * Keeps the memory as it is now: its pages, its mappings as mappings, and if asked the mutable
   * globals of an instance. Zeros take no room.
   *
   * Of `'private'` mappings and windows what was written is kept; of `'readonly'` ones stray writes
   * are not, nor what was written behind what a window shows; and what is shared with others or
   * with a file is not the memory's to keep. Take it while no function of the module is on the
   * stack, unless you mean to go back to there.
   *
   * @throws `ERR_INVALID_ARG_TYPE`, `ERR_INVALID_ARG_VALUE`, `ERR_OUT_OF_RANGE`,
   *   `ERR_HOSTMAP_SHARED_MEMORY`, `ERR_HOSTMAP_REGION_CLOSED` for a mapping or window whose region
   *   was closed, or that another thread made or made to show something else,
   *   `ERR_HOSTMAP_MEMORY_HIDDEN`, `ERR_HOSTMAP_MEMORY_MOVED`, `ERR_HOSTMAP_OUT_OF_MEMORY`,
   *   `ERR_HOSTMAP_TOO_MANY_FILES`, `ERR_HOSTMAP_UNSUITABLE_MODULE` if `globals` has several
   *   memories
   * @remarks Cost: looks at the pages that were ever written (all pages, if a snapshot is shown),
   *   and copies those that are not zeros; 64 MiB take some 40 ms (bench/), and half as long again
   *   with `hugePages`. Takes one descriptor.
   */
  snapshot(options?: SnapshotOptions): Snapshot

  /**
   * Puts the memory back to a snapshot, of this memory or another one. It grows if it has to; pages
   * beyond the snapshot's end become zeros. The snapshot's mappings stand again, where a mapping
   * was unmapped as new {@link Mapping} objects (see {@link GuardedMemory.mappings}), and its
   * windows show what they did.
   *
   * No function of the module may be on the stack, or suspended: its code would go on with locals
   * of a time that never was. A {@link WindowSource} goes on where it is.
   *
   * @throws `ERR_INVALID_ARG_TYPE`, `ERR_HOSTMAP_SNAPSHOT_CLOSED`, `ERR_HOSTMAP_SNAPSHOT_MISMATCH`,
   *   `ERR_HOSTMAP_SHARED_MEMORY`, `ERR_HOSTMAP_OVERLAP` if there is a mapping that the snapshot
   *   has not, `ERR_HOSTMAP_MEMORY_FULL`, `ERR_HOSTMAP_MEMORY_HIDDEN`, `ERR_HOSTMAP_MEMORY_MOVED`,
   *   `ERR_HOSTMAP_REGION_READONLY`, `ERR_HOSTMAP_FILE_SHRUNK`, `ERR_HOSTMAP_MAP_COUNT`,
   *   `ERR_HOSTMAP_NOT_RESTORABLE`; for a mapping of a region with `hugePages: 'hugetlb'`,
   *   `ERR_OUT_OF_RANGE` where this memory begins at another place modulo 2 MiB, and
   *   `ERR_INVALID_ARG_VALUE` for a window. Nothing has changed then, but that the memory may have
   *   grown. `ERR_HOSTMAP_OUT_OF_MEMORY` and `ERR_HOSTMAP_MAP_FAILED`: the memory may hold a part
   *   of the snapshot; restore it again, or don't use it
   * @remarks Cost: the first time, and after mappings came or went, one `mmap` and one `madvise`
   *   for each of up to four pieces, whatever their size. After that it grows with what was touched
   *   since: one `ioctl` for each stretch between mappings, which takes about 1 us, 1.5 us for each
   *   2 MiB of which anything is mapped as small pages, and 0.1 us for each page that was written;
   *   pages beyond {@link SnapshotOptions.keepResidentBytes} are dropped by one `madvise`, and cost
   *   a page fault of 1 to 2 us when they are touched again. On kernels before 6.7 all are.
   *   (bench/)
   */
  restore(snapshot: Snapshot, options?: RestoreOptions): void

  /**
   * Makes all of the memory zeros, but for its mappings: they stay, and what was written to private
   * pages of them is gone. Globals are not touched.
   *
   * @throws `ERR_INVALID_ARG_TYPE`, `ERR_OUT_OF_RANGE`, `ERR_HOSTMAP_SHARED_MEMORY`,
   *   `ERR_HOSTMAP_MEMORY_HIDDEN`, `ERR_HOSTMAP_MEMORY_MOVED`, `ERR_HOSTMAP_REGION_CLOSED` for what
   *   was written to a mapping of a region with `hugePages: 'hugetlb'` that is closed;
   *   `ERR_HOSTMAP_OUT_OF_MEMORY` and `ERR_HOSTMAP_MAP_FAILED` as for `restore`
   * @remarks Cost: as of `restore`.
   */
  reset(options?: ResetOptions): void

  /**
   * What lies where in the memory's reservation, in order of address.
   *
   * @throws `ERR_HOSTMAP_MEMORY_HIDDEN` if only a buffer is known, and it is detached;
   *   `ERR_HOSTMAP_MEMORY_MOVED`
   * @remarks Cost: grows with the number of mappings. Makes no system call, but to protect
   *   read-only mappings again.
   */
  layout(): Layout
}

/**
 * A range of a region that stands in a range of a memory. It stays until it is unmapped or its
 * memory is collected, even if this object is not kept.
 */
export class Mapping<A extends AddressType = AddressType> implements Disposable {
  private constructor()
  /** Where it starts, in bytes from the start of the memory. */
  readonly address: number
  /**
   * The same as the module's functions take it: a number, or a BigInt for a 64-bit memory. An
   * address over 2 GiB is given unsigned.
   */
  readonly pointer: Pointer<A>
  /** How many bytes of the region stand there. */
  readonly byteLength: number
  /** Which byte of the region is at `address`. */
  readonly byteOffset: number
  /** What the module may do with it. */
  readonly access: Access
  /** The region whose bytes these are. */
  readonly region: HostRegion
  /** The memory it stands in. */
  readonly memory: GuardedMemory<A>
  /** Whether `unmap` was called. */
  readonly unmapped: boolean
  /**
   * How many writes hit a read-only page of it and went to a copy of the page; the region did not
   * change. The first write to a page counts: the page can be written then, until it is protected
   * again by the next call into the library that concerns its memory. After 32 such writes it is a
   * block of 16 pages that can be written, after 64 one of 32 pages, and so on. Stays after
   * `unmap`.
   *
   * The first one is reported as a process warning with the code `HOSTMAP_STRAY_WRITE`, in the
   * thread that made the mapping, or another one if that has ended. A thread gives at most 100
   * warnings of a kind.
   *
   * @remarks Cost of a stray write: three system calls, about 8 us (bench/). Takes two memory
   *   mappings of the process.
   */
  readonly strayWrites: number
  /**
   * How many accesses hit a page whose contents could not be had: its file got shorter, an I/O
   * error, or no memory. A load or store of the module traps. All else finds a page of zeros, which
   * stays there until `unmap`; other pages show the file's data again when it grows back. Writes to
   * such a page stay in this memory, also with `'shared'`. Stays after `unmap`.
   *
   * The first page of zeros is reported as a process warning with the code `HOSTMAP_MISSING_PAGE`,
   * in the thread that made the mapping.
   *
   * @remarks Cost of a page of zeros: four system calls. Takes two memory mappings of the process,
   *   none beside another such page.
   */
  readonly faults: number
  /** The last fault, a trapped one included; `null` if there was none. Stays after `unmap`. */
  readonly lastFault: Fault | null
  /** Whether faults make its calls throw: see {@link MapOptions.strict}. */
  readonly strict: boolean

  /**
   * As {@link GuardedMemory.checkFaults}, of this mapping alone. Stray writes don't count.
   *
   * @throws `ERR_HOSTMAP_FAULTED`: a {@link FaultedError}
   */
  checkFaults(): void
  /**
   * Takes note of its faults: it works again if it is strict. Gives how many there were since the
   * last time.
   */
  acknowledgeFaults(): number

  /**
   * Brings pages of the mapping in and maps them, on a thread of libuv's pool, so that touching
   * them costs nothing after. Resolves when it is done, or when the mapping is unmapped. Best
   * effort: what there is no memory for, or all of it before kernel 5.14, comes when it is touched.
   * Holes of a memfd take memory by it, as by any reading. A {@link Window} has none: a source
   * reads ahead for it.
   *
   * @throws (rejects) `ERR_INVALID_ARG_TYPE`, `ERR_OUT_OF_RANGE`, `ABORT_ERR`,
   *   `ERR_HOSTMAP_FAULTED`, `ERR_HOSTMAP_READ_FAILED` where the file got shorter or its disk
   *   failed
   * @remarks Cost: one `madvise` for each 4 MiB, which holds up other changes of the process's
   *   mappings while it runs; of a file, one more for each 128 KiB.
   */
  prefetch(options?: PrefetchOptions): Promise<void>

  /**
   * Puts zeroed, writable pages in its place. A block of the module's allocator is given back to
   * its `free`; space past the end is kept for the next `map`. Unmapping twice does nothing.
   *
   * Where V8 has moved the memory, nothing is mapped any more, and what the mapping showed is a
   * copy in plain memory. Then `unmap` leaves the bytes as they are and gives the block back; all
   * else that uses pages throws `ERR_HOSTMAP_MEMORY_MOVED`.
   *
   * @throws `ERR_HOSTMAP_MEMORY_HIDDEN`, `ERR_HOSTMAP_OUT_OF_MEMORY`, `ERR_HOSTMAP_MAP_COUNT`,
   *   `ERR_HOSTMAP_MAP_FAILED`; and what the allocator's `free` throws, when the mapping is gone
   *   already
   * @remarks Cost: one `mmap` and one `madvise`; the kernel's share grows with the pages that were
   *   touched.
   */
  unmap(): void
  /** The same as {@link Mapping.unmap}. */
  [Symbol.dispose](): void
}

/** Options of {@link Mapping.prefetch}. */
export interface PrefetchOptions {
  /** The first byte of the mapping to bring in, counted from its start. Default 0. */
  byteOffset?: number | undefined
  /** How many bytes. Default: to the mapping's end. */
  byteLength?: number | undefined
  /** Ends it after at most 4 MiB more; what was brought in stays. */
  signal?: AbortSignal | undefined
}

/** Options of {@link GuardedMemory.reset}. */
export interface ResetOptions {
  /** As {@link RestoreOptions.exclusive}. */
  exclusive?: boolean | undefined
  /** As {@link SnapshotOptions.keepResidentBytes}. */
  keepResidentBytes?: number | undefined
}

/** Options of {@link GuardedMemory.restore}. */
export interface RestoreOptions {
  /**
   * Your promise that no other thread runs in the memory, or accesses its buffer, until the call
   * returns. Needed for shared memories, and meaningless for others. Let workers wait outside of
   * the module (`Atomics.wait` on another buffer, say), not inside.
   */
  exclusive?: boolean | undefined
  /**
   * The exports of the instance whose globals are put back. Default: the globals that the snapshot
   * was taken of, if this is the memory that it was taken of.
   */
  globals?: object | undefined
}

/** Options of {@link GuardedMemory.snapshot}. */
export interface SnapshotOptions {
  /**
   * An instance's exports: its mutable `WebAssembly.Global`s are kept, by name, but for those that
   * JavaScript can't read (v128, exnref), which {@link Snapshot.of} refuses. See {@link
   * exposeState} for those that the module does not export.
   */
  globals?: object | undefined
  /**
   * The module's bytes. Their SHA-256 is kept, and a snapshot of another module refused by {@link
   * Snapshot.load}.
   */
  module?: ArrayBuffer | SharedArrayBuffer | ArrayBufferView | undefined
  /** As {@link RestoreOptions.exclusive}. */
  exclusive?: boolean | undefined
  /**
   * How many bytes of written pages a restore copies back in place, so that the next write to them
   * needs no page fault; pages beyond are dropped. A memory keeps at most so much of its own
   * between two uses. Default 524,288 (512 KiB).
   */
  keepResidentBytes?: number | undefined
  /**
   * Gathers pages in huge ones where a snapshot is dense, if the system has them. What a memory has
   * read of them costs a restore nothing then, and reading is faster; the snapshot takes half as
   * long again. Default true.
   */
  hugePages?: boolean | undefined
  /**
   * Shown by `inspect` and as `/memfd:NAME` in `/proc/PID/maps`. At most 200 bytes, without NUL.
   * Default `'snapshot'`.
   */
  name?: string | undefined
}

/** Options of {@link Snapshot.of}. */
export interface InstanceSnapshotOptions {
  /** As {@link SnapshotOptions.module}. */
  module?: ArrayBuffer | SharedArrayBuffer | ArrayBufferView | undefined
  /** As {@link RestoreOptions.exclusive}. */
  exclusive?: boolean | undefined
  /** As {@link SnapshotOptions.keepResidentBytes}. */
  keepResidentBytes?: number | undefined
  /** As {@link SnapshotOptions.hugePages}. */
  hugePages?: boolean | undefined
  /** As {@link SnapshotOptions.name}. */
  name?: string | undefined
  /**
   * What may stay as a program leaves it; {@link Snapshot.restoreTo} and {@link
   * Snapshot.instantiate} accept it too then. Default: nothing.
   */
  accept?: readonly AcceptedState[] | undefined
}

/**
 * Options of {@link Snapshot.load}, and, but for `key`, `signal` and `hugePages`, of {@link
 * Snapshot.fromFd}.
 */
export interface LoadSnapshotOptions {
  /**
   * The module's bytes: a snapshot that was not taken of this module is refused with
   * `ERR_HOSTMAP_SNAPSHOT_MISMATCH`, and one that does not say of which it was taken.
   */
  module?: ArrayBuffer | SharedArrayBuffer | ArrayBufferView | undefined
  /**
   * Gives the region that a mapping of the snapshot shows: a snapshot holds none. Needed if there
   * are mappings.
   *
   * A region alone lets the module read it, and write private copies of its pages where the
   * snapshot says so. With `access` you say the most that the module may do: only `'shared'` lets
   * it write to the region, whatever the file says. A mapping or window that was saved with access
   * `'shared'` needs an answer with `access`; for a window that shows nothing, without a region.
   */
  regions?: ((mapping: SnapshotMapping) => HostRegion | SnapshotGrant) | undefined
  /**
   * Refuses a file that was not saved with this key, or was altered since: see {@link
   * Snapshot.load}. At least 16 bytes, better 32 random ones.
   */
  key?: SnapshotKey | undefined
  /** Ends the load. */
  signal?: AbortSignal | undefined
  /** As {@link SnapshotOptions.keepResidentBytes}. */
  keepResidentBytes?: number | undefined
  /** As {@link SnapshotOptions.hugePages}. */
  hugePages?: boolean | undefined
}

/** What a mapping or window of a snapshot is given when it is loaded. */
export interface SnapshotGrant {
  /** Left out for a window that shows nothing. */
  region?: HostRegion | undefined
  /** The most that the module may do. Default: what the snapshot says, but not `'shared'`. */
  access?: Access | undefined
}

/** A secret key: bytes, or a `KeyObject` that `crypto.createSecretKey` made. Bytes are copied. */
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
  /**
   * Adds an HMAC-SHA256 of all that the file says, by which {@link Snapshot.load} knows it again.
   */
  key?: SnapshotKey | undefined
  /** Ends the save. */
  signal?: AbortSignal | undefined
}

/** A mapping or window that a snapshot keeps. */
export interface SnapshotMapping {
  readonly kind: 'mapping' | 'window'
  /** Where it starts, in bytes from the start of the memory. */
  readonly address: number
  /** A mapping's bytes; a window's size. */
  readonly byteLength: number
  readonly access: Access
  /** What its region was called; `null` for a window that shows nothing. */
  readonly regionName: string | null
  /** Which byte of the region is the first one. */
  readonly byteOffset: number
}

/**
 * A memory's state at one moment, in memory of its own that nobody can write. Any number of
 * memories show it and share its pages, until they write them.
 *
 * It can't be posted to a worker; post what {@link Snapshot.share} gives, and call {@link
 * Snapshot.receive} there. It keeps regions of its mappings open.
 */
export class Snapshot implements Disposable {
  private constructor()

  /**
   * Keeps an instance as it is now: its memory, as {@link GuardedMemory.snapshot} does, its mutable
   * globals and its tables, as far as it exports them. Instantiate what {@link exposeState} makes
   * of a module, so that it exports all of them.
   *
   * @throws as {@link GuardedMemory.snapshot}; `ERR_HOSTMAP_UNSUITABLE_MODULE` without an exported
   *   memory, or with several; `ERR_HOSTMAP_NOT_RESTORABLE` for what can't be put back (see {@link
   *   AcceptedState}), as far as it shows: of an instance of what {@link exposeState} gives, all of
   *   it; and for tables of more than a million entries
   * @remarks Cost: as `GuardedMemory.snapshot`, and a look at each entry of the tables.
   */
  static of(instance: object, options?: InstanceSnapshotOptions): Snapshot

  /**
   * A snapshot that {@link Snapshot.save} wrote, in this process or another one. Its bytes are
   * copied into memory; what it is put into must have the same module.
   *
   * Without a key, a checksum (XXH3) finds damage, and proves nothing about who wrote the file:
   * anybody can make one that fits. An altered file can put the module into any state, and so make
   * it do whatever the module can do. It can't harm the host: all that it says is checked against
   * what is there, it can't ask for more memory than a small multiple of its size, and a module
   * never gets more access to a region than {@link LoadSnapshotOptions.regions} grants.
   *
   * With a key, an HMAC-SHA256 proves that the file was saved with that key and has not been
   * altered since. The sealed copy is authenticated that memories will show, not the file, which
   * another process could change in between, and before `regions` is called. It does not prove
   * which of your snapshots it is, or that it is the newest.
   *
   * @throws (rejects) `ERR_INVALID_ARG_TYPE`, `ERR_INVALID_ARG_VALUE`, `ABORT_ERR`,
   *   `ERR_HOSTMAP_OPEN_FAILED`, `ERR_HOSTMAP_NOT_A_FILE`, `ERR_HOSTMAP_READ_FAILED`,
   *   `ERR_HOSTMAP_SNAPSHOT_INVALID`, `ERR_HOSTMAP_SNAPSHOT_MISMATCH`, `ERR_HOSTMAP_OUT_OF_MEMORY`,
   *   `ERR_HOSTMAP_TOO_MANY_FILES`; and what `regions` throws
   * @remarks Cost: reads what is not zeros, on a thread of libuv's pool.
   */
  static load(path: string | URL, options?: LoadSnapshotOptions): Promise<Snapshot>

  /**
   * The snapshot of another thread of the process, by its descriptor, which is duplicated: the same
   * pages.
   *
   * @throws as {@link Snapshot.load}
   * @remarks Cost: a few system calls, whatever the size.
   */
  static fromFd(
    fd: number,
    options?: Omit<LoadSnapshotOptions, 'key' | 'signal' | 'hugePages'>
  ): Snapshot

  /**
   * Takes the snapshot that a token stands for: the same pages.
   *
   * @throws as {@link HostRegion.receive} and {@link Snapshot.load}. The token is used up also
   *   where `regions` throws or gives what does not fit, and where `module` is another one: then
   *   share it again.
   */
  static receive(
    token: ShareToken,
    options?: Omit<LoadSnapshotOptions, 'key' | 'signal' | 'hugePages'>
  ): Snapshot

  /** Ends a token, as {@link HostRegion.unshare} does. */
  static unshare(token: ShareToken): boolean

  /** Bytes of the memory that it was taken of. */
  readonly byteLength: number
  /** Bytes of memory that it takes now; 0 after `close`. Asks the kernel: one `fstat`. */
  readonly residentBytes: number
  /** The kind of memory that it is for. */
  readonly address: 'i32' | 'i64'
  /** What it is called. */
  readonly name: string
  /**
   * Offers the snapshot to another thread or process, as {@link HostRegion.share} does a region.
   * Nobody can write it.
   *
   * @throws `ERR_HOSTMAP_SNAPSHOT_CLOSED`, `ERR_HOSTMAP_TOO_MANY_SHARES`,
   *   `ERR_HOSTMAP_TOO_MANY_FILES`, `ERR_HOSTMAP_DESCRIPTOR_LOST`
   */
  share(): ShareToken
  /**
   * A new descriptor of its memfd, close-on-exec, which is yours to close.
   *
   * @throws `ERR_HOSTMAP_SNAPSHOT_CLOSED`, `ERR_HOSTMAP_TOO_MANY_FILES`, `ERR_HOSTMAP_OPEN_FAILED`,
   *   `ERR_HOSTMAP_DESCRIPTOR_LOST`
   */
  duplicateFd(): number
  /** `'sha256-'` and the digest of the module in hexadecimal digits; `null` if none was given. */
  readonly moduleDigest: string | null
  /** The mappings and windows that it keeps, in order of address. */
  readonly mappings: readonly SnapshotMapping[]
  /** Whether `close` was called. */
  readonly closed: boolean

  /**
   * Puts an instance of the same module into this state: {@link GuardedMemory.restore} of its
   * memory, and its globals and tables. A function that stands in a table or global becomes the
   * instance's own.
   *
   * @throws as {@link GuardedMemory.restore}; `ERR_HOSTMAP_SNAPSHOT_MISMATCH` if the instance or
   *   the snapshot lacks a global or table that the other has, or the instance is known to be of
   *   another module (a pool or `instantiate` made it, of bytes); `ERR_HOSTMAP_NOT_RESTORABLE` for
   *   a table that has grown, since tables can't shrink, for a function that can't be found in the
   *   instance, and for what can't be put back and is not in `accept`
   * @remarks Cost: as `restore`; one look at each entry of the tables.
   */
  restoreTo(
    instance: object,
    options?: { exclusive?: boolean | undefined; accept?: readonly AcceptedState[] | undefined }
  ): void

  /**
   * Forks: a new instance of the module in this state, where {@link Snapshot.of} could see all of
   * the old one: take it of an instance of what {@link exposeState} gives. The start function runs
   * before. Imports that hold something of their own are yours to see to.
   *
   * @param module The module that the snapshot was taken of: compiled, or its bytes, which go
   *   through {@link exposeState}.
   * @throws (rejects) what V8 throws at instantiation; `ERR_HOSTMAP_SNAPSHOT_MISMATCH` if the bytes
   *   are not those of `moduleDigest`; as {@link Snapshot.restoreTo}
   */
  instantiate(
    module: object,
    imports?: object,
    options?: { accept?: readonly AcceptedState[] | undefined }
  ): Promise<WasmInstance>

  /**
   * Writes it to a file, which is there at once or not at all, in place of one of the same name. A
   * symbolic link is followed. Zeros are holes of the file. Only this user can read it.
   *
   * @throws (rejects) `ERR_INVALID_ARG_TYPE`, `ERR_INVALID_ARG_VALUE`, `ABORT_ERR`,
   *   `ERR_HOSTMAP_SNAPSHOT_CLOSED`, `ERR_HOSTMAP_NOT_A_FILE`, `ERR_HOSTMAP_OPEN_FAILED`,
   *   `ERR_HOSTMAP_WRITE_FAILED`, `ERR_HOSTMAP_OUT_OF_MEMORY` if the disk is full, and
   *   `ERR_HOSTMAP_NOT_RESTORABLE` if a global or table refers to an object of this process
   * @remarks Cost: reads and writes what is not zeros, on a thread of libuv's pool, and one
   *   `fsync`.
   */
  save(path: string | URL, options?: SaveSnapshotOptions): Promise<void>

  /**
   * Gives its memory back once no memory shows it. Memories that do stay as they are. Closing twice
   * does nothing.
   */
  close(): void
  /** The same as {@link Snapshot.close}. */
  [Symbol.dispose](): void
}

/** Options of {@link GuardedMemory.window}. */
export interface WindowOptions {
  /**
   * How much it can show at once: at least a host page; rounded up to whole ones. An offset within
   * a page takes room of it.
   */
  byteLength: number
  /**
   * Where it starts: a multiple of the host page size inside the memory. Default: past the memory's
   * end.
   */
  at?: number | bigint | undefined
  /**
   * The most that a slide may ask for: `'shared'` includes the others, `'private'` includes
   * `'readonly'`. Default `'readonly'`.
   */
  access?: Access | undefined
  /**
   * What stands where no region is shown: past a region's end, behind a chunk that is shorter than
   * the window, and everywhere while it shows nothing.
   *
   * - `'trap'`: nothing. A load or store of the module traps; all other accesses find zeros, count
   *   in {@link Window.faults}, and are reported once as a warning with the code
   *   `HOSTMAP_PAST_END`. Without the fault guard (`limits().faultGuard`) these end the process.
   * - `'zeros'`: zeros, read-only in a `'readonly'` window. What is written there is gone after the
   *   next slide.
   *
   * After a growth of the memory by its module it is zeros that can be written, until the next call
   * into the library that concerns the memory: V8 makes all of a memory accessible then. A slide is
   * such a call.
   *
   * It starts at the next host page: up to there bytes of the file, or zeros, follow what is shown.
   * Default `'trap'`.
   */
  rest?: 'trap' | 'zeros' | undefined
  /** As for {@link MapOptions.allocator}. */
  allocator?: GuestAllocator | undefined
  /**
   * Once an access found no data, past what is shown included, `slide`, `source` and `chunks` throw
   * `ERR_HOSTMAP_FAULTED`, and so does `next` of its sources, at the end too, so that the module
   * traps; until {@link Window.acknowledgeFaults}. As {@link MapOptions.strict} else. Default
   * false.
   */
  strict?: boolean | undefined
}

/** Options of {@link Window.slide}. */
export interface SlideOptions {
  /**
   * How many bytes to show: 1 to what the window holds and the region has. Default: as many as
   * there are.
   */
  byteLength?: number | undefined
  /** As the window's access allows. Default: the window's. */
  access?: Access | undefined
}

/** What a window shows after a slide. */
export interface Shown<A extends AddressType = AddressType> {
  /**
   * Where the first byte is, from the start of the memory: the window's address, and the offset
   * within its page.
   */
  address: number
  /** The same, as the module's functions take it. */
  pointer: Pointer<A>
  /** How many bytes are there. */
  byteLength: number
}

/** Options of {@link Window.source}. */
export interface SourceOptions {
  /**
   * How many bytes each step shows at most that were not shown before: 1 to the window's
   * `byteLength` less `overlap`, in a 32-bit memory less than 4 GiB. A step shows less where the
   * window has no room beside what is kept and the offset within a page. Default: what the window
   * holds, in whole 2 MiB if it holds that much, else in whole host pages.
   */
  chunk?: number | undefined
  /**
   * How many of the last bytes that were shown stand in front of the next chunk again, if the
   * module does not say. At most the window's `byteLength` less a host page. Default 0.
   */
  overlap?: number | undefined
  /** Where in the region to start. Default 0. */
  byteOffset?: number | undefined
  /** How many bytes to read. Default: to the region's end. */
  byteLength?: number | undefined
  /** As the window's access allows. Default: the window's. */
  access?: Access | undefined
  /**
   * Whether threads of ours bring the next chunk in, from the disk and into the process's page
   * tables, while the module works on one: at least 8 MiB ahead, less where memory is scarce. Not
   * for `'shared'` access. They give way to other threads, and take what is left of the processors:
   * turn it off where all of them have work and the data is in the page cache. Holes of memfds are
   * left alone. Default true.
   */
  readAhead?: boolean | undefined
  /**
   * Whether pages that were passed leave the page cache, unless another mapping has them or they
   * wait to be written. For files only. `'auto'`: if the region is larger than half of the memory
   * that the process may use (its control group's limit, or the machine's). Default `'auto'`.
   */
  leaveBehind?: boolean | 'auto' | undefined
}

/** Options of {@link Window.chunks}. */
export interface ChunkOptions extends SourceOptions {
  /** Ends the loop with an `AbortError` (`code: 'ABORT_ERR'`) before the next chunk. */
  signal?: AbortSignal | undefined
  /** Called after each chunk, when the loop asks for the next one. */
  onProgress?: ((doneBytes: number, totalBytes: number) => void) | undefined
}

/** One step of {@link Window.chunks}. */
export interface Chunk<A extends AddressType = AddressType> extends Shown<A> {
  /** Which byte of the region is the first one. */
  readonly byteOffset: number
  /** The bytes, in the memory. Good until the next step, or until the memory grows. */
  readonly bytes: Uint8Array
}

/** What {@link Window.chunks} gives: for loops of both kinds. */
export interface Chunks<A extends AddressType = AddressType>
  extends Iterable<Chunk<A>>, AsyncIterable<Chunk<A>> {}

/** What a module imports to read a region chunk by chunk. Plain functions: they need no `this`. */
export type SourceImports<A extends AddressType = AddressType> = {
  /**
   * Slides to the next chunk. `keep`: how many of the last bytes that were shown are to be shown
   * again in front of it; no more than were shown. Gives how many bytes are there now, kept ones
   * included, and 0 at the end, where what is shown stays. A BigInt for 64-bit memories.
   */
  readonly next: (keep?: number | bigint) => Pointer<A>
  /** Where the first byte is that is shown. A BigInt for 64-bit memories. */
  readonly pointer: () => Pointer<A>
}

/**
 * A pass over a region through a window, for a module that asks for the next chunk by itself. Its
 * place is its own: several sources of one window take turns at showing theirs, and two modules
 * that are given one source each get the next chunk in turn.
 */
export class WindowSource<A extends AddressType = AddressType> {
  private constructor()
  /**
   * The functions that a module imports, as `next(keep: i32) -> i32` and `pointer() -> i32` (i64 in
   * a 64-bit memory); see guest/ for C and Rust.
   */
  readonly imports: SourceImports<A>
  /** The window that it slides. */
  readonly window: Window<A>
  /** The region that it reads. */
  readonly region: HostRegion
  /** Which byte of the region is the next one that was not shown. */
  readonly position: number
  /** Which byte of the region is the first one shown. */
  readonly start: number
  /** Where that byte is, as the module's functions take it. */
  readonly pointer: Pointer<A>

  /**
   * As {@link SourceImports.next}.
   *
   * @throws as {@link Window.slide}; `ERR_OUT_OF_RANGE` where so much is kept that nothing more
   *   fits
   * @remarks Cost: a slide. A step that fails changes nothing.
   */
  next(keep?: number | bigint): Pointer<A>

  /**
   * Goes to another place: the next chunk starts there, with nothing kept.
   *
   * @param byteOffset A byte of the part that the source reads, or the one after its last.
   * @throws `ERR_INVALID_ARG_TYPE`, `ERR_OUT_OF_RANGE`
   */
  seek(byteOffset: number): void

  /** Back to the first byte of the part. */
  rewind(): void
}

/** A range of a memory that shows one part of a region after the other. It can't be posted to a worker. It stays until it is unmapped or its memory is collected, even if this object is not kept or
 * its worker has ended: unmap what a worker opened in a shared memory before it ends.
 */
export class Window<A extends AddressType = AddressType> implements Disposable {
  private constructor()
  /** Where it starts, in bytes from the start of the memory. */
  readonly address: number
  /** The same as the module's functions take it. */
  readonly pointer: Pointer<A>
  /** How much it can show, in whole host pages. */
  readonly byteLength: number
  /** The most that a slide may ask for. */
  readonly access: Access
  /** What stands where no region is shown. */
  readonly rest: 'trap' | 'zeros'
  /** The region that it shows; `null` if none. */
  readonly region: HostRegion | null
  /** Which byte of the region is the first one shown; 0 if none. */
  readonly byteOffset: number
  /** How many bytes are shown. */
  readonly shownBytes: number
  /** The memory it stands in. */
  readonly memory: GuardedMemory<A>
  /** Whether `unmap` was called. */
  readonly unmapped: boolean
  /** As {@link Mapping.strayWrites}, of all that it ever showed. */
  readonly strayWrites: number
  /**
   * As {@link Mapping.faults}, of all that it ever showed; accesses past what it shows included.
   */
  readonly faults: number
  /**
   * As {@link Mapping.lastFault}. `cause` is `'unavailable'` where the file that was shown then is
   * not shown any more.
   */
  readonly lastFault: Fault | null
  /** Whether faults make its calls throw: see {@link WindowOptions.strict}. */
  readonly strict: boolean

  /** As {@link Mapping.checkFaults}. */
  checkFaults(): void
  /** As {@link Mapping.acknowledgeFaults}. */
  acknowledgeFaults(): number

  /**
   * Shows another part of a region, of the same or another one, or with `null` nothing. What was
   * written to a `'private'` one is gone.
   *
   * May be called while the module is running: from a function that it imports, which is the usual
   * case. Another thread that reads a shared memory meanwhile finds, page by page, what was shown
   * before or what is shown now. A file that has got shorter is not noticed here: see {@link
   * Mapping.faults}.
   *
   * @param byteOffset Which byte to show first: any one. Default 0.
   * @throws `ERR_INVALID_ARG_TYPE`, `ERR_INVALID_ARG_VALUE`, `ERR_OUT_OF_RANGE`,
   *   `ERR_HOSTMAP_REGION_CLOSED`, `ERR_HOSTMAP_REGION_READONLY`, `ERR_HOSTMAP_WINDOW_UNMAPPED`,
   *   `ERR_HOSTMAP_MEMORY_MOVED`, `ERR_HOSTMAP_MEMORY_HIDDEN`, `ERR_HOSTMAP_FAULTED`,
   *   `ERR_HOSTMAP_OUT_OF_MEMORY`, `ERR_HOSTMAP_MAP_FAILED`. It shows what it did then, or the
   *   beginning of it, if less was asked for
   * @remarks Cost: one system call, whatever the sizes: `mmap` for memfds, `mremap` for files, of
   *   which the whole region is mapped once, when it is first slid over (its size in address space,
   *   and one memory mapping). `mmap` and `mremap` where that can't be: kernels before 5.13, a
   *   limit on address space, or `'shared'` memfds. One more `mmap` where the rest changes: less is
   *   shown than before, or the rest is zeros that can be written. The kernel's share grows with
   *   the pages that were touched. In a process with `mlockall(MCL_FUTURE)` mapping the whole
   *   region reads it in.
   */
  slide(region: HostRegion, byteOffset?: number, options?: SlideOptions): Shown<A>
  /** The same for a part, by its names. */
  slide(region: HostRegion, part: Partial<RegionPart> & SlideOptions): Shown<A>
  slide(region: null): Shown<A>

  /**
   * A pass over the region, for a module: give it `source.imports`.
   *
   * @throws `ERR_INVALID_ARG_TYPE`, `ERR_INVALID_ARG_VALUE`, `ERR_OUT_OF_RANGE`,
   *   `ERR_HOSTMAP_REGION_CLOSED`, `ERR_HOSTMAP_WINDOW_UNMAPPED`, `ERR_HOSTMAP_FAULTED`
   * @remarks Cost: none. With `readAhead` or `leaveBehind`, the first step makes a stage of the
   *   region (see {@link Window.slide}) and, for all windows of the process together, up to four
   *   threads.
   */
  source(region: HostRegion, options?: SourceOptions): WindowSource<A>

  /**
   * The same for JavaScript: `for (const chunk of window.chunks(region))`. The `for await` form
   * lets the event loop turn between two chunks. Each loop starts at the first byte of its part.
   * Loops inside of each other over one window each show their own chunk, and the bytes of the
   * outer one are the inner one's then.
   *
   * @throws as {@link Window.source}
   */
  chunks(region: HostRegion, options?: ChunkOptions): Chunks<A>

  /** As {@link Mapping.unmap}. Its sources can't be used any more. */
  unmap(): void
  /** The same as {@link Window.unmap}. */
  [Symbol.dispose](): void
}

/** One range of a memory's reservation. */
export interface LayoutRange {
  /**
   * - `'linear'`: the module's own memory.
   * - `'mapped'`: a mapping or a window.
   * - `'reserved'`: inaccessible; the memory may grow into it.
   * - `'guard'`: inaccessible for good.
   */
  readonly kind: 'linear' | 'mapped' | 'reserved' | 'guard'
  /** First byte, from the start of the memory; negative for a guard below it. */
  readonly start: number
  /** The byte after the last. */
  readonly end: number
  /**
   * What can be done there: a mapping's access, `'readwrite'` for the module's own memory, `'none'`
   * where nothing is accessible.
   */
  readonly access: Access | 'readwrite' | 'none'
  /**
   * A mapping's region; `null` for other ranges, empty windows, and mappings that another thread
   * made.
   */
  readonly region: HostRegion | null
  /** Which byte of the region is at `start`; 0 for other ranges. */
  readonly byteOffset: number
  /**
   * Of a window: how much of it shows the region, in whole host pages. `undefined` for all else.
   */
  readonly windowBytes: number | undefined
}

/**
 * The ranges of a memory's reservation, without gap or overlap. Prints as a drawing, by
 * `console.log`, `util.inspect` and `String`.
 */
export class Layout implements Iterable<LayoutRange> {
  private constructor()
  /** In order of address. */
  readonly ranges: readonly LayoutRange[];
  [Symbol.iterator](): Iterator<LayoutRange>
  /** The drawing: a bar, and a line for each range. */
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
 * A module that shows its state: its memory, if it has just one, its mutable globals and its tables
 * are exported, those that it does not export itself under names that start with `hostmap:`.
 * Nothing else of it changes, but for a custom section `wasm-hostmap`, by which {@link
 * InstancePool.create} knows a `WebAssembly.Module` that was compiled from the result. What was
 * exposed before comes out as it went in.
 *
 * That section is believed: compile what you have exposed, and not what others say they have.
 * (Given bytes, it is made anew.)
 *
 * Where an instance may drop segments that are used, or hold objects with mutable fields, its
 * memory has one more name (`hostmap:dropped-segments`, `hostmap:gc-objects`), by which {@link
 * Snapshot} knows it.
 *
 * @param module The module's bytes. They are not validated.
 * @throws `ERR_INVALID_ARG_TYPE`; `ERR_INVALID_ARG_VALUE` where they can't be read, with the place,
 *   or have more of a thing than any engine takes; `ERR_HOSTMAP_UNSUITABLE_MODULE` where more than
 *   100,000 exports would have to be added, or V8 would not take as many;
 *   `ERR_HOSTMAP_OUT_OF_MEMORY`
 * @remarks Cost: reads all of the module's code, and one copy of the bytes; memory of a small
 *   multiple of the bytes; blocks the thread. {@link InstancePool.create} and {@link
 *   Snapshot.instantiate} do it on another one.
 */
export function exposeState(
  module: ArrayBuffer | SharedArrayBuffer | ArrayBufferView
): ReturnType<typeof Uint8Array.from>

/** What a module asks for: see {@link GrowthOptions.onGrow}. */
export interface GrowthRequest {
  /** By how much, in Wasm pages of 64 KiB: at least 1. It may be more than the memory can have. */
  readonly wasmPages: number
  /** The memory's size, in bytes. */
  readonly byteLength: number
  /** Its size after the growth, in bytes. */
  readonly newByteLength: number
  /** Which memory of the module, from 0. */
  readonly memoryIndex: number
  /** The memory; `null` while the start function runs, if the module makes the memory itself. */
  readonly memory: GuardedMemory | null
}

/** Options of {@link instrumentGrowth}, and of pools ({@link InstancePoolOptions.growth}). */
export interface GrowthOptions {
  /**
   * Called before each growth, on the module's thread. With `false` the growth is refused, and the
   * module gets -1, as where memory is short; with `true` or nothing it is done. What it throws
   * goes through the module to its caller, and the memory stays as it is. No promise.
   */
  onGrow?: ((request: GrowthRequest) => boolean | void) | undefined
  /**
   * The most that a memory may have, in bytes: a growth beyond is refused, without a call of
   * `onGrow`. Threads that grow one shared memory at the same moment may pass it.
   */
  limit?: number | undefined
}

/** A module whose `memory.grow` asks the host: see {@link instrumentGrowth}. */
export class InstrumentedModule {
  private constructor()

  /** The module, with calls in place of `memory.grow`. */
  readonly bytes: ReturnType<typeof Uint8Array.from>
  /**
   * What the bytes import the host's functions from: `'hostmap'`, or another name that the module
   * does not use.
   */
  readonly importModule: string

  /**
   * The imports of one instance: yours, with the host's functions. Each instance needs its own.
   * Call `bind` with the instance when it is made: until then the module grows a memory of its own
   * by itself, once it was allowed to. Imported memories are known without.
   *
   * @example const { imports, bind } = instrumented.importsFor({ env }) const instance = new
   * WebAssembly.Instance(module, imports) // module: compiled from instrumented.bytes
   * bind(instance)
   */
  importsFor(imports?: object): { imports: Record<string, any>; bind: (instance: object) => void }

  /** Compiles the bytes, makes an instance, and binds it. @throws (rejects) what V8 throws */
  instantiate(imports?: object): Promise<WasmInstance>
}

/**
 * Rewrites each `memory.grow` of a module into a call of the host, which decides, grows the memory,
 * and protects read-only mappings again before the module goes on. (Where a module grows its memory
 * by itself they are writable until the next call into this library.)
 *
 * Growth by JavaScript, by `WebAssembly.Memory.prototype.grow`, is not seen; Emscripten's modules
 * grow that way. Functions of the module get other indices, by one for each memory that code grows,
 * so snapshots of the module as it was don't fit. A memory that is not exported gets an export
 * (`hostmap:memory`). Names of functions stay, hints for the compiler (`metadata.code.*`) go, and
 * source maps and DWARF don't fit any more. It goes together with {@link exposeState}, in either
 * order.
 *
 * @param module The module's bytes. They are not validated.
 * @throws `ERR_INVALID_ARG_TYPE`, `ERR_OUT_OF_RANGE`; `ERR_INVALID_ARG_VALUE` where the bytes can't
 *   be read; `ERR_HOSTMAP_UNSUITABLE_MODULE` for code of a proposal that is not known here, for
 *   more than 1,000 memories that are grown, and where V8 would take no function, import or type
 *   more; `ERR_HOSTMAP_OUT_OF_MEMORY`
 * @example
 * const instance = await instrumentGrowth(bytes, { limit: 256 * 2 ** 20 }).instantiate(imports)
 * @remarks Cost: reads and writes all of the module, and V8 validates it; blocks the thread. For
 *   what a growth costs see BENCHMARKS.md.
 */
export function instrumentGrowth(
  module: ArrayBuffer | SharedArrayBuffer | ArrayBufferView,
  options?: GrowthOptions
): InstrumentedModule

/**
 * State that can't be put back, and that may stay as a program left it. One rule for pools ({@link
 * InstancePoolOptions.accept}), {@link Snapshot.of}, {@link Snapshot.restoreTo} and {@link
 * Snapshot.instantiate}.
 *
 * - `'hidden-globals'`, `'hidden-tables'`: those that can't be reached. Of a `WebAssembly.Module`
 *   that was not made from what {@link exposeState} gives: all that it does not export. Otherwise
 *   tables whose elements JavaScript has no values for (`exnref`).
 * - `'v128-globals'`: mutable globals whose values JavaScript has none for (`v128`, `exnref`).
 * - `'dropped-segments'`: passive segments that `data.drop` or `elem.drop` may drop, and that are
 *   used, by code that runs after the start function. Nothing brings them back.
 * - `'gc-objects'`: structs and arrays with mutable fields, where a global or a table may lead to
 *   them. The references are restored, the fields are not, and instances share them.
 * - `'grown-memory'`: the size of a memory that a program has grown. The bytes beyond are zeros.
 */
export type AcceptedState =
  | 'hidden-globals'
  | 'hidden-tables'
  | 'v128-globals'
  | 'dropped-segments'
  | 'gc-objects'
  | 'grown-memory'

/** Options of {@link InstancePool.create}. */
export interface InstancePoolOptions {
  /**
   * What instances import: for all of them, or a function that gives it for each, whose argument
   * counts the instances from 0. Mutable globals, tables and the memory that a module imports must
   * be new ones in each call; with an imported memory it must be a function, and all of one size.
   * No promise.
   */
  imports?: object | ((index: number) => object) | undefined
  /**
   * Called for each instance right after it is made: for imports that must know it, such as WASI's.
   * Not asynchronous. What it does to the first instance's state is part of the state of all, and
   * what it does to others' does not stay.
   */
  bind?: ((instance: WasmInstance, memory: GuardedMemory) => void) | undefined
  /**
   * Called once, for the first instance: the state that it leaves is what every instance has when
   * it is acquired. Regions that it maps stand in each.
   */
  init?: ((instance: WasmInstance, memory: GuardedMemory) => unknown) | undefined
  /**
   * Instead of `init`: a state that was saved, of a pool, or of an instance of what {@link
   * exposeState} gives: it must hold all that the module keeps, and be of this module, as far as
   * both digests are known. The pool does not close it; leave it open as long as the pool is.
   */
  snapshot?: Snapshot | undefined
  /** How many instances `create` makes: 0 to `max`. With `init` at least one is made. Default 1. */
  size?: number | undefined
  /**
   * How many there may be at once: 1 to 1,000,000. Each takes 8 to 10 GiB of address space. Default
   * 64.
   */
  max?: number | undefined
  /**
   * What may stay as a program left it. Whatever else can't be restored is refused: by `create`, or
   * the instance is discarded. Default: nothing.
   */
  accept?: readonly AcceptedState[] | undefined
  /** As for {@link GuardedMemory.snapshot}. */
  keepResidentBytes?: number | undefined
  /**
   * Watches the growth of each instance's memory, as {@link instrumentGrowth} does. For a module
   * that is given as bytes. Its states fit no pool without this option, nor the other way round.
   */
  growth?: GrowthOptions | undefined
}

/** What a pool has and did: see {@link InstancePool.stats}. */
export interface PoolStats {
  /** Instances that there are: idle, busy, or being made. */
  readonly size: number
  /** Instances that wait to be acquired. */
  readonly idle: number
  /** Instances that were acquired and not released. */
  readonly busy: number
  /** Calls of `acquire` that wait. */
  readonly waiting: number
  /** How many instances there may be. */
  readonly max: number
  /** Instances made, ever. */
  readonly created: number
  /** Instances that could not be restored, or were given to `discard`, and were let go. */
  readonly discarded: number
  /** Instances handed out, ever. */
  readonly acquired: number
  /** Instances restored at their release, ever. */
  readonly restored: number
  /** How long that took, in microseconds; 0 before the first. */
  readonly restoreMicroseconds: {
    readonly last: number
    readonly mean: number
    readonly max: number
  }
  /** Why the last instance that could not be restored could not; `null` if there was none. */
  readonly lastFailure: Error | null
}

/**
 * Instances of one module that all start from the same state, and go back to it when they are
 * released: memory, mutable globals and tables. So a program that runs in one finds nothing of
 * those that ran before, whatever became of them: a trap deep in the stack, which leaves the
 * module's stack pointer in the wrong place, is like any other end.
 *
 * What is put back is all that an instance keeps, but for what is named at {@link AcceptedState}.
 * Objects of the host, in globals and tables of type `externref`, are the same ones for all
 * instances, and so are those behind imports, but that each {@link WindowSource} of a window that
 * stands in the state starts again at its `byteOffset`. A NaN in a global comes back as a NaN,
 * perhaps with other bits.
 *
 * An instance that can't be restored is discarded, and another is made when one is needed: its
 * table has grown, its memory has (without `'grown-memory'`), a mapping or window stands in it that
 * the snapshot has not, one that it has was unmapped, or the kernel has no memory. {@link
 * PoolStats.lastFailure} tells. In a shared memory no other thread may run when an instance is
 * released.
 */
export class InstancePool implements Disposable {
  private constructor()

  /**
   * Compiles the module if needed, makes the first instance, calls `init`, takes the snapshot and
   * makes the other instances.
   *
   * @param module The module's bytes, of which {@link exposeState} is made; or a
   *   `WebAssembly.Module`, which must export its memory. Of one that was not made from what
   *   `exposeState` gives, nobody can tell what it hides: it is refused unless `accept` names
   *   `'hidden-globals'` and `'hidden-tables'`, and what else can't be restored goes unnoticed.
   *   What a compiled module says of itself is believed, and whoever made it may have forged that:
   *   pass modules that you don't trust as bytes.
   * @throws (rejects) `ERR_INVALID_ARG_TYPE`, `ERR_INVALID_ARG_VALUE`, `ERR_OUT_OF_RANGE`,
   *   `ERR_HOSTMAP_UNSUITABLE_MODULE`; `ERR_HOSTMAP_NOT_RESTORABLE`, also where other instances
   *   can't be brought into the state that `init` left: a function in a table that they don't show;
   *   `ERR_HOSTMAP_SNAPSHOT_MISMATCH` where `snapshot` is of another module, or an instance's
   *   memory is larger than in the state (without `'grown-memory'`); what compiling, instantiating,
   *   `imports`, `bind` and `init` throw; and as {@link Snapshot.of} and {@link Snapshot.restoreTo}
   * @remarks Cost: compiling, and {@link exposeState}; `size` instances; a snapshot, which copies
   *   the memory's pages once.
   */
  static create(
    module: ArrayBuffer | SharedArrayBuffer | ArrayBufferView | WasmModule,
    options?: InstancePoolOptions
  ): Promise<InstancePool>

  /**
   * An instance, for the caller alone until he releases it. Where all are busy and there are `max`,
   * it waits; those who wait are served in the order in which they came. One that is never released
   * is never handed out again.
   *
   * @param options.signal Ends the wait: rejected with an `AbortError` (`code: 'ABORT_ERR'`).
   * @throws (rejects) `ERR_INVALID_ARG_TYPE`, `ERR_HOSTMAP_POOL_CLOSED`, `ABORT_ERR`; and what
   *   making another instance throws
   * @remarks Cost: two objects. Making another instance: as `create`, but for compiling and the
   *   snapshot; blocks the thread. Where there is no room for its memory, it is tried once more
   *   when the event loop has turned, since discarded instances may have been collected by then.
   */
  acquire(options?: { signal?: AbortSignal | undefined }): Promise<PooledInstance>

  /**
   * Calls a function with an instance, and releases it when that is through, or its promise,
   * whatever came of it.
   *
   * @returns what the function returned.
   * @throws (rejects) as `acquire`, and what the function throws; `ERR_HOSTMAP_FAULTED` if a strict
   *   mapping or window has faulted
   */
  run<T>(
    fn: (instance: PooledInstance) => T | PromiseLike<T>,
    options?: { signal?: AbortSignal | undefined }
  ): Promise<T>

  /** The numbers of this moment. Can be asked after `close`. */
  stats(): PoolStats
  /** The state that instances start from. `close` closes it, unless it was given. */
  readonly snapshot: Snapshot
  /** Whether `close` was called. */
  readonly closed: boolean

  /**
   * Lets go of the instances. Those who wait are rejected with `ERR_HOSTMAP_POOL_CLOSED`; instances
   * that are in use stay usable, and are let go when they are released. Closing twice does nothing.
   */
  close(): void
  /** The same as {@link InstancePool.close}. */
  [Symbol.dispose](): void
}

/**
 * An instance that was acquired. Once it is released, all but `released`, `release` and `discard`
 * throw `ERR_HOSTMAP_INSTANCE_RELEASED`.
 */
export class PooledInstance implements Disposable {
  private constructor()
  /** The instance itself. */
  readonly instance: WasmInstance
  /**
   * Its exports, without those that were added. Don't use them after the release: somebody else may
   * have the instance then.
   */
  readonly exports: Record<string, any>
  /** Its memory. */
  readonly memory: GuardedMemory
  /** Whether `release` was called. */
  readonly released: boolean

  /**
   * Restores the instance, and gives it to whoever waits. Throws nothing (see {@link
   * PoolStats.lastFailure}), but for a RangeError where the stack ends: then nothing has changed,
   * and it can be released again. Not while code of the instance is on the stack, or is suspended
   * and might go on (promise integration, a worker's thread): use {@link PooledInstance.discard}
   * then. Views of the memory's buffer, functions and tables that somebody keeps reach the next
   * user's instance. Releasing twice does nothing.
   *
   * @remarks Cost: as {@link GuardedMemory.restore}, and about 0.1 us for each mutable global and
   *   for each entry of a table that anything can change.
   */
  release(): void

  /**
   * Takes the instance out of the pool, as it is, in place of `release`: for one that may still be
   * running. Whoever waits gets a new one. Does nothing after a release.
   */
  discard(): void
  /** The same as {@link PooledInstance.release}. */
  [Symbol.dispose](): void
}

/** What this machine, process and V8 allow. See {@link limits}. */
export interface Limits {
  /** Bytes of a host page. */
  readonly pageSize: number
  /** Bytes of each huge page size that the kernel knows, ascending; empty if none. */
  readonly hugePageSizes: readonly number[]
  /** What V8 allows in a WebAssembly memory. */
  readonly wasm: {
    /** Bytes of a Wasm page: 65536. */
    readonly pageSize: 65536
    /** The largest 32-bit memory, in Wasm pages. */
    readonly maxPages32: number
    /** The largest 64-bit memory, in Wasm pages; 0 where this V8 has none. */
    readonly maxPages64: number
    /** Bytes of address space that a 32-bit memory takes, guards included. */
    readonly reservationBytes32: number
    /**
     * Bytes of address space that a 64-bit memory takes, guards included; 0 where this V8 has none.
     */
    readonly reservationBytes64: number
    /** Whether V8 guards memories with inaccessible pages (its trap handler). */
    readonly trapHandler: boolean
  }
  /** The process's address space. */
  readonly addressSpace: {
    /** Bytes in all. */
    readonly totalBytes: number
    /** Bytes that nothing takes. */
    readonly freeBytes: number
    /** Bytes of the largest gap. */
    readonly largestFreeBytes: number
  }
  /**
   * The limit on the process's address space (RLIMIT_AS, `ulimit -v`) in bytes; `Infinity` if there
   * is none.
   */
  readonly rlimitAddressSpaceBytes: number
  /** `vm.overcommit_memory`: 0 is `'heuristic'`, 1 `'always'`, 2 `'never'`. */
  readonly overcommit: 'heuristic' | 'always' | 'never'
  /**
   * What survives an access that faults: see docs/faults.md. Asking installs the guard, as the
   * first mapping or view does.
   */
  readonly faultGuard: {
    /**
     * The handler for SIGSEGV and SIGBUS. `'first'`: the kernel calls ours first, and it hands on
     * what is not its own. `'covered'`: another one was installed later (by another addon, or
     * another copy of this package) and must hand on to ours. `'none'`: there is none, since
     * `WASM_HOSTMAP_FAULT_GUARD` is `off` or `0` in the environment that the process started with,
     * or it was refused; writes to read-only pages end the process.
     */
    readonly handler: 'first' | 'covered' | 'none'
    /**
     * Whether loads and stores of modules trap. If not, writes go to private pages and missing
     * pages are zeros for them too.
     */
    readonly traps: boolean
    /** Why there is no handler or no traps; `null` if there are both. */
    readonly reason: string | null
  }
  /** Memory mappings (VMAs) of the process. */
  readonly mapCount: {
    /** How many there are. */
    readonly used: number
    /** How many there may be: `vm.max_map_count`. */
    readonly limit: number
  }
  /**
   * An estimate: how many more 32-bit guarded memories fit, by address space, RLIMIT_AS and
   * mappings.
   */
  readonly guardedMemoriesLeft: number
}

/**
 * What this machine, process and V8 allow, now.
 *
 * @remarks Cost: reads `/proc/self/maps`, which grows with the number of mappings of the process.
 *   Not for hot paths.
 */
export function limits(): Limits
