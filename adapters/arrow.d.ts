/**
 * Arrow IPC files and streams over regions: tables without a copy, and columns as pointers.
 *
 * ```js
 * import * as arrow from 'apache-arrow'
 * import { HostRegion } from 'wasm-hostmap'
 * import { readTable } from 'wasm-hostmap/arrow'
 *
 * const table = readTable(arrow, HostRegion.open('prices.arrow'))
 * ```
 *
 * Needs apache-arrow 15 or later; tested with 21.2.0. What it leans on: `tableFromIPC`,
 * `RecordBatchReader.from`, and the buffers of `Data`.
 *
 * **What Arrow copies** (facts of apache-arrow 21.2): the bodies of compressed record batches and
 * dictionaries, for which it needs a codec; and bodies that do not start at a multiple of 8 bytes
 * of the ArrayBuffer, which writers of Arrow avoid. It copies nothing else, neither dictionaries
 * nor validity bits, of a Buffer or of a Uint8Array.
 *
 * **Cost.** {@link openArrow} reads the footer, the schema and the dictionaries. {@link readTable}
 * reads each record batch's header too: about 0.1 ms each. The pages of the data are read when you
 * touch them.
 *
 * Besides those of the package, errors have the code `ERR_HOSTMAP_ENGINE_UNSUPPORTED` (the first
 * argument lacks a function) or `ERR_HOSTMAP_NOT_ARROW`: the bytes are no Arrow IPC, or a file
 * whose footer is missing. What Arrow says about damaged bytes comes through as it is.
 *
 * @module wasm-hostmap/arrow
 */

import type { HostRegion, Mapping, Access, AddressType, Pointer } from '../index.js'

/** What is used of the package apache-arrow. Pass its exports. */
export interface ArrowPackage {
  tableFromIPC(source: any): any
  RecordBatchReader: { from(source: any): any }
}

/** The table that a package's `tableFromIPC` returns. */
// The last overload's type, which is what `ReturnType` sees, also has a promise of a table.
export type TableOf<Arrow extends ArrowPackage> = Exclude<
  ReturnType<Arrow['tableFromIPC']>,
  PromiseLike<any>
>

/** Options of {@link readTable} and {@link openArrow}, for regions: see `HostRegion.bytes`. */
export interface ReadOptions {
  /**
   * Where writes to the table's arrays go: to copies of the pages that only this table sees, or to
   * the region. Default: `'private'`.
   */
  access?: Access | undefined
  /** The first byte of the file or stream. Any offset. Default: 0. */
  byteOffset?: number | undefined
  /** How many bytes it has. Default: to the end of the region. */
  byteLength?: number | undefined
}

/**
 * Reads an Arrow IPC file or stream as a table whose columns are the region's bytes.
 *
 * The table keeps the bytes: you may close the region. Several tables may be read from one region.
 *
 * @param source A region; or a mapping, for a table over the Wasm memory, which sees what the
 *   module writes. Growth of that memory detaches such a table (it becomes empty arrays): to keep
 *   a table longer, read it from `mapping.region`.
 * @throws `ERR_HOSTMAP_NOT_ARROW`, `ERR_HOSTMAP_ENGINE_UNSUPPORTED`, what `HostRegion.bytes` and
 *   Arrow throw
 */
export function readTable<Arrow extends ArrowPackage>(
  arrow: Arrow,
  source: HostRegion | Mapping,
  options?: ReadOptions
): TableOf<Arrow>

/**
 * Opens an Arrow IPC file or stream, without reading its record batches.
 *
 * For a file the result is Arrow's `RecordBatchFileReader`: `numRecordBatches` and
 * `readRecordBatch(index)`, in any order, and an iterator over all of them. For a stream it is an
 * iterator. This is what to use for files of many batches.
 *
 * @throws as {@link readTable}
 */
export function openArrow<Arrow extends ArrowPackage>(
  arrow: Arrow,
  source: HostRegion | Mapping,
  options?: ReadOptions
): any

/**
 * One chunk of a column, as addresses in a Wasm memory. An address is `null` where the column has
 * no such buffer or the buffer is empty. Layouts are those of the Arrow columnar format.
 */
export interface ColumnPointers<A extends AddressType = AddressType> {
  /** Arrow's name of the type, such as `'Float64'`. */
  readonly type: string
  /** Arrow's number of the type. */
  readonly typeId: number
  /** How many rows. */
  readonly length: number
  /** How many of them are null. */
  readonly nullCount: number
  /**
   * The first row's value; for Bool the byte of its bit; for Utf8 and Binary byte 0 of the data
   * that `valueOffsets` count from; for Dictionary the first index.
   */
  readonly values: Pointer<A> | null
  /** How many bytes of values there are, padding included. */
  readonly byteLength: number
  /** The first row's offset: `length + 1` offsets, of 64 bits for the Large types, else of 32. */
  readonly valueOffsets: Pointer<A> | null
  /** The first row's type id, of a union. */
  readonly typeIds: Pointer<A> | null
  /** The byte that holds the first row's validity bit; `null` if no row is null. */
  readonly validity: Pointer<A> | null
  /** The first row's bit (0 to 7) in that byte, and for Bool also in `values`. */
  readonly bitOffset: number
  /** The data of Utf8View and BinaryView. */
  readonly buffers: readonly (Pointer<A> | null)[]
  /** The columns of a Struct, List, Map or Union. */
  readonly children: readonly ColumnPointers<A>[]
  /** The values of a Dictionary, by chunk; `null` for other types. */
  readonly dictionary: readonly ColumnPointers<A>[] | null
}

/**
 * Gives the addresses of a column's buffers, so that a kernel reads them where they are.
 *
 * The addresses hold until the mapping is unmapped, whatever grows. Those of a 64-bit memory are
 * BigInts. Kernels may read what the mapping shows and no more: the bytes after a buffer are
 * padding or the file's next buffer.
 *
 * @param mapping Shows all of the column: a mapping of the region that the table was read from, or
 *   the mapping that it was read from.
 * @param column A Vector (`table.getChild(name)`), a Data, or a whole Table, whose chunks are
 *   Structs. Slices have the addresses of their first row.
 * @returns An entry for each chunk.
 * @throws `ERR_INVALID_ARG_VALUE` for a column that Arrow copied or that was made otherwise: it is
 *   not in the mapping; and what `Mapping.pointerOf` throws
 * @example
 * ```js
 * const mapping = guarded.map(region)
 * const table = readTable(arrow, region)
 * let sum = 0
 * for (const { values, length } of pointersOf(mapping, table.getChild('price'))) {
 *   sum += instance.exports.sum(values, length)
 * }
 * ```
 */
export function pointersOf<A extends AddressType>(
  mapping: Mapping<A>,
  column: object
): ColumnPointers<A>[]
