// Pools, in an ES module project: every type by its name, every option and member.

import {
  exposeState,
  GuardedMemory,
  HostRegion,
  InstancePool,
  PooledInstance,
  Snapshot
} from 'wasm-hostmap'
import type {
  AcceptedState,
  HostmapErrorCode,
  FactoryPoolOptions,
  FactoryTools,
  FactoryUnit,
  InstancePoolOptions,
  PendingWork,
  PoolStats,
  WasmInstance,
  WasmModule
} from 'wasm-hostmap'

declare const bytes: Uint8Array
declare const module: WasmModule
declare const region: HostRegion
declare const snapshot: Snapshot
declare const importObject: object

// Modules in each form.
const exposed: Uint8Array[] = [
  exposeState(bytes),
  exposeState(new ArrayBuffer(8)),
  exposeState(new SharedArrayBuffer(8)),
  exposeState(new DataView(new ArrayBuffer(8)))
]

const accept: readonly AcceptedState[] = [
  'hidden-globals',
  'hidden-tables',
  'v128-globals',
  'dropped-segments',
  'gc-objects',
  'grown-memory',
  'grown-tables'
]
const options: InstancePoolOptions = {
  imports: { env: { log: console.log } },
  bind(instance: WasmInstance, memory: GuardedMemory): void {
    console.log(instance.exports, memory.byteLength)
  },
  async init(instance, memory) {
    console.log(instance.exports)
    memory.map(region)
  },
  size: 1,
  max: 8,
  accept,
  keepResidentBytes: 2 ** 20
}
const more: InstancePoolOptions[] = [
  {},
  { imports: importObject },
  { imports: index => ({ env: { log: () => console.log(index.toFixed()) } }) },
  { snapshot, init: undefined, accept: [] },
  { init: (_instance, memory) => memory.map(region) }
]

const pool: InstancePool = await InstancePool.create(exposed[0]!, options)
for (const each of more) await InstancePool.create(module, each)

// Instances.
const one: PooledInstance = await pool.acquire()
const two = await pool.acquire({ signal: AbortSignal.timeout(100) })
const instance: WasmInstance = one.instance
const sum: number = one.exports['add'](1, 2)
const memory: GuardedMemory = one.memory
const released: boolean = one.released
one.release()
one.discard()
two[Symbol.dispose]()
console.log(instance.exports, sum, memory.byteLength, released)

const given: number = await pool.run(leased => leased.exports['add'](1, 2) as number)
const promised: string = await pool.run(async () => 'done', { signal: AbortSignal.abort() })
console.log(given, promised)

// What it did.
const stats: PoolStats = pool.stats()
const counts: number[] = [
  stats.size,
  stats.idle,
  stats.busy,
  stats.waiting,
  stats.max,
  stats.created,
  stats.discarded,
  stats.acquired,
  stats.restored,
  stats.restoreMicroseconds.last,
  stats.restoreMicroseconds.mean,
  stats.restoreMicroseconds.max
]
const why: string | undefined = stats.lastFailure?.message
const state: Snapshot = pool.snapshot
const closed: boolean = pool.closed
const disposables: Disposable[] = [pool, one]
pool.close()
console.log(counts, why, state.byteLength, closed, disposables.length)

// Units of a factory.
class Engine {
  run(text: string): Promise<number> {
    return Promise.resolve(text.length)
  }
}
const ofFactory: InstancePool<Engine> = await InstancePool.create({
  make: async ({ instantiateWasm }) => {
    const hook: (imports: object, receive: (made: WasmInstance) => void) => object =
      instantiateWasm(bytes)
    instantiateWasm(module)
    console.log(hook)
    return new Engine()
  },
  init: async ({ value }) => {
    const length: number = await value.run('x = 1')
    console.log(length)
  },
  state: [
    ({ value, instance, instances, exports, memory }) => {
      console.log(instance.exports, instances.length, exports['add'], memory.byteLength)
      return () => value.run('')
    }
  ],
  before: ({ value }) => value.run(''),
  after: (unit: FactoryUnit<Engine>, error: unknown) => console.log(unit.value, error),
  destroy: ({ value }) => value.run('exit'),
  pending: ({ count, kinds }: PendingWork) => count === 1 && kinds['Timeout'] === 1,
  size: 2,
  max: 3,
  maxMemoryBytes: 2 ** 30,
  accept,
  keepResidentBytes: 2 ** 20
})
const factories: FactoryPoolOptions<number>[] = [
  { make: () => 1 },
  { make: () => Promise.resolve(1), pending: 'discard', init: undefined, max: undefined },
  { make: (tools: FactoryTools) => Object.keys(tools).length, pending: 'ignore' }
]
const numbers: InstancePool<number> = await InstancePool.create(factories[0]!)
const unit: PooledInstance<Engine> = await ofFactory.acquire()
const length: number = await unit.run(({ value }) => value.run('1'))
const at: number = unit.run(() => unit.instances.length)
const none: null = ofFactory.snapshot
const nothing: undefined = one.value
const doubled: number = await numbers.run(({ value }) => 2 * value)
unit.release()
console.log(length, at, none, nothing, doubled)

const codes: HostmapErrorCode[] = [
  'ERR_HOSTMAP_REQUEST_PENDING',
  'ERR_HOSTMAP_UNSUITABLE_MODULE',
  'ERR_HOSTMAP_NOT_RESTORABLE',
  'ERR_HOSTMAP_POOL_CLOSED',
  'ERR_HOSTMAP_INSTANCE_RELEASED'
]
console.log(codes)

// @ts-expect-error: only `create` makes pools
new InstancePool()
// @ts-expect-error: only `acquire` leases instances
new PooledInstance()
// @ts-expect-error: a module is needed
InstancePool.create()
// @ts-expect-error: a path is no module
exposeState('module.wasm')
// @ts-expect-error: all options go beside make
InstancePool.create({ make: () => 1 }, { size: 2 })
// @ts-expect-error: a state gives what restores it
InstancePool.create({ make: () => 1, state: [() => {}] })
// @ts-expect-error: neither of the two
InstancePool.create({ make: () => 1, pending: 'wait' })
// @ts-expect-error: a list
InstancePool.create(bytes, { accept: 'gc-objects' })
// @ts-expect-error: nothing that can't be restored has this name
InstancePool.create(bytes, { accept: ['everything'] })
// @ts-expect-error: what is misspelt is not taken for an option
InstancePool.create(bytes, { maximum: 3 })
// @ts-expect-error: a snapshot, not its file
InstancePool.create(bytes, { snapshot: 'pool.snapshot' })
// @ts-expect-error: the state is set once
pool.snapshot = snapshot
// @ts-expect-error: a function is needed
pool.run()
// @ts-expect-error: a picture of the moment
stats.idle = 0
