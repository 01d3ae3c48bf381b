'use strict'

// The machine's memory, and what the kernel lets a process have of it.

const {
  good,
  slower,
  missing,
  breaking,
  unknown,
  size,
  count,
  HIDDEN,
  notAsked
} = require('../finding.js')

const USUAL_PAGE_BYTES = 4096
const WASM_PAGE_BYTES = 65536

function pageSize(facts) {
  const { limits } = facts
  if (limits === undefined) return notAsked(facts)
  const { pageSize: bytes } = limits
  const values = { pageSize: bytes }
  if (bytes === USUAL_PAGE_BYTES) return good(size(bytes), values)
  if (bytes > WASM_PAGE_BYTES) {
    const advice = 'Use a kernel with pages of at most 64 KiB.'
    return breaking(size(bytes), 'A Wasm page is less than a host page.', { advice }, { values })
  }
  return slower(
    size(bytes),
    `Mappings begin and end at multiples of ${size(bytes)}, and a write copies as much.`,
    { advice: `Use a kernel with pages of ${size(USUAL_PAGE_BYTES)}.` },
    { values }
  )
}

function hugePages(facts) {
  const { hugePages: found, settings, answers } = facts
  const { sharedHugePages: shared, anonymousHugePages: anonymous } = settings
  if (found === undefined) return notAsked(facts)
  const values = { shmemEnabled: shared ?? null, enabled: anonymous ?? null, ...found }
  const settled = `shared memory: ${shared ?? 'not known'}, other: ${anonymous ?? 'not known'}`
  if (found.bytes > 0) return good(`regions get them (${settled})`, values)
  const collapses = answers.get('MADV_COLLAPSE') === null
  const isRefused = shared === 'deny' || (!collapses && shared === 'never')
  // To count them takes PAGEMAP_SCAN, which the kernel or the want of a descriptor may deny.
  if (!isRefused && /can't tell/.test(found.reason ?? ''))
    return unknown(`not counted (${settled})`, values)
  const setting = '/sys/kernel/mm/transparent_hugepage/shmem_enabled'
  const mend = isRefused
    ? { command: `echo advise | sudo tee ${setting}` }
    : /in one piece/.test(found.reason ?? '')
      ? { command: 'echo 1 | sudo tee /proc/sys/vm/compact_memory' }
      : undefined
  return slower(
    isRefused ? `regions get none (${settled})` : `regions get none: ${found.reason} (${settled})`,
    'Random reads of large regions take longer, and the first read of each 4 KiB faults.',
    mend,
    { values }
  )
}

const USUAL_MAP_COUNT = 65_530
const VMAS_OF_A_MAPPING = 2
const VMAS_OF_A_MEMORY = 3

function mapCount(facts) {
  const { limits } = facts
  if (limits === undefined) return notAsked(facts)
  const { used, limit } = limits.mapCount
  // One in eight is left to V8 (src/sys/vma_budget.rs).
  const left = Math.max(0, limit - Math.floor(limit / 8) - used)
  const [mappings, memories] = [VMAS_OF_A_MAPPING, VMAS_OF_A_MEMORY].map(each =>
    Math.floor(left / each)
  )
  const values = { used, limit, mappingsLeft: mappings, memoriesLeft: memories }
  const found = `${count(limit)}, ${count(used)} used: ${count(mappings)} mappings or ${count(memories)} memories more`
  if (limit >= USUAL_MAP_COUNT && left >= limit / 2) return good(found, values)
  const cost = 'Mappings past that are refused; pages that fault apart take one each, too.'
  const mend = { command: 'sudo sysctl -w vm.max_map_count=262144' }
  return mappings > 0
    ? slower(found, cost, mend, { values })
    : breaking(found, cost, mend, { values })
}

function addressSpace(facts) {
  const { limits, hasFiveLevels } = facts
  if (limits === undefined) return notAsked(facts)
  const { totalBytes, freeBytes, largestFreeBytes } = limits.addressSpace
  const bits = Math.log2(totalBytes)
  const values = { bits, totalBytes, freeBytes, largestFreeBytes, hasFiveLevels }
  const more = hasFiveLevels ? '; 5-level paging, of which V8 uses no more' : ''
  const found = `${bits} bits, ${size(totalBytes)}${more}`
  if (bits >= 47) return good(found, values)
  const most = Math.floor(totalBytes / (limits.wasm.reservationBytes32 || 2 ** 33))
  return slower(
    found,
    `Some ${count(most)} memories fit into a process.`,
    { advice: 'Use a kernel that is built for 48 bits.' },
    { values }
  )
}

function overcommit(facts) {
  const { limits, memory } = facts
  if (limits === undefined) return notAsked(facts)
  const values = { policy: limits.overcommit }
  if (limits.overcommit !== 'never') return good(limits.overcommit, values)
  const [limit, used] = ['CommitLimit', 'Committed_AS'].map(name => memory.get(name))
  const left = limit === undefined || used === undefined ? undefined : Math.max(0, limit - used)
  return slower(
    left === undefined ? 'never' : `never: ${size(left)} may still be committed`,
    'Copy-on-write mappings count in full, so large ones are refused (ERR_HOSTMAP_OVERCOMMIT).',
    { command: 'sudo sysctl -w vm.overcommit_memory=0' },
    { values: { ...values, leftBytes: left ?? null } }
  )
}

function machine({ memory }) {
  const [total, available, swap] = ['MemTotal', 'MemAvailable', 'SwapTotal'].map(name =>
    memory.get(name)
  )
  if (total === undefined) return unknown(HIDDEN)
  const swapping = swap > 0 ? `${size(swap)} of swap` : 'no swap'
  const values = { totalBytes: total, availableBytes: available ?? null, swapBytes: swap ?? null }
  return good(`${size(total)}, ${size(available ?? 0)} available, ${swapping}`, values)
}

// Reclaim begins before the limit is reached: then mapped files leave, and come back by reading.
const TIGHT = 0.9
const NEEDED_BYTES = 64 * 2 ** 20

function group({ group: found, memory }) {
  if (found === null && memory.size === 0) return unknown(HIDDEN)
  if (found === null) return good('no group that shows', {})
  const { version, limitBytes, usedBytes, swapLimitBytes, swapUsedBytes } = found
  const values = {
    version,
    limitBytes: limitBytes ?? null,
    usedBytes,
    swapLimitBytes: swapLimitBytes ?? null,
    swapUsedBytes: swapUsedBytes ?? null
  }
  if (limitBytes === undefined) return good(`no limit (cgroup v${version})`, values)
  const swap = swapLimitBytes === 0 ? ', no swap' : ''
  const words = `${size(usedBytes)} of ${size(limitBytes)} used${swap} (cgroup v${version})`
  const left = limitBytes - usedBytes
  const file = version === 2 ? 'memory.max' : 'memory.limit_in_bytes'
  const advice = `Give the container more: \`docker run --memory\`, a pod's memory limit, or ${file}.`
  if (left < NEEDED_BYTES) {
    const cost = 'Regions in memory count here as shared memory: the kernel soon ends the process.'
    return missing(words, cost, { advice }, { values })
  }
  if (usedBytes > TIGHT * limitBytes) {
    const cost = 'The kernel drops pages of mapped files to make room, and reads them again.'
    return slower(words, cost, { advice }, { values })
  }
  return good(words, values)
}

module.exports = {
  group: 'Memory',
  checks: [
    ['memory.machine', 'machine', machine],
    ['memory.cgroup', 'control group', group],
    ['memory.page-size', 'host pages', pageSize],
    ['memory.huge-pages', 'huge pages', hugePages],
    ['memory.map-count', 'vm.max_map_count', mapCount],
    ['memory.address-space', 'addresses', addressSpace],
    ['memory.overcommit', 'overcommit', overcommit]
  ]
}
