// Measures how much a process waits for locks, by the best means that the machine has.

import { execFile } from 'node:child_process'
import { readFileSync, readdirSync } from 'node:fs'
import { promisify } from 'node:util'
import { temporaryFile } from './temporary.mjs'

const run = promisify(execFile)
const OPTIONS = { encoding: 'utf8', maxBuffer: 2 ** 28 }

/**
 * Contended locks of a program end in `futex`; the lock of the process's address space is a kernel
 * semaphore.
 */
const FUTEX = /futex/
/** Rust's locks and ours call it by libc's `syscall`, Node.js's by the functions of pthreads. */
const RUST_FUTEX = /futex.*\n(?:.*\n)*?.*\bsyscall$/m
const ADDRESS_SPACE = /rwsem|down_write|down_read|osq_lock/

/**
 * Watches this process for some seconds, while the promise `work` is pending. Returns the tool `by`
 * which it measured, and what that tool knows: from a profile, `futexShare`, what of it is not
 * Node.js's, `ownFutexShare`, and `addressSpaceShare`; `futexCalls` per second; or `switches` of
 * threads per second, which show only that threads waited for something.
 */
export async function watchLocks(seconds, work) {
  // On a busy machine a profile may have too few samples.
  for (const watch of [profile, profile, profile, countCalls, countSwitches]) {
    const [result] = await Promise.all([watch(seconds).catch(() => null), work()])
    if (result) return result
  }
  throw new Error("can't read /proc/self/task")
}

let profileFile

async function profile(seconds) {
  const file = (profileFile ??= temporaryFile('perf.data'))
  // Sampled by the clock, because virtual machines have no counters. Of the whole process, because
  // workers are threads of it.
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
  if (stacks.length < 100 || !stacks.some(stack => /syscall/i.test(stack))) return null
  const shareOf = pattern => stacks.filter(stack => pattern.test(stack)).length / stacks.length
  return {
    by: 'perf',
    samples: stacks.length,
    futexShare: shareOf(FUTEX),
    ownFutexShare: shareOf(RUST_FUTEX),
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
    // A signal ends it.
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

/** How often threads of this process have yielded their processor since they started. */
function switches() {
  let sum = 0
  for (const task of readdirSync('/proc/self/task')) {
    const status = readFileSync(`/proc/self/task/${task}/status`, 'utf8')
    sum += Number(/^voluntary_ctxt_switches:\s+(\d+)/m.exec(status)?.[1] ?? 0)
  }
  return sum
}
