/**
 * One PGlite instance that goes back to its state in milliseconds, in place of a new one for each
 * test.
 *
 * Hooks of @electric-sql/pglite that it leans on: `Module` (its FS, `HEAPU8`, `stackSave` and
 * `stackRestore`), `_runExclusiveTransaction`, `_runExclusiveQuery`, `_checkReady`, `execProtocol`,
 * `parsers`, `serializers`, `listen` and its kin, `_cleanupBlob` and `_getWrittenBlob`. Tried with
 * 0.5.17. No patched globals; of the one instance, `listen`, `unlisten`, `onNotification` and
 * `offNotification` are wrapped as long as it has a checkpoint, since nothing else tells who
 * listens.
 *
 * @module wasm-hostmap/pglite
 */

/** Options of {@link checkpoint} and {@link PGliteCheckpoint.restore}. */
export interface BusyOptions {
  /**
   * How long to wait for queries and transactions that were begun before, in milliseconds: 0 to
   * 2,147,483,647. Default: 30,000.
   */
  timeout?: number | undefined
}

/**
 * Takes a checkpoint of a PGlite instance whose database is in memory, however it was made.
 *
 * It waits for queries and transactions that were begun before. Those that are begun later wait for
 * it. First it loads the shared libraries that Postgres has (PL/pgSQL, text search, conversions,
 * extensions that were given to `create`) into the memory, since what is loaded later would not
 * survive a restore. SQL does not see that.
 *
 * Costs a copy of the files and of the memory that is in use, some 60 MiB for an empty database,
 * and 0.2 to 1 s once. Not of the database alone: an open transaction, cursors and temporary tables
 * are part of it.
 *
 * @param pg An instance of PGlite, 0.5.17 or later, with its database in memory (`memory://`). Not
 * a PGliteWorker.
 * @throws (rejects)
 * - `ERR_HOSTMAP_ENGINE_UNSUPPORTED`: the database is on the host (a data directory), or this
 *   version of PGlite lacks what is needed.
 * - `ERR_HOSTMAP_ENGINE_BUSY`: after `timeout`.
 * - `ERR_HOSTMAP_NOT_RESTORABLE`: PGlite is closed, or could not start (`cause`).
 * - `ERR_INVALID_ARG_TYPE`, `ERR_INVALID_ARG_VALUE`, `ERR_OUT_OF_RANGE`, and what
 *   `GuardedMemory.snapshot` throws
 * @example
 * ```js
 * const pg = await PGlite.create()
 * await pg.exec(schema)
 * const clean = await checkpoint(pg)
 * afterEach(() => clean.restore())
 * ```
 */
export function checkpoint(pg: object, options?: BusyOptions): Promise<PGliteCheckpoint>

/** A PGlite instance's state at one moment, which {@link checkpoint} takes. */
export interface PGliteCheckpoint extends Disposable {
  /**
   * Brings the instance back: tables, files, the session (settings, temporary tables, prepared
   * statements, locks, LISTEN, an open transaction), and of PGlite's own state parsers, serializers
   * and listeners. Any number of times, after whatever a test did, errors, a transaction that SQL
   * left open and a query that failed half-way included.
   *
   * It waits for queries and transactions that were begun before; queries that are begun later see
   * the restored database. A transaction that never ends can't be undone: await what
   * `pg.transaction` returns, and don't await a restore inside of it.
   *
   * Not brought back: the clock, and objects that extensions keep in JavaScript. Unsubscribe live
   * queries first; and let one run on each table before the checkpoint, since the extension `live`
   * makes its trigger of a table once, which a restore would take away. Postgres's random() begins
   * anew each time; gen_random_uuid() does not. The memory stays as large as it has grown.
   *
   * Costs 2 to 3 ms of processor time, and 1 to 2 us for each page of 4 KiB that was written since.
   *
   * @throws (rejects)
   * - `ERR_HOSTMAP_ENGINE_BUSY`: after `timeout`; nothing was changed.
   * - `ERR_HOSTMAP_NOT_RESTORABLE`: the instance is closed; or it holds a part of an answer and
   *   does not read on.
   * - `ERR_HOSTMAP_SNAPSHOT_CLOSED`: this checkpoint is closed.
   * - What `GuardedMemory.restore` throws: a part may be back; restore it again.
   */
  restore(options?: BusyOptions): Promise<void>

  /** Gives back its memory. The instance stays as it is. Closing twice does nothing. */
  close(): void
  /** Does the same as `close`. */
  [Symbol.dispose](): void
}
