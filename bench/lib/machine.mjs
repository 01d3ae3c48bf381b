// Describes the machine: everything that is known to influence the figures.

import { readFileSync, readdirSync } from 'node:fs'
import os from 'node:os'

function readTrimmed(path) {
  try {
    return readFileSync(path, 'utf8').trim()
  } catch {
    return null
  }
}

/** The selected item of a sysfs list such as `always [madvise] never`. */
function chosen(path) {
  const text = readTrimmed(path)
  return text && (/\[(.+)\]/.exec(text)?.[1] ?? text)
}

function mitigations() {
  const directory = '/sys/devices/system/cpu/vulnerabilities'
  try {
    return Object.fromEntries(
      readdirSync(directory)
        .map(name => [name, readTrimmed(`${directory}/${name}`)])
        .filter(([, state]) => state !== null && state !== 'Not affected')
    )
  } catch {
    return null
  }
}

export function describeMachine() {
  const thp = '/sys/kernel/mm/transparent_hugepage'
  const flags = /^flags\s*:(.*)$/m.exec(readTrimmed('/proc/cpuinfo') ?? '')?.[1].split(' ') ?? []
  return {
    cpu: os.cpus()[0]?.model.trim() ?? 'unknown',
    cores: os.availableParallelism(),
    virtualMachine: flags.includes('hypervisor'),
    frequencyGovernor: readTrimmed('/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor'),
    memoryBytes: os.totalmem(),
    loadAverage: os.loadavg()[0],
    arch: os.arch(),
    kernel: os.release(),
    transparentHugePages: chosen(`${thp}/enabled`),
    shmemHugePages: chosen(`${thp}/shmem_enabled`),
    overcommitMemory: Number(readTrimmed('/proc/sys/vm/overcommit_memory')),
    maxMapCount: Number(readTrimmed('/proc/sys/vm/max_map_count')),
    mitigations: mitigations()
  }
}

function kibibyteField(path, field) {
  const match = new RegExp(`^${field}:\\s+(\\d+) kB`, 'm').exec(readTrimmed(path) ?? '')
  return match ? Number(match[1]) * 1024 : NaN
}

/** Bytes of memory that the system has available. */
export const availableBytes = () => kibibyteField('/proc/meminfo', 'MemAvailable')
/** This process's share of physical memory: a page of n mappings counts as 1/n for each. */
export const pssBytes = () => kibibyteField('/proc/self/smaps_rollup', 'Pss')
/** Bytes of this process's page tables, which PSS does not include. */
export const pageTableBytes = () => kibibyteField('/proc/self/status', 'VmPTE')
/** Bytes of physical memory that this process uses, including all of shared pages. */
export const residentBytes = () => kibibyteField('/proc/self/status', 'VmRSS')
/** Bytes of address space that this process uses. */
export const addressSpaceBytes = () => kibibyteField('/proc/self/status', 'VmSize')
/** How many VMAs this process has. */
export const countAreas = () => readTrimmed('/proc/self/maps').split('\n').length
