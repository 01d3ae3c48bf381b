// Packages that some benchmarks compare with. They are not installed with the project:
// HOSTMAP_BENCH_PEERS names a directory whose node_modules has them.

import { createRequire } from 'node:module'
import path from 'node:path'
import { fileURLToPath } from 'node:url'

const directory = process.env.HOSTMAP_BENCH_PEERS || fileURLToPath(new URL('..', import.meta.url))
const requireFrom = createRequire(path.join(path.resolve(directory), 'package.json'))

/** The package's exports, or why it can't be loaded: `{ peer }` or `{ reason }`. */
export function loadPeer(name) {
  try {
    return { peer: requireFrom(name) }
  } catch (error) {
    const missing = error.code === 'MODULE_NOT_FOUND' && error.message.includes(`'${name}'`)
    return {
      reason: missing
        ? `${name} is not installed`
        : `${name} does not load: ${error.message.split('\n')[0]}`
    }
  }
}
