// Pools, in a CommonJS project.

import hostmap = require('wasm-hostmap')
import fs = require('node:fs')
import type {
  AcceptedState,
  InstancePool,
  InstancePoolOptions,
  PooledInstance,
  PoolStats
} from 'wasm-hostmap'

const accept: AcceptedState[] = ['grown-memory', 'gc-objects']
const options: InstancePoolOptions = {
  init: (_, memory) => console.log(memory.byteLength),
  size: 2,
  accept
}

async function serve(): Promise<number> {
  const pool: InstancePool = await hostmap.InstancePool.create(
    fs.readFileSync('module.wasm'),
    options
  )
  const one: PooledInstance = await pool.acquire()
  one.release()
  const sum: number = await pool.run(({ exports }): number => exports['add'](1, 2))
  const stats: PoolStats = pool.stats()
  pool.close()
  return sum + stats.restored
}
serve().then(console.log)

const exposed: Uint8Array = hostmap.exposeState(fs.readFileSync('module.wasm'))
console.log(exposed.length, hostmap.PooledInstance.name)

// @ts-expect-error: only `create` makes pools
new hostmap.InstancePool()
// @ts-expect-error: what is misspelt is not taken for an option
hostmap.InstancePool.create(exposed, { maximum: 3 })
