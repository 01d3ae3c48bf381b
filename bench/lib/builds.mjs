// Builds of the package that a benchmark compares, each in processes of its own: a process takes
// the native part of one of them.

import { createRequire } from 'node:module'
import path from 'node:path'

/** `here`, or the one in the folder of `--base`, which may be of an older commit. */
export function buildOf(name) {
  if (name === 'here') return import('../../index.mjs')
  const root = path.resolve(process.env.HOSTMAP_BENCH_BASE)
  return createRequire(import.meta.url)(path.join(root, 'index.js'))
}
