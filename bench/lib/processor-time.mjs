// Processor time of single threads, as the kernel's scheduler counts it: other work on the machine
// does not show in it, but for what it does to caches.

import { readFileSync, readdirSync } from 'node:fs'

const nsOf = schedstat => Number(readFileSync(schedstat, 'latin1').split(' ', 1)[0])

/** Nanoseconds that the calling thread has run. */
export const ownTimeNs = () => nsOf('/proc/thread-self/schedstat')

/** The same of the process's first thread of this name; 0 if there is none. */
export function threadTimeNs(name) {
  for (const thread of readdirSync('/proc/self/task')) {
    const folder = `/proc/self/task/${thread}`
    if (readFileSync(`${folder}/comm`, 'latin1').trim() === name) return nsOf(`${folder}/schedstat`)
  }
  return 0
}
