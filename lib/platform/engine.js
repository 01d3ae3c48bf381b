'use strict'

// Which engine runs this, and what its memories are like: V8's (Node.js, Deno, Electron), or
// JavaScriptCore's (Bun). Of V8 nothing is known here that can be measured instead
// (reservation.js).
//
// JavaScriptCore has two kinds of memories. "Fast" ones have 4 GiB and a red zone to themselves,
// stay where they are, and are given back to the kernel as a whole: pages of them can be replaced.
// The others are blocks of its heap that move with each growth, and whose addresses are used for
// something else afterwards, with whatever is mapped there. Only the process's map tells which a
// memory is.

const GiB = 2 ** 30
const MiB = 2 ** 20

/** Bun's version, or undefined. It also says that it is a Node.js. */
const BUN = process.versions.bun
const DENO = process.versions.deno

const RUNTIME =
  BUN !== undefined
    ? `Bun ${BUN}`
    : DENO !== undefined
      ? `Deno ${DENO}`
      : `Node.js ${process.version}`

/**
 * Whether async hooks tell of all that was begun. In Deno (2.9) they don't of I/O; Bun (1.4) has
 * none.
 */
const SEES_REQUESTS = BUN === undefined && DENO === undefined

/** Whether a `net.Socket` reads a descriptor that it is given. Bun's (1.4) never hears of it. */
const READS_SOCKETS = BUN === undefined

/** Whether a buffer in a message that nobody has received is known to keep its allocation. */
const KEEPS_SENT_BUFFERS = BUN === undefined && DENO === undefined

/**
 * Whether a thread comes to libuv's loop whatever it did before. Electron and NW.js have a loop of
 * their own, which runs libuv's only once that has something to do.
 */
const COMES_TO_LOOP = process.versions.electron === undefined && process.versions.nw === undefined

const isJavaScriptCore = BUN !== undefined

/**
 * What an access by a 32-bit index can reach without a check in the code: V8 leaves the index and
 * the offset to the guards; JavaScriptCore checks offsets beyond its red zone.
 */
const REACH_BYTES_I32 = isJavaScriptCore ? 4 * GiB + 8 * MiB : 8 * GiB

/** What JavaScriptCore reserves for a fast memory: so much, and not a page more. */
const FAST_MEMORY = { belowBytes: 0, aboveBytes: REACH_BYTES_I32 }

/** How many fast memories there may be at once, unless BUN_JSC_maxNumWasmFastMemories says else. */
const MOST_FAST_MEMORIES = 8

/** Why stores to read-only pages don't trap, where the engine is the cause. */
function noTraps() {
  if (isJavaScriptCore) return "Bun's JavaScriptCore can't be asked to turn faults into traps"
  if (DENO !== undefined) return "Deno leaves V8's trap handler off"
  // V8 11 has it there, but Node.js was built without.
  const isBuiltWithout = process.arch === 'arm64' && process.versions.v8.startsWith('11.')
  return isBuiltWithout
    ? "V8's trap handler is off, as in all arm64 builds of Node.js 20"
    : "V8's trap handler is off"
}

module.exports = {
  RUNTIME,
  SEES_REQUESTS,
  READS_SOCKETS,
  KEEPS_SENT_BUFFERS,
  COMES_TO_LOOP,
  isJavaScriptCore,
  REACH_BYTES_I32,
  FAST_MEMORY,
  MOST_FAST_MEMORIES,
  noTraps
}
