// The supported releases of Node.js that are on this machine.

import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

export const MAJORS = ['20', '22', '24', '26']

export const majorHere = process.versions.node.split('.')[0]

/**
 * The program of a release: this one, or the one that `npm run test:matrix` has installed;
 * `undefined` where neither is.
 */
export function nodeOf(major) {
  if (major === majorHere) return process.execPath
  const installed = fileURLToPath(
    new URL(`../../.matrix/${major}/node_modules/node/bin/node`, import.meta.url)
  )
  return existsSync(installed) ? installed : undefined
}
