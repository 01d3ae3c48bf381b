// How much of what a process does is waiting for locks: by the best means that the machine has.

import { execFile } from 'node:child_process'
import { readFileSync, readdirSync } from 'node:fs'
import { promisify } from 'node:util'
import { temporaryFile } from './stream.mjs'

const run = promisify(execFile)
const OPTIONS = { encoding: 'utf8', maxBuffer: 2 ** 28 }

/**
 * A contended lock of a program ends in `futex`; that of the process's address space is a semaphore
 * of the kernel.
 */
const FUTEX = /futex/
const ADDRESS_SPACE = /rwsem|down_write|down_read|osq_lock/

/**
 * Watches this process for some seconds, while `work` runs, a promise. Gives `by`, what was used,
 * and of it the parts that are known: of a profile `futexShare` and `addressSpaceShare`;
 * `futexCalls` a second; `switches` of threads a second, which say no more than that a thread
 * waited for something.
 */
export async function watchLocks(seconds, work) {
  for (const watch of [profile, countCalls, countSwitches]) {
    const [result] = await Promise.all([watch(seconds).catch(() => null), work()])
    if (result) return result
  }
  throw new Error('/proc/self/task can not be read')
}

async function profile(seconds) {
  const file = temporaryFile('perf.data')
  // By the clock: virtual machines have no counters. Of the whole process: workers are threads of
  // it.
  const record = [
    'record',
    '--event',
    'cpu-clock',
    '--freq',
    '997',
    '-g',
    '--pid',
    process.pid,
    '--output',
    file
  ]
  await run('perf', [...record, '--', 'sleep', seconds].map(String), OPTIONS)
  const { stdout } = await run(
    'perf',
    ['script', '--input', file, '--fields', 'tid,ip,sym'],
    OPTIONS
  )
  const stacks = stdout
    .split(/\n\n+/)
    .filter(stack => stack.trim() && Number.parseInt(stack, 10) !== process.pid)
  if (stacks.length < 100 || !stacks.some(stack => /mmap/.test(stack))) return null
  const shareOf = pattern => stacks.filter(stack => pattern.test(stack)).length / stacks.length
  return {
    by: 'perf',
    samples: stacks.length,
    futexShare: shareOf(FUTEX),
    addressSpaceShare: shareOf(ADDRESS_SPACE)
  }
}

async function countCalls(seconds) {
  const file = temporaryFile('strace')
  const strace = ['-f', '-c', '-e', 'trace=futex', '-o', file, '-p', process.pid]
  await run(
    'timeout',
    ['--signal', 'INT', seconds, 'strace', ...strace].map(String),
    OPTIONS
  ).catch(error => {
    // It ends by the signal.
    if (error.code !== 124) throw error
  })
  const text = readFileSync(file, 'utf8')
  const [, calls = 0] = /^\s*(?:[\d.]+\s+){3}(\d+)\b.*futex$/m.exec(text) ?? []
  return { by: 'strace', futexCalls: Number(calls) / seconds }
}

async function countSwitches(seconds) {
  const before = switches()
  await new Promise(resolve => setTimeout(resolve, seconds * 1000))
  return { by: '/proc/self/task', switches: (switches() - before) / seconds }
}

/** How often threads of this process have let go of their processor, since they began. */
function switches() {
  let sum = 0
  for (const task of readdirSync('/proc/self/task')) {
    const status = readFileSync(`/proc/self/task/${task}/status`, 'utf8')
    sum += Number(/^voluntary_ctxt_switches:\s+(\d+)/m.exec(status)?.[1] ?? 0)
  }
  return sum
}
