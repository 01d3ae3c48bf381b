// Windows, in a CommonJS project.

import hostmap = require('wasm-hostmap')
import type { Shown, SourceOptions, Window, WindowSource } from 'wasm-hostmap'

const { GuardedMemory, HostRegion } = hostmap

const memory = new GuardedMemory({ initial: 1, maximum: 1000 })
const region = HostRegion.open('/data/orders.bin')
const window: Window = memory.window({ byteLength: 2 ** 20 })

const options: SourceOptions = { chunk: 65_536, overlap: 24 }
const orders: WindowSource = window.source(region, options)
const imports: Record<string, Record<string, Function>> = { orders: { ...orders.imports } }
const { address }: Shown = window.slide(region, 12_345)
console.log(
  imports,
  address,
  orders instanceof hostmap.WindowSource,
  window instanceof hostmap.Window
)

async function count(): Promise<number> {
  let bytes = 0
  for await (const { byteLength } of window.chunks(region)) bytes += byteLength
  for (const { byteLength } of window.chunks(region, { signal: AbortSignal.abort() }))
    bytes += byteLength
  return bytes
}
count().then(console.log)

// @ts-expect-error: what is misspelt is not taken for an option
window.source(region, { readahead: true })
// @ts-expect-error: a window is not a mapping
const mapping: hostmap.Mapping = window
