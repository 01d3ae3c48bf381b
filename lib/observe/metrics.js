'use strict'

// metrics(): counts and gauges of the whole process, as an object; and the same as families of
// samples, for exporters, and in Prometheus's text format.

const { callNative } = require('../support/errors.js')
const { AT, processTotals } = require('./counts.js')

// As the native part counts them: each cause has a count for each outcome.
const CAUSES = ['readonly', 'unavailable', 'memory-error', 'past-end']
const OUTCOMES = ['trap', 'private-page', 'zeros']

/** Of the whole process, all threads together. */
function metrics() {
  const totals = callNative(processTotals)
  const { counts } = totals
  return {
    mappings: totals.mappings,
    mappingBytes: totals.mappingBytes,
    mapped: counts[AT.MAPPED],
    windows: totals.windows,
    windowBytes: totals.windowBytes,
    windowsOpened: counts[AT.WINDOWS_OPENED],
    unmapped: counts[AT.UNMAPPED],
    slides: counts[AT.SLID],
    growths: counts[AT.GROWN],
    grownBytes: counts[AT.GROWN_BYTES],
    regions: totals.regions,
    regionBytes: totals.regionBytes,
    regionsMade: counts[AT.REGIONS_MADE],
    snapshots: totals.snapshots,
    snapshotBytes: totals.snapshotBytes,
    snapshotsMade: counts[AT.SNAPSHOTS_MADE],
    restores: counts[AT.RESTORED],
    resets: counts[AT.RESET],
    copiedPages: counts[AT.COPIED_PAGES],
    droppingRestores: counts[AT.DROPPING_RESTORES],
    pool: {
      made: counts[AT.INSTANCES_MADE],
      acquired: counts[AT.ACQUIRED],
      waited: counts[AT.WAITED],
      released: counts[AT.RELEASED],
      discarded: counts[AT.DISCARDED]
    },
    faults: faultsOf(totals.faults)
  }
}

/** Those that happen: a write to a read-only page never gives zeros, and only that one a page. */
function faultsOf(counts) {
  const faults = {}
  CAUSES.forEach((cause, row) => {
    const outcome = cause === 'readonly' ? 'private-page' : 'zeros'
    const of = name => counts[row * OUTCOMES.length + OUTCOMES.indexOf(name)]
    faults[cause] = { trap: of('trap'), [outcome]: of(outcome) }
  })
  return faults
}

const counter = (name, help, unit, value) => ({ name, type: 'counter', help, unit, value })
const gauge = (name, help, unit, value) => ({ name, type: 'gauge', help, unit, value })

/** Names end as Prometheus has it: `_total` of a counter, after the unit. */
const FAMILIES = [
  gauge('mappings', 'Mappings in memories now', '', it => it.mappings),
  gauge('mapping_bytes', 'Bytes of the mappings in memories now', 'bytes', it => it.mappingBytes),
  counter('mapped_total', 'Mappings made', '', it => it.mapped),
  gauge('windows', 'Windows in memories now', '', it => it.windows),
  gauge('window_bytes', 'Bytes of the windows in memories now', 'bytes', it => it.windowBytes),
  counter('windows_opened_total', 'Windows opened', '', it => it.windowsOpened),
  counter('unmapped_total', 'Mappings and windows unmapped by a call', '', it => it.unmapped),
  counter('slides_total', 'Slides of windows', '', it => it.slides),
  counter(
    'growths_total',
    'Growths of memories that went through the package',
    '',
    it => it.growths
  ),
  counter('grown_bytes_total', 'Bytes that memories grew by in them', 'bytes', it => it.grownBytes),
  gauge('regions', 'Regions that are open, or held by a snapshot', '', it => it.regions),
  gauge('region_bytes', 'Bytes of these regions', 'bytes', it => it.regionBytes),
  counter('regions_made_total', 'Regions made, opened or received', '', it => it.regionsMade),
  gauge('snapshots', 'Snapshots that are not closed', '', it => it.snapshots),
  gauge('snapshot_bytes', 'Bytes of the pages in these snapshots', 'bytes', it => it.snapshotBytes),
  counter(
    'snapshots_made_total',
    'Snapshots taken, opened or received',
    '',
    it => it.snapshotsMade
  ),
  counter('restores_total', 'Restores of memories to a snapshot', '', it => it.restores),
  counter('resets_total', 'Resets of memories to zeros', '', it => it.resets),
  counter('copied_pages_total', 'Host pages that restores copied back', '', it => it.copiedPages),
  counter(
    'dropping_restores_total',
    'Restores that dropped written pages, beyond keepResidentBytes',
    '',
    it => it.droppingRestores
  ),
  counter('pool_made_total', 'Instances that pools made', '', it => it.pool.made),
  counter('pool_acquired_total', 'Instances that pools lent', '', it => it.pool.acquired),
  counter('pool_waited_total', 'Acquires that had to wait', '', it => it.pool.waited),
  counter(
    'pool_released_total',
    'Instances released, and restored unless the pool was closed',
    '',
    it => it.pool.released
  ),
  counter('pool_discarded_total', 'Instances thrown away', '', it => it.pool.discarded),
  counter('faults_total', 'Faults in mappings, windows and views', '', it =>
    Object.entries(it.faults).flatMap(([cause, outcomes]) =>
      Object.entries(outcomes).map(([outcome, value]) => ({ labels: { cause, outcome }, value }))
    )
  )
]

/** The same for exporters. */
function families() {
  const now = metrics()
  return FAMILIES.map(({ name, type, help, unit, value }) => {
    const found = value(now)
    const samples = typeof found === 'number' ? [{ labels: {}, value: found }] : found
    return { name: `wasm_hostmap_${name}`, type, help, unit, samples }
  })
}

/** The same in Prometheus's text format, version 0.0.4. No label or help has to be escaped. */
function prometheus() {
  let text = ''
  for (const { name, type, help, samples } of families()) {
    text += `# HELP ${name} ${help}\n# TYPE ${name} ${type}\n`
    for (const { labels, value } of samples) {
      const pairs = Object.entries(labels).map(([key, label]) => `${key}="${label}"`)
      text += `${name}${pairs.length > 0 ? `{${pairs.join(',')}}` : ''} ${value}\n`
    }
  }
  return text
}

module.exports = { metrics: Object.assign(metrics, { families, prometheus }) }
