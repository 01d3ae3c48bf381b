/**
 * DuckDB-Wasm in Node.js over regions: files whose bytes are a region, without a copy in the
 * engine's memory.
 *
 * ```js
 * import { createRequire } from 'node:module'
 * import duckdb from '@duckdb/duckdb-wasm/blocking'
 * import { HostRegion } from 'wasm-hostmap'
 * import { mountFile, regionRuntime } from 'wasm-hostmap/duckdb'
 *
 * const mainModule = createRequire(import.meta.url).resolve(
 *   '@duckdb/duckdb-wasm/dist/duckdb-eh.wasm'
 * )
 * const bundle = { mainModule, mainWorker: '' }
 * const db = await duckdb.createDuckDB(
 *   { mvp: bundle, eh: bundle },
 *   new duckdb.VoidLogger(),
 *   regionRuntime(duckdb.NODE_RUNTIME)
 * )
 * await db.instantiate()
 * db.open({})
 * mountFile(db, 'orders.duckdb', HostRegion.open('orders.duckdb'))
 * const connection = db.connect()
 * connection.query("ATTACH 'orders.duckdb' AS orders (READ_ONLY)")
 * ```
 *
 * Works with the blocking build, in the `eh` and the `mvp` variant, on the main thread or in a
 * worker of yours; tested with 1.32.0, made for 1.29 and later. An `AsyncDuckDB` runs in a worker
 * with a runtime of its own, to which nothing can be passed but copies of bytes.
 *
 * Facts of @duckdb/duckdb-wasm 1.32.0 to know:
 *
 * - All instances of a thread use one runtime: that of the instance made last
 *   (`globalThis.DUCKDB_RUNTIME`). Pass `regionRuntime` to each.
 * - Its own NODE_RUNTIME opens files for writing and creates missing ones, so it can't read a file
 *   without the permission to write. It reads files piece by piece already; what a region adds is
 *   memory shared with other threads and processes, read-only files, snapshots and copy-on-write.
 * - Parquet and JSON are extensions, fetched over the network when first used. They read a mounted
 *   file as all others do, but were not tested here.
 * - A Wasm memory has at most 4 GiB. Mounted files are not in it: they can have any size.
 *
 * Besides those of the package, errors have the code `ERR_HOSTMAP_ENGINE_UNSUPPORTED` (the database
 * lacks a function, or its runtime knows no regions) or `ERR_HOSTMAP_FILE_IN_USE` (unmount of a
 * file that is open). What goes wrong during a query is DuckDB's own error, without a code, with
 * the file's name and the reason in its message.
 *
 * @module wasm-hostmap/duckdb
 */

import type { HostRegion } from '../index.js'

/** What is used of a DuckDB instance: what `createDuckDB` of the blocking build resolves with. */
export interface BlockingDuckDB {
  readonly mod: object
  instantiate(...args: any[]): Promise<any>
  registerFileURL(name: string, url: string, protocol: number, directIO: boolean): void
  dropFile(name: string): void
}

/**
 * Makes a runtime whose files are regions once they are mounted. What is not mounted is up to the
 * runtime that you pass.
 *
 * One runtime can serve any number of instances; each has files of its own.
 *
 * @param runtime `NODE_RUNTIME` of the package. It is not changed.
 * @throws `ERR_HOSTMAP_ENGINE_UNSUPPORTED`
 */
export function regionRuntime<Runtime extends object>(runtime: Runtime): Runtime

/** Options of {@link mountFile}. */
export interface MountOptions {
  /**
   * Whether DuckDB may write to the file. Default: `'readonly'`.
   *
   * - `'readonly'`: opening it for writing fails, and so does ATTACH without `(READ_ONLY)`.
   * - `'private'`: writes go to copies of the region's pages, and what is written past its end to
   *   memory outside of the engine. The write-ahead log beside it (`NAME.wal`) is kept in memory,
   *   too. All of it lasts until `unmount`, also while the database is detached. The region does
   *   not change.
   */
  access?: 'readonly' | 'private' | undefined
}

/** A region that DuckDB knows by a name. */
export interface MountedFile extends Disposable {
  readonly name: string
  readonly region: HostRegion
  readonly access: 'readonly' | 'private'
  /** Whether DuckDB still has the name. False after `unmount` and after `db.dropFile(name)`. */
  readonly mounted: boolean
  /**
   * Makes DuckDB forget the name. Unmounting twice does nothing.
   *
   * @throws `ERR_HOSTMAP_FILE_IN_USE`: a database is attached to it, or a query that was sent and
   *   not read to its end has it open. It stays mounted.
   */
  unmount(): void
  /** Does the same as `unmount`. */
  [Symbol.dispose](): void
}

/**
 * Gives a region a name that SQL can use: in ATTACH, `read_csv` and any other function that reads
 * files, or after FROM.
 *
 * The bytes are copied when DuckDB asks for them, straight into the buffer that it wants filled,
 * past its own buffer of file pages. Mounting reads nothing. The file may be of any size, also
 * larger than the engine's memory. You may close the region: the file keeps its bytes.
 *
 * If the region's file is truncated, queries that read host pages that are gone fail. What is
 * missing of the last page that is left reads as zeros, which DuckDB notices if it checks sums.
 *
 * A database with a log beside it (`NAME.wal`) is opened without it: check that the database was
 * closed or checkpointed.
 *
 * @param db An open instance whose runtime is a {@link regionRuntime}.
 * @param name Any text without NUL that does not end in `.tmp` or `.wal`. It hides a file of that
 *   name on disk.
 * @throws `ERR_HOSTMAP_ENGINE_UNSUPPORTED`; what `HostRegion.bytes` throws
 */
export function mountFile(
  db: BlockingDuckDB,
  name: string,
  region: HostRegion,
  options?: MountOptions
): MountedFile

/**
 * Registers a region as a file buffer in the engine's own memory, as `db.registerFileBuffer` does
 * with a copy of the bytes: here the block is a mapping of the region.
 *
 * For instances that were made with another runtime. {@link mountFile} is as fast and takes no room
 * in the engine's memory, which must have a gap as large as the region: it may grow by that much,
 * and a region of more than about 3.9 GiB does not fit.
 *
 * For reading only: ATTACH it with `(READ_ONLY)`. What DuckDB writes stays in copies of the pages,
 * but once a file grows DuckDB copies all of it.
 *
 * The block is DuckDB's, which frees it: at `unmount`, or once a file that it wrote to grows.
 * `unmount` also removes the mapping.
 *
 * @throws as {@link mountFile} and `GuardedMemory.map`
 */
export function mapFile(db: BlockingDuckDB, name: string, region: HostRegion): MountedFile
