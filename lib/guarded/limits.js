'use strict'

// limits(): what this machine, this process and this V8 allow. Measures what was not measured yet,
// and changes nothing.

const native = require('../platform/binding.js')
const { callNative } = require('../support/errors.js')
const { hasTrapHandler, reservationOf } = require('../platform/reservation.js')
const v8 = require('../platform/v8.js')
const { isJavaScriptCore, MOST_FAST_MEMORIES } = require('../platform/engine.js')
const { faultGuard } = require('../fault/guard.js')

// VMAs that a guarded memory takes: the guard below, the memory, the guard
// above.
const VMAS_PER_MEMORY = 3

// One in so many is refused to us (src/sys/vma_budget.rs).
const LEFT_TO_V8 = 8

function limits() {
  return callNative(() => {
    // First: what it takes of the address space is to be counted.
    const guard = faultGuard()
    const pages = v8.pageLimits()
    const bytes = address => {
      const reservation = pages[address] === 0 ? null : reservationOf(address)
      return reservation === null ? 0 : reservation.belowBytes + reservation.aboveBytes
    }
    const reservationBytes32 = bytes('i32')
    const reservationBytes64 = bytes('i64')
    const trapHandler = hasTrapHandler()
    const found = native.limits(Math.max(reservationBytes32, v8.WASM_PAGE_BYTES))
    const rlimitAddressSpaceBytes = found.rlimitAddressSpaceBytes ?? Infinity
    const byAddressSpace = found.roomFor
    const byRlimit = Math.floor(
      Math.max(0, rlimitAddressSpaceBytes - found.mappedBytes) / Math.max(reservationBytes32, 1)
    )
    const byEngine = isJavaScriptCore ? MOST_FAST_MEMORIES : Infinity
    const mostMapped = found.mapCountLimit - Math.floor(found.mapCountLimit / LEFT_TO_V8)
    const byMapCount = Math.floor((mostMapped - found.mapCountUsed) / VMAS_PER_MEMORY)
    return {
      pageSize: found.pageSize,
      wasm: {
        pageSize: v8.WASM_PAGE_BYTES,
        maxPages32: pages.i32,
        maxPages64: pages.i64,
        reservationBytes32,
        reservationBytes64,
        trapHandler
      },
      addressSpace: {
        totalBytes: found.totalBytes,
        freeBytes: found.freeBytes,
        largestFreeBytes: found.largestFreeBytes
      },
      rlimitAddressSpaceBytes,
      overcommit: found.overcommit,
      faultGuard: guard,
      mapCount: { used: found.mapCountUsed, limit: found.mapCountLimit },
      userfaultfd: found.userfaultfd,
      guardedMemoriesLeft: trapHandler
        ? Math.max(0, Math.min(byAddressSpace, byRlimit, byMapCount, byEngine))
        : 0
    }
  })
}

module.exports = { limits }
