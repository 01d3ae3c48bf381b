'use strict'

// Asking V8 for what reserves address space: a memory, or an instance that has one. When V8
// refuses, the native part looks for the cause (src/diagnose.rs). This file decides no cause and
// words none; it only knows how much was asked for, and when to ask again.

const native = require('./binding.js')
const { atHugePage, reservationOf } = require('./reservation.js')
const { fromNative, callNative } = require('../support/errors.js')

// V8 collects garbage when it gets no address space, but may be given what was freed only the next
// time.
const ATTEMPTS = 3

// The least that guards reserve: what a 32-bit index and a 32-bit offset reach.
const LEAST_RESERVATION = 2 ** 33

/**
 * Makes something whose memory has this address type. `isRefusal` tells V8's refusals from other
 * errors of `make`. `what`, `leastBytes` (reserved at least) and `commitBytes` are for the error.
 */
function allocate({ address, isRefusal, what, leastBytes = 0, commitBytes = 0 }, make) {
  for (let attempt = 1; ; attempt++) {
    try {
      return attempt === 1 ? atHugePage(address, make) : make()
    } catch (cause) {
      if (!isRefusal(cause)) throw cause
      const measured = callNative(() => reservationOf(address))
      // Never measured: nothing of this kind could ever be made.
      const reserved =
        measured === null ? LEAST_RESERVATION : measured.belowBytes + measured.aboveBytes
      const error = refusal(what, Math.max(reserved, leastBytes), commitBytes)
      if (error.code !== 'ERR_HOSTMAP_MEMORY_REFUSED' || attempt === ATTEMPTS) {
        throw Object.assign(error, { cause })
      }
    }
  }
}

/** The error that says why V8 refused, by what is found in the process and the system. */
function refusal(what, reservationBytes, commitBytes) {
  try {
    return native.whyRefused(what, reservationBytes, commitBytes)
  } catch (error) {
    return fromNative(error)
  }
}

module.exports = { allocate, refusal }
