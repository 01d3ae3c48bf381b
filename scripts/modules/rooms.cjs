'use strict'

// The order of the rooms, bottom up: the one list of it. A file may use the files of its own room,
// and of the rooms that come before it in this list. ARCHITECTURE.md shows the list, by
// `npm run check:modules -- --write`; .dependency-cruiser.cjs reads it too.

/** The rooms of src/: a folder, or a file of that name. */
const RUST = [
  ['sys', 'the only callers of the kernel, one file for each family of calls'],
  ['totals', 'what the process has done, in numbers'],
  ['v8', 'what we know of V8: live memories, reservations, traps, collections'],
  ['access', 'the kinds of access'],
  ['wire', 'how descriptions are stored: MessagePack with named fields, bounded'],
  ['diagnose', 'why V8 or the kernel refused'],
  ['error', 'the error type, its variants and their words'],
  ['paging', 'regions whose bytes come from a provider: their chunks, and waiting for them'],
  ['fault', 'the fault guard: what a signal handler does about faults in mappings'],
  ['share', 'tokens and offers: regions and snapshots for other threads and processes'],
  ['names', 'tokens in a folder of the user, by name'],
  ['region', 'bytes behind a file descriptor: memfds, files and views of them'],
  ['memory', 'linear memories and the mappings in them'],
  ['window', 'mappings that slide'],
  ['snapshot', 'the state of a memory at one moment: taken, restored and stored'],
  ['module', 'reading and rewriting the bytes of a module'],
  ['js', 'Node-API: converts arguments and calls the rooms below'],
  ['lib', 'the root of the crate']
]

/** The rooms of lib/, all of them folders. */
const JAVASCRIPT = [
  ['support', 'checks of arguments and options, errors, and words for them'],
  ['process', "a process's map and its pages, as /proc tells them"],
  ['platform', 'what is supported, the native part, and what this V8 does'],
  ['observe', 'events for diagnostics_channel, and what is counted for metrics'],
  ['fault', 'the fault guard and its warnings'],
  ['paging', 'regions that are paged in: the worker that serves one, its providers and caches'],
  ['region', 'HostRegion, tokens, waiting'],
  ['memory', 'a memory and its mappings, below the class that shows them'],
  ['window', 'Window, sources and chunks'],
  ['instance', 'globals, tables and functions of instances; modules and the state they hide'],
  ['snapshot', 'Snapshot, saved and loaded'],
  ['guarded', 'GuardedMemory, layouts, limits'],
  ['growth', 'modules whose memory.grow asks the host'],
  ['capture', 'capture: the instances that a factory makes, as one unit'],
  ['request', 'requests of a unit, and what they have begun that may still call back'],
  ['checkpoint', 'checkpoint: a unit at one moment, and the way back there'],
  ['once', 'once: the state after an expensive call, in place of the call'],
  ['pool', 'InstancePool'],
  ['inspect', 'inspect: what is where in this process, and who may ask for it']
]

module.exports = { RUST, JAVASCRIPT }
