// What this process takes of the machine, and how much more it takes for each thing that is made.

import { readFileSync, readdirSync } from 'node:fs'
import { bytes, collectGarbage, count, notMeasured } from '../measure.mjs'

/** Bytes of the kernel's objects for VMAs and their trees, of all processes; null: not for us. */
function areaBytes() {
  try {
    const text = readFileSync('/proc/slabinfo', 'utf8')
    const sizes = ['vm_area_struct', 'maple_node'].map(name => {
      const [, objects, each] = new RegExp(`^${name} +(\\d+) +\\d+ +(\\d+) `, 'm').exec(text)
      return objects * each
    })
    return sizes.reduce((sum, size) => sum + size)
  } catch {
    return null
  }
}

/** The process and, of the kernel, what `/proc` tells of it. Bytes and counts. */
export function usage() {
  const status = readFileSync('/proc/self/status', 'utf8')
  const field = name => Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(status)[1])
  return {
    resident: field('VmRSS') * 1024,
    anonymous: field('RssAnon') * 1024,
    addressSpace: field('VmSize') * 1024,
    pageTables: field('VmPTE') * 1024,
    threads: field('Threads'),
    areas: readFileSync('/proc/self/maps', 'utf8').split('\n').length - 1,
    descriptors: readdirSync('/proc/self/fd').length - 1,
    heap: process.memoryUsage().heapUsed,
    kernel: areaBytes()
  }
}

/**
 * The processor time that a function takes, of all threads, in nanoseconds: for what takes so long
 * that others have their turns meanwhile.
 */
export function processorNs(work) {
  const before = process.cpuUsage()
  work()
  const { user, system } = process.cpuUsage(before)
  return (user + system) * 1000
}

export async function settledUsage() {
  await collectGarbage()
  return usage()
}

/** By how much each number has grown for one of `made` things. */
export const slope = (before, after, made) =>
  Object.fromEntries(
    Object.entries(after).map(([key, value]) => [
      key,
      value === null || before[key] === null ? null : (value - before[key]) / made
    ])
  )

export const bytesOrNone = value =>
  value === null ? notMeasured('only root may read /proc/slabinfo') : bytes(Math.max(0, value))

/** A number with at most two decimals. Less than before: none. */
export const number = value => count(Math.max(0, Math.round(value * 100) / 100))

/** The process's limits, as /proc/self/limits and sysctls tell them. */
export function limitsOf() {
  const text = readFileSync('/proc/self/limits', 'utf8')
  const soft = name => {
    const [, value] = new RegExp(`^${name} +(\\S+)`, 'm').exec(text)
    return value === 'unlimited' ? Infinity : Number(value)
  }
  const sysctl = name => Number(readFileSync(`/proc/sys/${name}`, 'utf8'))
  return {
    descriptors: soft('Max open files'),
    threads: Math.min(
      soft('Max processes'),
      sysctl('kernel/threads-max'),
      sysctl('kernel/pid_max')
    ),
    areas: sysctl('vm/max_map_count'),
    addressSpace: 2 ** 47
  }
}
