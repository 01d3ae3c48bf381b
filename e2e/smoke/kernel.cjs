'use strict'
// What the kernel has of what the package uses, and what calls cost without it. Both need
// ../machines/kernel.c, compiled: HOSTMAP_KERNEL is its path. Without it nothing is said.
const { execFileSync } = require('node:child_process')
const path = require('node:path')

const { slowness } = require('./child-process.cjs')

const program = process.env.HOSTMAP_KERNEL

/** { PROCMAP_QUERY: true, ... }; null where nobody can tell. */
function features() {
  return program ? JSON.parse(execFileSync(program, ['probe'], { encoding: 'utf8' })) : null
}

/** Microseconds for each call, on a kernel that seems to lack one thing. */
function microseconds(directory, lack) {
  const script = [
    process.execPath,
    '--expose-gc',
    '--no-warnings',
    path.join(__dirname, 'costs.cjs'),
    directory
  ]
  const text = execFileSync(program, ['without', lack, ...script], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
    timeout: 60_000 * slowness()
  })
  return JSON.parse(text)
}

/**
 * { PAGEMAP_SCAN: { with, without, ratio } }, in microseconds, for what this kernel has and can be
 * made to seem to lack. What it has is measured before and after all else; the better one counts.
 */
function costs(directory) {
  if (!program) return null
  const there = features()
  const before = microseconds(directory, 'nothing')
  const alone = {}
  for (const [name, has] of Object.entries(there)) {
    // The package does not use userfaultfd.
    if (has && name !== 'userfaultfd') alone[name] = microseconds(directory, name)[name]
  }
  const after = microseconds(directory, 'nothing')
  const all = {
    measured: Object.fromEntries(
      Object.keys(before).map(name => [name, Math.min(before[name], after[name])])
    ),
    ratios: {}
  }
  for (const [name, without] of Object.entries(alone)) {
    const ratio = without / all.measured[name]
    all.ratios[name] = { with: all.measured[name], without, ratio: Math.round(ratio * 100) / 100 }
  }
  return all
}

module.exports = { features, costs }
