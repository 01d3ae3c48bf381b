'use strict'

// What holds for this process: its limits, and the container that it is in.

const { good, slower, missing, unknown, size, count, HIDDEN } = require('../finding.js')

// A process that has a thousand regions open is no rare thing; one without these can't open one.
const FEW_DESCRIPTORS = 256
const NEEDED_DESCRIPTORS = 16

function descriptors({ rlimits, descriptors: used, works }) {
  const limit = rlimits.get('NOFILE')
  const cost = 'Each open region, snapshot and token takes one, and the process keeps some ten.'
  const mend = { command: 'ulimit -n 4096' }
  // Then the limit itself can't be read either, if the native part does not load.
  if (limit === undefined && used === Infinity) return missing('none left', cost, mend)
  if (limit === undefined) return unknown(HIDDEN)
  const values = { limit: limit.soft, hardLimit: limit.hard, used: used ?? null }
  // Where /proc is hidden, no more than the three of every process are known of.
  const left = limit.soft - Math.min(used ?? 3, limit.soft)
  const found =
    used === undefined
      ? `at most ${count(limit.soft)}`
      : `${count(left)} left of ${count(limit.soft)}`
  if (left >= FEW_DESCRIPTORS) return good(found, values)
  // If they are the reason, the trial has failed, and says so.
  const verdict = left >= NEEDED_DESCRIPTORS && works === null ? slower : missing
  return verdict(found, cost, mend, { values })
}

function addressSpace({ rlimits, limits }) {
  const limit = rlimits.get('AS')
  if (limit === undefined) return unknown(HIDDEN)
  const values = { limitBytes: limit.soft }
  if (limit.soft === Infinity) return good('unlimited', values)
  const each = limits?.wasm.trapHandler ? limits.wasm.reservationBytes32 : 2 ** 33
  return slower(
    `limited to ${size(limit.soft)} (\`ulimit -v\`)`,
    `A memory with guards reserves ${size(each)}, and slides of windows over files map pages anew.`,
    { command: 'ulimit -v unlimited' },
    { values }
  )
}

function data({ rlimits }) {
  const limit = rlimits.get('DATA')
  if (limit === undefined) return unknown(HIDDEN)
  const values = { limitBytes: limit.soft }
  if (limit.soft === Infinity) return good('unlimited', values)
  return slower(
    `limited to ${size(limit.soft)} (\`ulimit -d\`)`,
    'Memories and copy-on-write mappings count against it in full, and slides of such windows map pages anew.',
    { command: 'ulimit -d unlimited' },
    { values }
  )
}

function fileSize({ rlimits }) {
  const limit = rlimits.get('FSIZE')
  if (limit === undefined) return unknown(HIDDEN)
  const values = { limitBytes: limit.soft }
  if (limit.soft === Infinity) return good('unlimited', values)
  return missing(
    `limited to ${size(limit.soft)} (\`ulimit -f\`)`,
    'Regions in memory and snapshots are files to the kernel: larger ones are refused.',
    { command: 'ulimit -f unlimited' },
    { values }
  )
}

/** What nothing of the package needs, for those who wonder. */
function unneeded(name, words) {
  return ({ rlimits }) => {
    const limit = rlimits.get(name)
    if (limit === undefined) return unknown(HIDDEN)
    return good(`${size(limit.soft)}: ${words}`, { limitBytes: limit.soft })
  }
}

const MODES = ['off', 'strict', 'filtered']

function confinement({ confinement: { seccomp, noNewPrivileges } }) {
  if (seccomp === undefined) return unknown(HIDDEN)
  const values = { seccomp, noNewPrivileges: noNewPrivileges ?? null }
  const words = [`seccomp ${MODES[seccomp] ?? seccomp}`]
  if (noNewPrivileges === 1) words.push('no new privileges')
  if (seccomp !== 0) words.push('what it refuses is under "Kernel"')
  return good(words.join(', '), values)
}

function container({ containers, confinement: { seccomp } }) {
  const values = { containers }
  if (containers.length === 0 && seccomp === undefined) return unknown(HIDDEN)
  if (containers.length === 0) return good('none that shows', values)
  const found = containers.map(({ kind, evidence }) => `${kind} (${evidence})`).join(', ')
  if (containers.some(({ kind }) => kind === 'gVisor')) {
    return slower(
      found,
      "gVisor's kernel is one of its own, on which nobody has tried the package: believe the trial.",
      {
        advice:
          "Run it with the default runtime (`docker run --runtime=runc`) where that's allowed."
      },
      { values }
    )
  }
  return good(found, values)
}

module.exports = {
  group: 'Process',
  checks: [
    ['process.descriptors', 'file descriptors', descriptors],
    ['process.address-space', 'address space', addressSpace],
    ['process.data', 'private memory', data],
    ['process.file-size', 'file size', fileSize],
    ['process.locked-memory', 'locked memory', unneeded('MEMLOCK', 'nothing is locked')],
    ['process.core', 'core dumps', unneeded('CORE', 'views of regions are left out of them')],
    ['process.confinement', 'confinement', confinement],
    ['process.container', 'container', container]
  ]
}
