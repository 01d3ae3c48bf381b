// Builds the Wasm program of stats.wat and reads its report.
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import wabtModule from 'wabt'

export const WASM_PAGE_BYTES = 65536

export const programPath = fileURLToPath(new URL('stats.wat', import.meta.url))

const reportByteLength = 320

/** Assembles stats.wat and returns the Wasm binary. */
export async function assemble() {
  const wabt = await wabtModule()
  const module = wabt.parseWat('stats.wat', readFileSync(programPath, 'utf8'), {
    simd: true,
    bulk_memory: true
  })
  const { buffer } = module.toBinary({})
  module.destroy()
  return buffer
}

/** Returns `scan(pointer, byteLength)`, which returns a copy of the report's bytes. */
export function instantiate(program, memory) {
  const { exports } = new WebAssembly.Instance(program, { host: { memory } })
  return (pointer, byteLength) =>
    new Uint8Array(memory.buffer, exports.scan(pointer, byteLength), reportByteLength).slice()
}

/** Reads a report. The offsets are documented at the top of stats.wat. */
export function readReport(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const u32 = offset => view.getUint32(offset, true)
  const f64 = offset => view.getFloat64(offset, true)
  const bins = u32(12)
  return {
    finite: u32(0),
    nans: u32(4),
    infinities: u32(8),
    min: view.getFloat32(16, true),
    max: view.getFloat32(20, true),
    mean: f64(24),
    deviation: f64(32),
    low: f64(40),
    high: f64(48),
    below: u32(56),
    bins: Array.from({ length: bins }, (_, bin) => u32(60 + 4 * bin)),
    above: u32(60 + 4 * bins)
  }
}
