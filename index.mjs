// The CommonJS module, so that there is one native instance behind both.
import hostmap from './index.js'

export const {
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
  capture,
  CapturedUnit,
  checkpoint,
  Checkpoint,
  Layout,
  limits
} = hostmap

export default hostmap
