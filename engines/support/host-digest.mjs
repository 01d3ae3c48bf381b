// What this process holds of the host, so that a leak can be seen: descriptors, handles of the
// event loop, and listeners of the process.

import fs from 'node:fs'

/** Handles that come and go with promises and immediates, which are no leak. */
const PASSING = new Set(['Immediate', 'FSReqPromise', 'FSReqCallback', 'CloseReq'])

export function hostDigest() {
  const counts = {}
  const count = kind => {
    counts[kind] = (counts[kind] ?? 0) + 1
  }
  for (const fd of fs.readdirSync('/proc/self/fd')) {
    try {
      const target = fs.readlinkSync(`/proc/self/fd/${fd}`)
      // Those of earlier tests' checkpoints go when V8 collects them.
      if (!target.startsWith('/memfd:')) count(`descriptor of ${target}`)
    } catch {
      // The descriptor of the listing itself.
    }
  }
  for (const kind of process.getActiveResourcesInfo()) if (!PASSING.has(kind)) count(kind)
  for (const name of process.eventNames())
    counts[`listeners of ${String(name)}`] = process.listenerCount(name)
  return counts
}
