'use strict'

// The public face. index.d.ts documents every member.

const { faceOfRealm } = require('./lib/platform/copies.js')
const { checkReceivers } = require('./lib/support/receivers.js')

module.exports = faceOfRealm(() => {
  const { HostRegion } = require('./lib/region/host-region.js')
  const { GuardedMemory, Mapping } = require('./lib/memory/guarded-memory.js')
  const { Window, WindowSource } = require('./lib/window/window.js')
  const { Snapshot } = require('./lib/snapshot/snapshot.js')
  const { exposeState } = require('./lib/instance/module.js')
  const { instrumentGrowth, InstrumentedModule } = require('./lib/instance/growth.js')
  const { InstancePool, PooledInstance } = require('./lib/pool/instance-pool.js')
  const { Layout } = require('./lib/memory/layout.js')
  const { limits } = require('./lib/platform/limits.js')

  const face = {
    HostRegion,
    GuardedMemory,
    Mapping,
    Window,
    WindowSource,
    Snapshot,
    InstancePool,
    PooledInstance,
    exposeState,
    instrumentGrowth,
    InstrumentedModule,
    Layout,
    limits
  }
  checkReceivers(face)
  return face
})
