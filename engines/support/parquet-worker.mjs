// A thread that hands the array of a region to parquet-wasm, and tells by how much the memory of
// its module grows.

import { parentPort, workerData } from 'node:worker_threads'
import * as parquet from 'parquet-wasm'
import { HostRegion } from 'wasm-hostmap'

const byteLength = () => parquet.wasmMemory().buffer.byteLength
const before = byteLength()
const bytes = HostRegion.open(workerData).bytes()
parquet.readParquet(bytes, { rowGroups: [3], columns: ['a'] }).free()
parentPort.postMessage(byteLength() - before)
