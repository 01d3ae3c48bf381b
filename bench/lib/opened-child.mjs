// A process that shows a saved snapshot, opened or loaded: reads all of it, writes some pages, and
// tells its proportional set size on request.

import { GuardedMemory, Snapshot } from '../../index.mjs'
import { pssBytes } from './machine.mjs'
import { WASM_PAGE } from './dataset.mjs'

const [, , way, file, writtenBytes] = process.argv
const before = pssBytes()
const snapshot = await Snapshot[way](file)
const pages = snapshot.byteLength / WASM_PAGE
const guarded = new GuardedMemory({ initial: pages, maximum: pages })
guarded.restore(snapshot)
const bytes = Buffer.from(guarded.buffer)
let sum = 0
for (let at = 0; at < bytes.length; at += 4096) sum += bytes[at]
bytes.fill(1, 0, Number(writtenBytes))
process.on('message', () => process.send(pssBytes() - before))
process.send(sum)
