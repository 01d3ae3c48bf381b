'use strict'

// What this Node.js and its V8 allow.

const { good, slower, missing, breaking, unknown, size, count, notAsked } = require('../finding.js')

const OLDEST_GLIBC = '2.28'
const OLDEST_NODE = 20

const isOlder = (version, wanted) => version.localeCompare(wanted, 'en', { numeric: true }) < 0

function runtime({ runtime: name, isJavaScriptCore, flags }) {
  const { node, v8 } = process.versions
  const engine = isJavaScriptCore ? 'JavaScriptCore' : `V8 ${v8.split('-')[0]}`
  const found = `${name}, ${engine}, ${process.platform} ${process.arch}`
  const values = { version: node, v8, platform: process.platform, arch: process.arch, flags }
  if (Number.parseInt(node, 10) < OLDEST_NODE) {
    const advice = `Use Node.js ${OLDEST_NODE} or later.`
    return breaking(found, 'The package does not load in this Node.js.', { advice }, { values })
  }
  return good(found, values)
}

function webAssembly({ flags }) {
  if (typeof WebAssembly !== 'undefined') return good('there')
  const isFlag = flags.includes('--jitless')
  return breaking(
    isFlag ? 'off, by --jitless' : 'off',
    'There are no WebAssembly memories, and the package does not load.',
    { advice: isFlag ? 'Start Node.js without `--jitless`.' : 'Use a Node.js with WebAssembly.' }
  )
}

function libc({ libc: { kind, version } }) {
  const found = version === undefined ? kind : `${kind} ${version}`
  const values = { kind, version: version ?? null, oldest: kind === 'glibc' ? OLDEST_GLIBC : null }
  if (kind === 'glibc' && version !== undefined && isOlder(version, OLDEST_GLIBC)) {
    const advice = `Use a distribution with glibc ${OLDEST_GLIBC} or later, or with musl.`
    return breaking(found, 'The prebuilt binaries do not load.', { advice }, { values })
  }
  return good(found, values)
}

function permissions({ permission }) {
  if (permission === null) return good('no permission model')
  const hidden = permission.reads ? '' : '; it hides /proc from this command'
  return good(`permission model${hidden}`, permission)
}

/** Why V8 leaves no checks to inaccessible pages, and what to do: `[reason, mend]`. */
function whyNoTrapHandler({ flags, rlimits, runtime: name }) {
  if (!name.startsWith('Node.js')) return [`off in ${name}`, { advice: 'Use Node.js.' }]
  if (flags.some(flag => /^--no-?wasm-trap-handler$|^--disable-wasm-trap-handler$/.test(flag))) {
    const advice = 'Start Node.js without `--disable-wasm-trap-handler`.'
    return ['off, by --disable-wasm-trap-handler', { advice }]
  }
  const addressSpace = rlimits.get('AS')?.soft ?? Infinity
  if (addressSpace !== Infinity) {
    const reason = `off: a memory with guards does not fit into ${size(addressSpace)} (\`ulimit -v\`)`
    return [reason, { command: 'ulimit -v unlimited' }]
  }
  if (process.arch === 'arm64' && Number.parseInt(process.versions.node, 10) < 22)
    return ['off, as in all arm64 builds of Node.js 20', { advice: 'Use Node.js 22 or later.' }]
  return ['off, as this Node.js was built or set up', { advice: 'Use a build of nodejs.org.' }]
}

function trapHandler(facts) {
  const { limits, isJavaScriptCore } = facts
  if (limits === undefined) return notAsked(facts)
  const { trapHandler: isOn, reservationBytes32 } = limits.wasm
  if (isOn) {
    const whose = isJavaScriptCore ? "JavaScriptCore's" : "V8's"
    const found = `${whose} is on: a memory reserves ${size(reservationBytes32)}`
    return good(found, { reservationBytes32 })
  }
  const [reason, mend] = whyNoTrapHandler(facts)
  return missing(
    reason,
    'V8 checks each access in code and may move a memory that grows (`guarded.guarded` is false); ' +
      'where data is missing, modules read zeros and do not trap.',
    mend
  )
}

