// Measures one way in a process of its own (measured.mjs is the child's side).
import { fork } from 'node:child_process'
import { fileURLToPath } from 'node:url'

/**
 * How often each module scans the file: what comes after the first time is what a program does all
 * day.
 */
export const SCANS = 3

const childPath = fileURLToPath(new URL('measured.mjs', import.meta.url))

/**
 * Resolves when the child has ended, so that the next measurement finds all of its memory free.
 *
 * @param {{ wayName: 'copied' | 'read' | 'mapped', where: 'process' | 'workers', modules: number,
 *   path: string, byteLength: number, binary: Uint8Array, colors: boolean }} task
 * @param {(stage: string, bytes: number) => void} onProgress
 * @param {AbortSignal} signal Kills the child.
 */
export function measure(task, onProgress, signal) {
  return new Promise((resolve, reject) => {
    const child = fork(childPath, { serialization: 'advanced', signal, killSignal: 'SIGKILL' })
    let outcome
    child.on('message', message => {
      if (message.progress) return onProgress(message.progress.stage, message.progress.bytes)
      outcome = message
      child.disconnect()
    })
    child.on('error', reject)
    child.on('exit', (code, killSignal) => {
      if (outcome?.result) resolve(outcome.result)
      else reject(new Error(outcome?.error ?? describeEnd(code, killSignal)))
    })
    child.send(task, error => error && reject(error))
  })
}

/** How many bytes a task reads, copies and scans in all, for the progress bar. */
export function workOf({ wayName, modules, byteLength }) {
  const scanned = byteLength * modules * SCANS
  if (wayName === 'mapped') return scanned
  return scanned + byteLength * (wayName === 'copied' ? 1 + modules : modules)
}

function describeEnd(code, killSignal) {
  const guesses = {
    SIGKILL: ': was memory short?',
    SIGBUS: ': was the file made shorter meanwhile?'
  }
  return `the measuring process ended with ${killSignal ?? `code ${code}`}${guesses[killSignal] ?? ''}`
}
