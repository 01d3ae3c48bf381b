'use strict'

// Which pages of a process are in memory, one by one, as /proc/PID/pagemap tells it. What pages
// hold is never read.

const { closeSync, openSync, readSync } = require('node:fs')

// Bytes of an entry, and its bits: proc_pid_pagemap(5). The upper half of each is enough.
const ENTRY_BYTES = 8
const PRESENT = 0x80000000
const SWAPPED = 0x40000000
const FILE_OR_SHARED = 0x20000000

// Entries that are read at once, and how much is read of one process at most: 32 GiB of pages of
// 4 KiB.
const ENTRIES_AT_ONCE = 64 * 1024
const MOST_ENTRIES = 8 * 1024 * 1024
// What a drawing can hold.
const MOST_RUNS = 20000

class PageMap {
  #fd
  #pageBytes
  #entriesLeft = MOST_ENTRIES
  #runsLeft = MOST_RUNS
  #known = new Map()
  #buffer = Buffer.allocUnsafe(ENTRIES_AT_ONCE * ENTRY_BYTES)

  /** Of a process (`'self'` or its id). Throws where its pages may not be looked at. */
  constructor(pid, pageBytes) {
    this.#fd = openSync(`/proc/${pid}/pagemap`, 'r')
    this.#pageBytes = pageBytes
  }

  get pageBytes() {
    return this.#pageBytes
  }

  close() {
    closeSync(this.#fd)
  }

  /**
   * The runs of pages of an entry of the process's map that are in memory or swapped out, by
   * address: `{ from, count, kind }`, in host pages from the entry's start, kind 'own', 'shared' or
   * 'swapped'. null: it can't be told, or is more than would be looked at.
   */
  runsOf(entry) {
    let runs = this.#known.get(entry)
    if (runs === undefined) {
      runs = this.#find(entry)
      this.#known.set(entry, runs)
    }
    return runs
  }

  #find({ start, end, residentBytes, swappedBytes }) {
    const count = (end - start) / this.#pageBytes
    if (residentBytes === 0 && swappedBytes === 0) return []
    if (!Number.isInteger(count) || count > this.#entriesLeft || this.#runsLeft <= 0) return null
    this.#entriesLeft -= count
    try {
      return this.#read(start / this.#pageBytes, count)
    } catch {
      // The process is gone, or the kernel does not tell.
      return null
    }
  }

  #read(first, count) {
    const runs = []
    let last = { from: 0, count: 0, kind: null }
    for (let done = 0; done < count;) {
      const wanted = Math.min(count - done, ENTRIES_AT_ONCE) * ENTRY_BYTES
      const bytes = readSync(this.#fd, this.#buffer, 0, wanted, (first + done) * ENTRY_BYTES)
      // The kernel has no entries past the end of the address space.
      if (bytes < ENTRY_BYTES) return null
      for (let at = 0; at + ENTRY_BYTES <= bytes; at += ENTRY_BYTES) {
        const kind = kindOf(this.#buffer.readUInt32LE(at + 4))
        if (kind === last.kind) last.count++
        else {
          last = { from: done + at / ENTRY_BYTES, count: 1, kind }
          if (kind === null) continue
          if (runs.length >= this.#runsLeft) return null
          runs.push(last)
        }
      }
      done += Math.floor(bytes / ENTRY_BYTES)
    }
    this.#runsLeft -= runs.length
    return runs
  }
}

function kindOf(bits) {
  if ((bits & SWAPPED) !== 0) return 'swapped'
  if ((bits & PRESENT) === 0) return null
  return (bits & FILE_OR_SHARED) !== 0 ? 'shared' : 'own'
}

module.exports = { PageMap }
