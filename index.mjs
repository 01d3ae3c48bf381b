// The CommonJS module, so that there is one native instance behind both.
import './lib/platform/esm-output.mjs'
import hostmap from './index.js'

export const {
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
  Checkpoint,
  once,
  Layout,
  limits,
  inspect,
  allowInspect,
  metrics,
  observe
} = hostmap

export default hostmap
