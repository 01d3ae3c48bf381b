// Requests that pools serve: by one process and by two, by two workers of one; what each costs, and
// which of its system calls could wait for another process.

import { execFileSync, fork } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { Worker } from 'node:worker_threads'
import { HostRegion } from '../../../index.mjs'
import { MiB, QUICK } from '../dataset.mjs'
import { Samples, count, notMeasured, rates } from '../measure.mjs'
import { temporaryFile } from '../stream.mjs'
import { number } from './usage.mjs'

const program = new URL('request.mjs', import.meta.url)
const TURNS = QUICK ? 2 : 8
const MILLISECONDS = QUICK ? 200 : 500
const COUNTED = QUICK ? 500 : 5000
const SHARED_BYTES = 64 * MiB
const WAYS = [
  { key: 'one', label: 'one process', kind: 'processes', threads: 1, pages: 1 },
  { key: 'two', label: 'two processes', kind: 'processes', threads: 2, pages: 1 },
  { key: 'workers', label: 'two workers of a process', kind: 'workers', threads: 2, pages: 1 },
  // Of its own: pages that were written once are put back at each release.
  { key: 'pages', label: 'one process, 100 pages', kind: 'others', threads: 1, pages: 100 }
]

export const cases = [{ part: 'requests' }, { part: 'counted' }]

export const measure = ({ part }, onProgress) =>
  part === 'counted' ? countCalls() : measureRates(onProgress)

/** Two of a kind, that serve when they get a message. */
async function crewOf(kind) {
  const make = () =>
    kind === 'workers' ? new Worker(program) : fork(fileURLToPath(program), { execArgv: [] })
  const crew = [make(), make()]
  await Promise.all(crew.map(each => once(each, 'message')))
  const send = (each, message) =>
    kind === 'workers' ? each.postMessage(message) : each.send(message)
  return {
    async serve(threads, message) {
      const cpu = process.cpuUsage()
      const answers = await Promise.all(
        crew.slice(0, threads).map(async each => {
          send(each, message)
          const [answer] = await once(each, 'message')
          return answer
        })
      )
      const { user, system } = process.cpuUsage(cpu)
      const sum = key => answers.reduce((all, answer) => all + answer[key], 0)
      // Workers are of this process.
      const cpuNs = kind === 'workers' ? (user + system) * 1000 : sum('cpuNs')
      const perSecond = answers.reduce((all, it) => all + (it.served / it.elapsedNs) * 1e9, 0)
      return { perSecond, cpuNs: cpuNs / sum('served') }
    },
    async share(region) {
      for (const each of crew) {
        send(each, { token: region.share(), milliseconds: 1, pages: 1 })
        const [{ shared }] = await once(each, 'message')
        if (shared !== region.byteLength) throw new Error('the region was not received')
      }
    },
    end: () => Promise.all(crew.map(each => (kind === 'workers' ? each.terminate() : each.kill())))
  }
}

async function measureRates(onProgress) {
  const region = HostRegion.allocate(SHARED_BYTES).seal()
  const kinds = ['processes', 'workers', 'others']
  const crews = Object.fromEntries(
    await Promise.all(kinds.map(async kind => [kind, await crewOf(kind)]))
  )
  const samples = new Samples()
  try {
    for (const crew of Object.values(crews)) await crew.share(region)
    for (let turn = 0; turn < TURNS; turn++) {
      for (let i = 0; i < WAYS.length; i++) {
        // They take turns at being first.
        const { key, kind, threads, pages } = WAYS[(turn + i) % WAYS.length]
        const message = { milliseconds: MILLISECONDS, pages }
        const { perSecond, cpuNs } = await crews[kind].serve(threads, message)
        samples.add(`${key} rate`, [perSecond])
        samples.add(`${key} cpu`, [cpuNs])
      }
      onProgress((turn + 1) / TURNS)
    }
  } finally {
    for (const crew of Object.values(crews)) await crew.end()
  }
  return {
    rows: WAYS.map(({ key }) => ({
      rate: rates(samples.summary(`${key} rate`)),
      cpu: samples.summary(`${key} cpu`),
      ofOne: samples.ratio(`${key} cpu`, 'one cpu'),
      cores: number(samples.summary(`${key} cpu`).median / 1000)
    }))
  }
}

/** System calls of all threads of a process that serves so many requests, by name. */
function callsOf(requests) {
  const file = temporaryFile('strace-scale')
  const node = [process.execPath, fileURLToPath(program), String(COUNTED), String(requests)]
  execFileSync('strace', ['-f', '-c', '-o', file, ...node])
  const rows = readFileSync(file, 'utf8').matchAll(/^\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+).*?(\w+)$/gm)
  return new Map([...rows].map(([, calls, name]) => [name, Number(calls)]))
}

function countCalls() {
  try {
    const [few, many] = [callsOf(0), callsOf(COUNTED)]
    many.delete('total')
    const calls = [...many]
      .map(([name, calls]) => [name, (calls - (few.get(name) ?? 0)) / COUNTED])
      .filter(([, calls]) => calls >= 0.001)
    return { calls }
  } catch (error) {
    return { calls: null, reason: error.code === 'ENOENT' ? 'no strace' : 'strace can’t be used' }
  }
}

/** Instructions of the same calls by valgrind, as they are kept in the repository. */
function countedInstructions() {
  const file = new URL('../../instructions/figures.json', import.meta.url)
  const places = Object.values(JSON.parse(readFileSync(file, 'utf8')))
  return places[0]?.['pool, acquire and release']?.instructions
}

export function tables(results) {
  const of = part => results.find(({ caseOf }) => caseOf.part === part)
  const { calls, reason } = of('counted')
  const instructions = countedInstructions()
  return [
    {
      id: 'scale-requests',
      title: 'Requests: acquire, a call that writes pages, release',
      rowLabel: 'served by',
      columns: [
        { key: 'rate', label: 'requests, all together' },
        { key: 'cpu', label: 'processor time of one' },
        { key: 'ofOne', label: 'of that by one process' },
        { key: 'cores', label: 'cores for a million a second' }
      ],
      note: `A heap of 4 MiB; one page is written, or what the row says. All have a region of ${SHARED_BYTES / MiB} MiB in common. Processor time: of all threads, collections included. Cores: that time a million times, extrapolated.`,
      rows: WAYS.map(({ label, kind, threads, pages }, at) => ({
        label,
        parameters: { kind, threads, pages },
        cells: of('requests').rows[at]
      }))
    },
    {
      id: 'scale-request-calls',
      title: 'What one of them takes, counted',
      rowLabel: 'of a request',
      columns: [{ key: 'counted', label: 'counted' }],
      note: `System calls: by strace, of all threads of the process, the difference of ${COUNTED} requests and none. What is below 0.001 is left out. Instructions: bench/instructions/figures.json, nothing written.`,
      rows: [
        ...(calls ?? [['system calls', null]]).map(([name, each]) => ({
          label: name,
          parameters: { name },
          cells: {
            counted: each === null ? notMeasured(reason) : count(Math.round(each * 1000) / 1000)
          }
        })),
        {
          label: 'instructions',
          parameters: { name: 'instructions' },
          cells: { counted: instructions ? count(instructions) : notMeasured('not counted') }
        }
      ]
    }
  ]
}
