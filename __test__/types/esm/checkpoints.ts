// Captures and checkpoints, in an ES module project: every type by its name, every option and
// member.

import { capture, CapturedUnit, Checkpoint, checkpoint, exposeState, once } from 'wasm-hostmap'
import type {
  Captured,
  CheckpointOptions,
  HostmapErrorCode,
  StateKeeper,
  WasmInstance,
  WasmModule
} from 'wasm-hostmap'

declare const bytes: Uint8Array
declare const module: WasmModule
declare const instance: WasmInstance

class Engine {
  query(text: string): Promise<number> {
    return Promise.resolve(text.length)
  }
}

const captured: Captured<Engine> = await capture(() => Promise.resolve(new Engine()))
const { value, unit } = captured
const now: Captured<Engine> = await capture(() => new Engine())
const answer: number = await value.query('select 1')
const counts: number[] = [unit.instanceCount, unit.memoryCount]

const keeper: StateKeeper = () => {
  const before = counts.slice()
  return () => counts.splice(0, counts.length, ...before)
}
const options: CheckpointOptions[] = [
  {},
  {
    state: [keeper, () => () => {}],
    accept: ['hidden-globals'],
    exclusive: true,
    keepResidentBytes: 2 ** 20,
    hugePages: false,
    name: 'clean'
  },
  { module },
  { module: bytes },
  { module: exposeState(bytes), state: undefined, name: undefined }
]
const clean: Checkpoint = checkpoint(unit)
const others: Checkpoint[] = [
  checkpoint(value),
  checkpoint(now.value, {}),
  checkpoint(instance, options[2])
]
clean.restore()
const sizes: number[] = [clean.byteLength, clean.residentBytes]
const told: [string, boolean, unknown] = [clean.name, clean.closed, clean.failure]
const disposables: Disposable[] = [clean]
clean.close()
console.log(answer, others.length, sizes, told, disposables.length)

const codes: HostmapErrorCode[] = [
  'ERR_HOSTMAP_NOT_CAPTURED',
  'ERR_HOSTMAP_CALL_PENDING',
  'ERR_HOSTMAP_CHECKPOINT_CLOSED',
  'ERR_HOSTMAP_CHECKPOINT_BROKEN'
]
console.log(codes)

// @ts-expect-error: only `capture` makes units
new CapturedUnit()
// @ts-expect-error: only `checkpoint` makes checkpoints
new Checkpoint()
// @ts-expect-error: a function is needed
capture(Promise.resolve(1))
// @ts-expect-error: a target is needed
checkpoint()
// @ts-expect-error: what keeps state returns what restores it
checkpoint(unit, { state: [() => 1] })
// @ts-expect-error: a list
checkpoint(unit, { state: keeper })
// @ts-expect-error: nothing to be chosen
clean.restore({ exclusive: true })
// @ts-expect-error: the unit is told once
unit.memoryCount = 2

const start: number = await once(unit, () => 5, { snapshot: 'a', module: new Uint8Array(1) })
const later: { at: number } = await once(unit, async () => ({ at: start }), {
  snapshot: new URL('file:///a'),
  from: undefined,
  module: new ArrayBuffer(1),
  key: new Uint8Array(32),
  accept: ['gc-objects'],
  exclusive: true,
  keepResidentBytes: 0,
  hugePages: false
})
console.log(later)
// @ts-expect-error: a file is needed
void once(unit, () => 5, { module: new Uint8Array(1) })
// @ts-expect-error: a module is needed
void once(unit, () => 5, { snapshot: 'a' })