function faultGuard(facts) {
  const { limits, env, faultListeners, isJavaScriptCore } = facts
  if (limits === undefined) return notAsked(facts)
  const { handler, traps, reason } = limits.faultGuard
  const values = { handler, traps, reason }
  if (handler === 'none') {
    const isSwitchedOff = env.WASM_HOSTMAP_FAULT_GUARD !== undefined
    return breaking(
      `not installed: ${reason}`,
      'A write to a read-only mapping, or a file that gets shorter, ends the process.',
      isSwitchedOff ? { command: 'unset WASM_HOSTMAP_FAULT_GUARD' } : undefined,
      { values }
    )
  }
  if (handler === 'covered') {
    const isNodes = faultListeners > 0
    return missing(
      isNodes
        ? 'covered by a listener for SIGSEGV or SIGBUS of this process'
        : 'covered by a handler that other code installed later',
      isNodes
        ? 'Node.js does not pass faults on to it: a fault in a mapping hangs or ends the process.'
        : 'If that handler does not pass faults on, a fault in a mapping ends the process.',
      { advice: 'Remove that handler, or load wasm-hostmap after it.' },
      { breaks: isNodes, values }
    )
  }
  if (traps) return good('installed, and modules trap', values)
  const words = 'installed; modules get zeros or private pages where they would trap'
  // The line on the trap handler says what that costs, and how it is mended.
  if (!limits.wasm.trapHandler) return good(words, values)
  return missing(
    `${words}: ${reason}`,
    'Where data is missing, modules read zeros and do not trap: ask `checkFaults()`.',
    isJavaScriptCore ? { advice: 'Use Node.js.' } : undefined,
    { values }
  )
}

function memory64(facts) {
  const { limits } = facts
  if (limits === undefined) return notAsked(facts)
  const { maxPages64, pageSize, reservationBytes64 } = limits.wasm
  if (maxPages64 > 0)
    return good(`up to ${size(maxPages64 * pageSize)} each`, { maxPages64, reservationBytes64 })
  return missing(
    'none that JavaScript can make',
    'No module with a 64-bit memory can be used, and a 32-bit one sees 4 GiB at once.',
    { advice: 'Use Node.js 24 or later.' },
    { values: { maxPages64 } }
  )
}

// Programs that make a memory for each request, or pools, want more than these.
const FEW_MEMORIES = 64

function memoriesLeft(facts) {
  const { limits, rlimits, works, isJavaScriptCore } = facts
  if (limits === undefined) return notAsked(facts)
  const { guardedMemoriesLeft: left, mapCount } = limits
  const values = { guardedMemoriesLeft: left }
  if (!limits.wasm.trapHandler) return unknown('not counted: memories here have no guards', values)
  if (left >= FEW_MEMORIES) return good(`${count(left)} more fit`, values)
  const isBound = (rlimits.get('AS')?.soft ?? Infinity) !== Infinity
  const isCrowded = mapCount.limit - mapCount.used < 4 * FEW_MEMORIES
  const mend = isBound
    ? { command: 'ulimit -v unlimited' }
    : isCrowded
      ? { command: 'sudo sysctl -w vm.max_map_count=262144' }
      : isJavaScriptCore
        ? { advice: 'Use Node.js.' }
        : undefined
  const found = left === 0 ? 'none fits' : `${count(left)} more fit`
  const cost = 'What needs more of them, a pool say, is refused.'
  const verdict = left === 0 ? missing : slower
  return verdict(found, cost, mend, { breaks: left === 0 && works !== null, values })
}

module.exports = {
  group: 'Runtime',
  checks: [
    ['node.version', 'runtime', runtime],
    ['node.permissions', 'permissions', permissions],
    ['node.libc', 'C library', libc],
    ['node.webassembly', 'WebAssembly', webAssembly],
    ['v8.trap-handler', 'trap handler', trapHandler],
    ['v8.fault-guard', 'fault guard', faultGuard],
    ['v8.memory64', '64-bit memories', memory64],
    ['v8.memories', 'guarded memories', memoriesLeft]
  ]
}
