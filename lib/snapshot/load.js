'use strict'

// What a snapshot says of itself that another thread or process made, checked against what the
// caller asked for. Nothing in it is believed: the native part has checked its form.

const { makeError, callNative } = require('../support/errors.js')
const { handleOf } = require('../region/host-region.js')
const { decodeState } = require('../instance/encoding.js')
const { stateFrom } = require('../instance/state.js')
const { grantFor } = require('./grants.js')

/** The parts of a snapshot that another thread or process made. Closes it where one is refused. */
function readLoaded(owner, { moduleDigest, regions }) {
  try {
    const about = callNative(() => owner.about())
    const digest = about.moduleDigest ?? null
    if (moduleDigest !== undefined && digest !== moduleDigest) {
      throw makeError(
        'ERR_HOSTMAP_SNAPSHOT_MISMATCH',
        digest === null
          ? 'options.module is given, and the snapshot does not say of which module it is; take it with the option `module`, or from a pool that is made of bytes'
          : `the snapshot is one of another module: of ${digest}, and options.module is ${moduleDigest}`
      )
    }
    if (typeof about.unsaveable === 'string') {
      throw makeError('ERR_HOSTMAP_NOT_RESTORABLE', about.unsaveable)
    }
    const saved = callNative(() => owner.savedMappings())
    const grants = saved.map(mapping => grantFor(mapping, regions))
    callNative(() =>
      owner.grant(
        grants.map(({ region, access }) => ({
          region: region === null ? undefined : handleOf(region),
          access
        }))
      )
    )
    const kept = callNative(() => owner.mappings()).map((it, index) => ({
      ...it,
      region: grants[index].region
    }))
    const encoded = callNative(() => owner.takeState()) ?? null
    return {
      address: about.address,
      moduleDigest: digest,
      kept,
      state: encoded === null ? null : stateFrom(decodeState(encoded)),
      unsaveable: null,
      origin: undefined
    }
  } catch (error) {
    owner.close()
    throw error
  }
}

module.exports = { readLoaded }
