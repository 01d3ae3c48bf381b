'use strict'

// The public face. index.d.ts documents every member.

const { faceOfRealm } = require('./lib/copies.js')
const { checkReceivers } = require('./lib/receivers.js')

module.exports = faceOfRealm(() => {
  const { HostRegion } = require('./lib/region.js')
  const { GuardedMemory, Mapping } = require('./lib/memory.js')
  const { Window, WindowSource } = require('./lib/window.js')
  const { Snapshot } = require('./lib/snapshot.js')
  const { exposeState } = require('./lib/module.js')
  const { instrumentGrowth, InstrumentedModule } = require('./lib/growth.js')
  const { InstancePool, PooledInstance } = require('./lib/pool.js')
  const { Layout } = require('./lib/layout.js')
  const { limits } = require('./lib/limits.js')

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
