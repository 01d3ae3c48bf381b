'use strict'

// Gathers everything that the checks look at, once, so that they decide and read nothing. What
// can't be had is undefined, or an error where the error is what counts.

const os = require('node:os')
const v8 = require('node:v8')
const vm = require('node:vm')
const { RUNTIME, isJavaScriptCore } = require('../../lib/platform/engine.js')
const { VERSION } = require('../../lib/platform/place.js')
const platform = require('../../lib/platform/platform.js')
const sources = require('./sources.js')
const trial = require('./trial.js')

const { attempt } = sources

/** The native part and the public face, or why there are none. */
function load() {
  try {
    const native = require('../../lib/platform/binding.js')
    return { native, hostmap: require('../../index.js'), error: null }
  } catch (error) {
    return { native: null, hostmap: null, error }
  }
}

/**
 * Lets go of the memories that were made to measure with, which would count as taken. `gc` is
 * there only if V8 is asked for it.
 */
async function collect() {
  const gc = attempt(() => {
    v8.setFlagsFromString('--expose-gc')
    return vm.runInNewContext('gc')
  })
  for (let round = 0; round < 2; round++) {
    gc?.()
    await new Promise(resolve => setImmediate(resolve))
  }
}

/** limits(), measured twice: the first time makes memories, which are no part of the answer. */
async function limitsOf({ limits }) {
  try {
    limits()
    await collect()
    return { found: limits(), error: null }
  } catch (error) {
    return { found: undefined, error }
  }
}

/** The flags that this Node.js was started with, by command line and environment. */
function flags() {
  const fromEnvironment = (process.env.NODE_OPTIONS ?? '').split(/\s+/).filter(Boolean)
  return [...process.execArgv, ...fromEnvironment]
}

/** The C library: `{ kind, version }`; the version is undefined where it does not tell. */
function libc() {
  const report = attempt(() => {
    process.report.excludeNetwork = true
    return process.report.getReport().header
  })
  const version = report?.glibcVersionRuntime
  return { kind: platform.target().endsWith('-musl') ? 'musl' : 'glibc', version }
}

/** What Node's permission model lets this process do; null without one. */
function permission() {
  const { permission: model } = process
  if (typeof model?.has !== 'function') return null
  return { reads: model.has('fs.read', '/proc/self/status'), addons: model.has('addon') }
}

const FOLDERS = [
  ['temporary folder', () => os.tmpdir()],
  ['current folder', () => process.cwd()]
]

async function folders(hostmap, mounts) {
  const seen = new Map()
  for (const [name, find] of FOLDERS) {
    const folder = attempt(find)
    if (folder === undefined) continue
    const error = hostmap === null ? undefined : await trial.snapshotFile(hostmap, folder)
    seen.set(name, { folder, mount: sources.mountOf(folder, mounts), error })
  }
  return seen
}

/** What the native part answers to a question, by name. */
function answersOf(native, question, value) {
  const list = attempt(() => native?.[question]())
  return new Map((list ?? []).map(each => [each.name, value(each)]))
}

/** The limits of this process: the native part needs no descriptor to read them. */
function rlimitsOf(native) {
  const found = answersOf(native, 'rlimits', ({ soft, hard }) => ({
    soft: soft ?? Infinity,
    hard: hard ?? Infinity
  }))
  return found.size > 0 ? found : sources.rlimits()
}

async function gather() {
  // Before anything else takes one.
  const descriptors = sources.openDescriptors()
  const loaded = load()
  const { native, hostmap } = loaded
  // Asked before the trial, whose mappings and descriptors are not the process's own.
  const limits = hostmap === null ? { found: undefined, error: null } : await limitsOf(hostmap)
  const works =
    hostmap === null ? undefined : await trial.errorOf(() => trial.mapAndRestore(hostmap))
  const mounts = sources.mounts()
  return {
    version: VERSION,
    runtime: RUNTIME.replace('Node.js v', 'Node.js '),
    isJavaScriptCore,
    unsupported: platform.unsupported(),
    target: attempt(() => platform.target()),
    loadError: loaded.error,
    binary: attempt(() => native.loadedCopies()[0].path),
    limits: limits.found,
    limitsError: limits.error,
    works,
    hugePages: hostmap === null ? undefined : attempt(() => trial.hugePages(hostmap)),
    answers: answersOf(native, 'probeKernel', ({ refused }) => refused ?? null),
    rlimits: rlimitsOf(native),
    descriptors,
    flags: flags(),
    env: process.env,
    permission: permission(),
    faultListeners: process.listenerCount('SIGSEGV') + process.listenerCount('SIGBUS'),
    libc: libc(),
    release: os.release(),
    confinement: sources.confinement(),
    containers: sources.containers(process.env),
    memory: sources.kibibytes('/proc/meminfo'),
    group: sources.memoryGroup(mounts),
    settings: {
      mapCount: sources.number('/proc/sys/vm/max_map_count'),
      memfdNoexec: sources.number('/proc/sys/vm/memfd_noexec'),
      userfaultfd: sources.number('/proc/sys/vm/unprivileged_userfaultfd'),
      anonymousHugePages: sources.chosen('/sys/kernel/mm/transparent_hugepage/enabled'),
      sharedHugePages: sources.chosen('/sys/kernel/mm/transparent_hugepage/shmem_enabled')
    },
    hasFiveLevels: / la57 /.test(sources.text('/proc/cpuinfo') ?? ''),
    folders: await folders(hostmap, mounts)
  }
}

module.exports = { gather }
