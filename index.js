'use strict'

// The public face. index.d.ts documents every member.

const { faceOfRealm } = require('./lib/platform/copies.js')

module.exports = faceOfRealm(() => {
  const { checkReceivers } = require('./lib/platform/receivers.js')
  const { HostRegion } = require('./lib/region/host-region.js')
  const { Publication } = require('./lib/region/names.js')
  const { Mapping } = require('./lib/memory/mapping.js')
  const { AdoptedBuffer } = require('./lib/memory/adopted.js')
  const { Window } = require('./lib/window/window.js')
  const { WindowSource } = require('./lib/window/source.js')
  const { exposeState } = require('./lib/instance/module.js')
  const { Snapshot } = require('./lib/snapshot/snapshot.js')
  const { GuardedMemory } = require('./lib/guarded/guarded-memory.js')
  const { Layout } = require('./lib/guarded/layout.js')
  const { limits } = require('./lib/guarded/limits.js')
  const { metrics } = require('./lib/observe/metrics.js')
  const { observe } = require('./lib/observe/observe.js')
  const { instrumentGrowth, InstrumentedModule } = require('./lib/growth/instrumented-module.js')
  const { capture } = require('./lib/capture/capture.js')
  const { CapturedUnit } = require('./lib/capture/unit.js')
  const { Checkpoint, checkpoint } = require('./lib/checkpoint/checkpoint.js')
  const { once } = require('./lib/once/once.js')
  const { InstancePool } = require('./lib/pool/instance-pool.js')
  const { PooledInstance } = require('./lib/pool/pooled-instance.js')
  const { inspect } = require('./lib/inspect/inspect.js')
  const { allowInspect } = require('./lib/inspect/allow.js')

  const face = {
    HostRegion,
    Publication,
    GuardedMemory,
    Mapping,
    AdoptedBuffer,
    Window,
    WindowSource,
    Snapshot,
    InstancePool,
    PooledInstance,
    exposeState,
    instrumentGrowth,
    InstrumentedModule,
    capture,
    CapturedUnit,
    checkpoint,
    once,
    Checkpoint,
    Layout,
    limits,
    inspect,
    allowInspect,
    metrics,
    observe
  }
  checkReceivers(face)
  return face
})
