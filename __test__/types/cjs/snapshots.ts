// Snapshots, in a CommonJS project.

import hostmap = require('wasm-hostmap')
import type {
  AdoptedBuffer,
  Mapping,
  Snapshot,
  SnapshotMapping,
  SnapshotOptions,
  Window
} from 'wasm-hostmap'

const { GuardedMemory, HostRegion } = hostmap

const memory = new GuardedMemory({ initial: 1, maximum: 1000 })
const options: SnapshotOptions = {
  keepResidentBytes: 65_536,
  hugePages: false,
  name: 'clean',
  exclusive: true
}
const snapshot: Snapshot = memory.snapshot(options)
memory.restore(snapshot, { globals: {}, exclusive: true })
memory.reset({ keepResidentBytes: 0 })
const standing: readonly (Mapping | Window | AdoptedBuffer)[] = memory.mappings
const kept: readonly SnapshotMapping[] = snapshot.mappings
for (const { kind, address, regionName } of kept)
  console.log(kind === 'window', address, regionName ?? '-')
const digest: string | null = snapshot.moduleDigest
console.log(standing.length, digest, snapshot instanceof hostmap.Snapshot)

async function carry(path: URL): Promise<void> {
  await snapshot.save(path, { signal: AbortSignal.abort() })
  const regions = ({ byteLength }: SnapshotMapping) => HostRegion.allocate(byteLength)
  const loaded: Snapshot = await hostmap.Snapshot.load(path, { module: new Uint8Array(8), regions })
  memory.restore(loaded)
  loaded.close()
}
carry(new URL('file:///data/clean.snapshot')).then(() =>
  hostmap.Snapshot.fromFd(snapshot.duplicateFd()).close()
)

// @ts-expect-error: only memories, instances and files make snapshots
new hostmap.Snapshot()
// @ts-expect-error: a memory is no snapshot
memory.restore(memory)
// @ts-expect-error: what is misspelt is not taken for an option
memory.snapshot({ keepResident: 1 })
// @ts-expect-error: a restore keeps what its snapshot says
memory.restore(snapshot, { keepResidentBytes: 1 })
// @ts-expect-error: a snapshot is for reading
snapshot.name = 'other'
// @ts-expect-error: mappings are for reading
snapshot.mappings[0]!.address = 1
// @ts-expect-error: nor can any be added
memory.mappings.push(standing[0]!)
// @ts-expect-error: a region for each mapping, or an error
hostmap.Snapshot.load('/data/clean.snapshot', { regions: () => null })
