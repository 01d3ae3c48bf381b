// What inspect() gives, by its types.

import { allowInspect, inspect } from 'wasm-hostmap'
import type { InspectAccess, Inspection } from 'wasm-hostmap'

const found: Inspection = inspect({ processMap: true, pages: true })
const bytes: number | undefined = found.regions[0]?.resident?.proportionalBytes
const kind: 'mapping' | 'window' | 'adopted' | null | undefined =
  found.memories[0]?.mappings[0]?.kind
const max: number | undefined = found.pools[0]?.max
const failure: string | null | undefined = found.pools[0]?.lastFailure
const runs = found.processMap?.flatMap(entry => entry.pages ?? []) ?? []
const counts: number[] = runs.map(run => run.count)

// @ts-expect-error: no such option
inspect({ page: true })
// @ts-expect-error: data of one moment is not to be changed
found.pid = 1

export const all = [bytes, kind, max, failure, counts]
export async function allow(): Promise<void> {
  const access: InspectAccess = await allowInspect({ directory: '/run/app' })
  access.close()
}
