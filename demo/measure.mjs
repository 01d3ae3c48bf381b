// Measures one way in a new process, which runs measured.mjs.
import { fork } from 'node:child_process'
import { fileURLToPath } from 'node:url'

/** How often each module scans the file. Later scans show the steady state. */
export const SCANS = 3

const childPath = fileURLToPath(new URL('measured.mjs', import.meta.url))

/**
 * Resolves once the child has ended, so that its memory is free for the next measurement.
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

/** How many bytes a task reads, copies and scans in total, for the progress bar. */
export function workOf({ wayName, modules, byteLength }) {
  const scanned = byteLength * modules * SCANS
  if (wayName === 'mapped') return scanned
  return scanned + byteLength * (wayName === 'copied' ? 1 + modules : modules)
}

function describeEnd(code, killSignal) {
  const guesses = {
    SIGKILL: ': did memory run out?',
    SIGBUS: ': did the file become shorter?'
  }
  return `the measuring process ended with ${killSignal ?? `code ${code}`}${guesses[killSignal] ?? ''}`
}
