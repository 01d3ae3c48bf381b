/**
 * SQLite's own Wasm module, `@sqlite.org/sqlite-wasm`, over regions. Tried with 3.50.4 and 3.54.1.
 *
 * Hooks that it leans on: `vfs.installVfs`, `capi.sqlite3_vfs` and `capi.sqlite3_io_methods`,
 * `oo1.DB` with its `onclose`, `wasm.memory`, and `malloc` and `free` of `wasm.exports`.
 *
 * @module wasm-hostmap/sqlite
 */

import type { HostRegion, Mapping } from '..'

/** What `sqlite3InitModule()` resolves to: what is used of it. */
export interface Sqlite3Module {
  readonly capi: object
  readonly wasm: object
  readonly oo1: { readonly DB: abstract new (...args: any[]) => any }
}

/** A connection: `sqlite3.oo1.DB`. */
export type DatabaseOf<S extends Sqlite3Module> = InstanceType<S['oo1']['DB']>

/** Options of {@link openDatabase} and {@link mountDatabase}. */
export interface DatabaseOptions {
  /**
   * - `'readonly'`: SQLite refuses writes with `SQLITE_READONLY`. Nobody may change the region
   *   while it is open: SQLite takes the file for immutable, and neither locks it nor asks again
   *   for what it has cached.
   * - `'private'`: copy-on-write. Updates stay in this process's memory; the region does not
   *   change. The database may grow past the region's end.
   *
   * Default: `'readonly'`.
   */
  access?: 'readonly' | 'private' | undefined
}

/** Options of {@link deserialize}. */
export interface DeserializeOptions extends DatabaseOptions {
  /** Which schema of the connection it replaces. Default: `'main'`. */
  schema?: string | undefined
}

/**
 * Opens a database in a region, by a VFS, and returns the connection.
 *
 * Reads nothing but the schema. A database of any size will do, since its pages never are in
 * SQLite's memory but in its cache: more than 4 GiB, too, on each Node.js. The region may be closed
 * afterwards: the connection keeps its pages. Close the connection to give them back.
 *
 * The page cache is set to 4 MiB (`PRAGMA cache_size`) instead of SQLite's 16 MiB. A page that is
 * not in it costs a copy of that page, and a cache that fits into the processor's is faster.
 *
 * With `'private'`:
 * - Each page that is written to takes a page of memory; what the database grows by is in
 *   JavaScript's memory, as are journals. `PRAGMA temp_store = FILE` puts what `VACUUM` and large
 *   sorts need there, too, instead of SQLite's own memory of 2 GiB.
 * - Transactions, rollback and savepoints work as ever. There is no WAL: a database whose header
 *   asks for it gets a header that does not.
 *
 * If the region's file becomes shorter meanwhile, reads of what is missing fail with
 * `SQLITE_IOERR_READ`, and `region.checkFaults()` says why, where the end has a page of its own. A
 * file whose bytes are replaced goes unnoticed.
 *
 * @param sqlite3 What `sqlite3InitModule()` resolved to. The VFS is registered at the first call,
 *   under the name `hostmap`, and stays as long as the module.
 * @throws as {@link mountDatabase}; SQLite's own error, such as `SQLITE_NOTADB` for a region that
 *   holds no database
 * @example
 * ```js
 * const db = openDatabase(sqlite3, HostRegion.open('orders.sqlite'))
 * console.log(db.selectValue('SELECT count(*) FROM orders'))
 * db.close()
 * ```
 */
export function openDatabase<S extends Sqlite3Module>(
  sqlite3: S,
  region: HostRegion,
  options?: DatabaseOptions
): DatabaseOf<S>

/**
 * Makes a database in a region known to SQLite's VFS, so that several connections can open it, or
 * others can attach it: `ATTACH 'file:NAME?vfs=hostmap'`.
 *
 * Connections to one image with `'private'` see each other's commits, and lock as connections to a
 * file do: `SQLITE_BUSY`. Images of one region that were mounted apart see nothing of each other.
 *
 * @throws
 * - `ERR_HOSTMAP_ENGINE_UNSUPPORTED`: this build of SQLite lacks a hook.
 * - `ERR_HOSTMAP_SQLITE_JOURNAL`: beside the region's file is a WAL that is not empty, or a journal
 *   of a transaction that is not finished. The region does not have what is in them. Regions from
 *   `HostRegion.load` and other copies don't tell where they came from: checkpoint before you copy.
 * - What {@link HostRegion.bytes} and `duplicateFd` throw, such as `ERR_HOSTMAP_REGION_CLOSED`.
 * @example
 * ```js
 * const orders = mountDatabase(sqlite3, region, { access: 'private' })
 * const [writer, reader] = [orders.open(), orders.open()]
 * ```
 */
export function mountDatabase<S extends Sqlite3Module>(
  sqlite3: S,
  region: HostRegion,
  options?: DatabaseOptions
): MountedDatabase<DatabaseOf<S>>

/** What {@link mountDatabase} returns. */
export interface MountedDatabase<DB> extends Disposable {
  /** By which SQLite opens it, with the VFS `vfs`. Stays after `close`. */
  readonly filename: string
  /** The name of the VFS. */
  readonly vfs: string
  /** Both, for `ATTACH`, and for `new sqlite3.oo1.DB(uri)`. */
  readonly uri: string
  readonly access: 'readonly' | 'private'
  /** The size of the database now, in bytes. */
  readonly byteLength: number
  /** How many connections have it open. */
  readonly connections: number
  /** Whether `close` was called. */
  readonly closed: boolean
  /**
   * Opens another connection, as {@link openDatabase} does.
   *
   * @throws `ERR_HOSTMAP_UNMOUNTED` after `close`; SQLite's own errors
   */
  open(): DB
  /**
   * Lets nobody open it again. The pages, and what was written, go once the last connection is
   * closed. Closing twice does nothing.
   */
  close(): void
  /** Does the same as {@link MountedDatabase.close}. */
  [Symbol.dispose](): void
}

/**
 * Maps a region into SQLite's memory and calls `sqlite3_deserialize` with it: for an application
 * that has come to rely on it. {@link openDatabase} is as fast, and has none of these limits:
 *
 * - The region must fit into SQLite's linear memory, beside all else: 2 GiB, or what the build has.
 * - The address space stays SQLite's: its allocator gives a block of that size.
 * - With `'private'`, updates are copy-on-write, but the database can't grow (`SQLITE_FULL`).
 *
 * The mapping is unmapped, and its block freed, after `db.close()`: by `db.onclose.after`, which
 * goes on to the function that was there. Leave `onclose` alone afterwards, and do not unmap it
 * before. The region may be closed at once.
 *
 * @param db An open `sqlite3.oo1.DB`. What it had open as `schema` is closed.
 * @returns The mapping, for its faults and `inspect`.
 * @throws `ERR_HOSTMAP_ENGINE_UNSUPPORTED`, `ERR_HOSTMAP_SQLITE_JOURNAL`,
 *   `ERR_HOSTMAP_ALLOCATOR_FAILED`; what `guarded.map` throws; SQLite's own errors
 * @example
 * ```js
 * const db = new sqlite3.oo1.DB()
 * deserialize(sqlite3, db, region)
 * ```
 */
export function deserialize<S extends Sqlite3Module>(
  sqlite3: S,
  db: DatabaseOf<S>,
  region: HostRegion,
  options?: DeserializeOptions
): Mapping
