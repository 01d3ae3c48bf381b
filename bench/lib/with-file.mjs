// The pages of a region as a file that another process can open.

import { closeSync } from 'node:fs'

/** Gives what `use` makes of the path, which is good for the time of that call. */
export function withFile(region, use) {
  const fd = region.duplicateFd()
  try {
    return use(`/proc/${process.pid}/fd/${fd}`)
  } finally {
    closeSync(fd)
  }
}
