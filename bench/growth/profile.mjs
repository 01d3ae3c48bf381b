// Where the time goes when `map` grows a memory by a gigabyte, on each Node.js that
// `npm run test:matrix` has installed:
//
//   node bench/growth/profile.mjs [MAJOR...]
//
// perf takes the stack of the main thread by the clock, since virtual machines have no counters.
// What follows the call of `map` in a stack says whose time it is.

import { execFileSync } from 'node:child_process'
import { rmSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { MAJORS, nodeOf } from '../lib/nodes.mjs'
import { temporaryFile } from '../lib/temporary.mjs'
import { formatQuantity, tableForTerminal } from '../lib/table.mjs'
import { share } from '../lib/measure.mjs'

const PROGRAM = fileURLToPath(new URL('first-map.mjs', import.meta.url))
const TURNS = 100
const PER_SECOND = 20_000
// perf reads these names from a file that V8 writes: of interpreted functions, too.
const NAMES = ['--perf-basic-prof', '--interpreted-frames-native-stack', '--no-compact-code-space']

/** Whose time it is, by the first of these that a stack fits. */
const KINDS = [
  ['collecting all garbage', /Heap::CollectGarbage/],
  ['waiting for the sweep before marking', /EnsureSweepingCompleted/],
  ['starting incremental marking', /StartIncrementalMarking|IncrementalMarking::Start/],
  ['the kernel, mprotect for V8', /mprotect/],
  ["V8's growth, all else", /WebAssemblyMemoryGrow/],
  ['wasm-hostmap and the kernel for it', /wasm-hostmap/],
  ['JavaScript, and compiling it', /./]
]
/** From where V8 is told that there is more memory outside of its heap. */
const CALLERS = [/GrowWasmMemoryInPlace/, /JSArrayBuffer::Setup/]

function kindOf(frames) {
  const [label] = KINDS.find(([, pattern]) => pattern.test(frames))
  const caller = CALLERS.find(pattern => pattern.test(frames))
  const isGarbage = KINDS.slice(0, 3).some(([kind]) => kind === label)
  return isGarbage && caller !== undefined ? `${label}, from ${caller.source}` : label
}

function profile(major) {
  const file = temporaryFile('perf.data')
  const run = (args, stdin) =>
    execFileSync('perf', args, { encoding: 'utf8', maxBuffer: 2 ** 30, stdio: stdin })
  const record = ['record', '-q', '-g', '-e', 'cpu-clock', '-F', String(PER_SECOND), '-o', file]
  const program = [nodeOf(major), ...NAMES, '--expose-gc', PROGRAM, String(TURNS)]
  const time = JSON.parse(run([...record, '--', ...program]))
  const script = run(['script', '-i', file, '--fields', 'ip,sym,dso'], ['ignore', 'pipe', 'ignore'])
  rmSync(`/tmp/perf-${time.pid}.map`, { force: true })
  const counts = new Map()
  let samples = 0
  for (const stack of script.split('\n\n')) {
    // The innermost is first.
    const at = stack.indexOf('firstMapOfGigabyte')
    if (at === -1) continue
    samples++
    const kind = kindOf(stack.slice(0, at))
    counts.set(kind, (counts.get(kind) ?? 0) + 1)
  }
  return { major, time, samples, counts }
}

const majors = process.argv.length > 2 ? process.argv.slice(2) : MAJORS.filter(nodeOf)
const profiles = majors.map(profile)
const labels = KINDS.flatMap(([label]) => [
  ...new Set(
    profiles.flatMap(({ counts }) => [...counts.keys()].filter(it => it.startsWith(label)))
  )
])
console.log(
  tableForTerminal({
    title: 'Where the time goes when `map` grows a memory by a gigabyte',
    rowLabel: 'what',
    columns: profiles.map(({ major }) => ({ key: major, label: `Node ${major}` })),
    note: profiles
      .map(({ major, time, samples }) => {
        const median = formatQuantity(time.median, 'ns')
        return `Node ${major}: ${samples} samples of ${TURNS} calls; one takes ${median} meanwhile.`
      })
      .join('\n'),
    rows: labels.map(label => ({
      label,
      cells: Object.fromEntries(
        profiles.map(({ major, counts, samples }) => [
          major,
          share((counts.get(label) ?? 0) / samples)
        ])
      )
    }))
  })
)
