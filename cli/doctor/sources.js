'use strict'

// What the kernel and the environment say of themselves, in files and variables. Each function
// gives undefined where that can't be read: a sandbox hides /proc, or there is no descriptor left.
// Nothing here needs the native part.

const fs = require('node:fs')
const path = require('node:path')

/** What a call gives, or undefined if it fails. */
function attempt(call) {
  try {
    return call()
  } catch {
    return undefined
  }
}

const text = file => attempt(() => fs.readFileSync(file, 'utf8').trim())

function number(file) {
  const found = text(file)
  return found !== undefined && /^\d+$/.test(found) ? Number(found) : undefined
}

/** A setting whose file lists all values, the one that counts in brackets. */
const chosen = file => /\[(\S+)\]/.exec(text(file) ?? '')?.[1]

/** Bytes by the name of a line of /proc/meminfo or /proc/self/status, both in KiB. */
function kibibytes(file) {
  const lines = (text(file) ?? '').matchAll(/^(\w+):\s+(\d+) kB$/gm)
  return new Map([...lines].map(([, name, kib]) => [name, Number(kib) * 1024]))
}

/** The seccomp mode of this process, and whether it may not gain privileges. */
function confinement() {
  const status = text('/proc/self/status')
  const field = name => {
    const found = new RegExp(`^${name}:\\s+(\\d+)$`, 'm').exec(status ?? '')
    return found === null ? undefined : Number(found[1])
  }
  return { seccomp: field('Seccomp'), noNewPrivileges: field('NoNewPrivs') }
}

// How /proc/self/limits names them, in bytes or pieces.
const RLIMITS = new Map([
  ['NOFILE', 'Max open files'],
  ['AS', 'Max address space'],
  ['DATA', 'Max data size'],
  ['FSIZE', 'Max file size'],
  ['MEMLOCK', 'Max locked memory'],
  ['CORE', 'Max core file size']
])

/** The limits of this process by name, each `{ soft, hard }`. */
function rlimits() {
  const limits = text('/proc/self/limits') ?? ''
  const bound = words => (words === 'unlimited' ? Infinity : Number(words))
  return new Map(
    [...RLIMITS].flatMap(([name, words]) => {
      const found = new RegExp(`^${words} +(\\w+) +(\\w+)`, 'm').exec(limits)
      return found === null ? [] : [[name, { soft: bound(found[1]), hard: bound(found[2]) }]]
    })
  )
}

/**
 * How many descriptors this process has open, without the one that it takes to look; Infinity if
 * there is none left to look with.
 */
function openDescriptors() {
  try {
    return fs.readdirSync('/proc/self/fd').length - 1
  } catch (error) {
    return error.code === 'EMFILE' ? Infinity : undefined
  }
}

/** The mounts of this process: where, of which kind, and with which options. */
function mounts() {
  const unescape = name =>
    name.replace(/\\([0-7]{3})/g, (_, octal) => String.fromCharCode(parseInt(octal, 8)))
  return (text('/proc/self/mountinfo') ?? '').split('\n').flatMap(line => {
    const [before, after] = line.split(' - ')
    if (after === undefined) return []
    const [, , , root, point, options] = before.split(' ')
    const [kind, , superOptions = ''] = after.split(' ')
    const split = list => list.split(',')
    return {
      root: unescape(root),
      point: unescape(point),
      kind,
      options: [...split(options), ...split(superOptions)]
    }
  })
}

/** The mount that a folder is on: of those above it, the nearest, and of those the last. */
function mountOf(folder, all) {
  const real = attempt(() => fs.realpathSync(folder)) ?? folder
  const isAbove = point => point === '/' || real === point || real.startsWith(`${point}/`)
  return all
    .filter(mount => isAbove(mount.point))
    .reduce((best, mount) => (mount.point.length >= (best?.point.length ?? 0) ? mount : best), null)
}

/**
 * The tightest limit of memory of this process's control groups: `{ version, limitBytes, usedBytes,
 * swapLimitBytes, swapUsedBytes }`, all but the first undefined where there is none. Null: this
 * process is in no such group that can be read.
 */
function memoryGroup(all) {
  const lines = (text('/proc/self/cgroup') ?? '').split('\n').map(line => line.split(':'))
  const first = lines.find(([, controllers]) => controllers?.split(',').includes('memory'))
  const second = lines.find(([hierarchy]) => hierarchy === '0')
  const found = [
    { line: first, version: 1, mount: all.find(each => isMemoryMount(each)) },
    { line: second, version: 2, mount: all.find(each => each.kind === 'cgroup2') }
  ].flatMap(({ line, version, mount }) => {
    if (line === undefined || mount === undefined) return []
    return foldersUp(line.slice(2).join(':'), mount).flatMap(folder => group(folder, version) ?? [])
  })
  const limit = each => each.limitBytes ?? Infinity
  return found.reduce(
    (best, each) => (best === null || limit(each) < limit(best) ? each : best),
    null
  )
}

const isMemoryMount = ({ kind, options }) => kind === 'cgroup' && options.includes('memory')

/** The folder of a group and those above it, as they are mounted here. */
function foldersUp(name, { root, point }) {
  // In a container the mount begins at the group, which the kernel names from the host's root.
  const relative = path.relative(root, name)
  let folder = relative.startsWith('..') ? point : path.join(point, relative)
  const folders = [folder]
  while (folder !== point && folder.startsWith(point)) {
    folder = path.dirname(folder)
    folders.push(folder)
  }
  return folders
}

// What the first version says where there is no limit: the most pages that a counter holds.
const NO_LIMIT_BYTES = 2 ** 60

function group(folder, version) {
  const names =
    version === 2
      ? ['memory.max', 'memory.current', 'memory.swap.max', 'memory.swap.current']
      : ['memory.limit_in_bytes', 'memory.usage_in_bytes', undefined, undefined]
  const [limitBytes, usedBytes, swapLimitBytes, swapUsedBytes] = names.map(name => {
    const bytes = name === undefined ? undefined : number(path.join(folder, name))
    return bytes !== undefined && bytes < NO_LIMIT_BYTES ? bytes : undefined
  })
  if (usedBytes === undefined) return null
  return { version, folder, limitBytes, usedBytes, swapLimitBytes, swapUsedBytes }
}

/** Which kinds of container or sandbox show themselves here, each with what shows it. */
function containers(env) {
  const found = []
  const add = (kind, evidence) => found.push({ kind, evidence })
  if (attempt(() => fs.statSync('/.dockerenv'))) add('Docker', '/.dockerenv')
  if (attempt(() => fs.statSync('/run/.containerenv'))) add('Podman', '/run/.containerenv')
  if (env.KUBERNETES_SERVICE_HOST) add('Kubernetes', 'KUBERNETES_SERVICE_HOST')
  if (env.container) add(env.container, 'container in the environment')
  const version = text('/proc/version') ?? ''
  // The one date that gVisor gives for its kernel.
  if (version.includes('Sun Jan 10 15:06:54 PST 2016')) add('gVisor', '/proc/version')
  if (/microsoft/i.test(version)) add('WSL', '/proc/version')
  const groups = text('/proc/1/cgroup') ?? ''
  const scope = /\b(docker|libpod|kubepods|lxc|containerd)\b/.exec(groups)
  if (found.length === 0 && scope !== null) add(scope[1], '/proc/1/cgroup')
  return found
}

module.exports = {
  attempt,
  text,
  number,
  chosen,
  kibibytes,
  confinement,
  rlimits,
  openDescriptors,
  mounts,
  mountOf,
  memoryGroup,
  containers
}
