'use strict'

// Makes docs/faults.md from the table of outcomes.

const { accesses, parsePlace, PLACES } = require('./cells')

const HEAD = `# What happens when an access faults

<!-- Written by \`node __test__/matrix/run.mjs --write\` from __test__/matrix/outcomes.json. -->

**A bad access to a mapping does not end the process and does not change your data.** Three things
can go wrong:

- **A write to read-only pages**: a \`readonly\` mapping, or a view of a sealed or read-only region.
  Where V8 can throw, the module traps with a \`WebAssembly.RuntimeError\` ("memory access out of
  bounds"), which its caller can catch: for plain loads and stores, and some others, as the tables
  say. Otherwise the write goes to a private copy of the page, which only this memory or view sees.
  The region does not change. The write counts in \`strayWrites\`, and each mapping emits one process
  warning (\`HOSTMAP_STRAY_WRITE\`).
- **Missing data**: the file became shorter, the disk failed, or memory ran out. Where V8 can throw,
  the module traps in the same way. Otherwise the access finds a page of zeros, which is private too,
  and each mapping emits one process warning (\`HOSTMAP_MISSING_PAGE\`). Both traps and zeros count in
  \`faults\`. When the file grows back, its data is visible again, except where a page of zeros is.
- **An access past what a window shows**. With \`rest: 'trap'\`, the module traps where V8 can throw.
  Otherwise the access finds zeros in all of the window's tail, which are discarded at the next call
  into the library that concerns the memory. Each window emits one process warning
  (\`HOSTMAP_PAST_END\`), and both traps and zeros count in \`faults\`. With \`rest: 'zeros'\`, the access
  finds zeros. In a \`readonly\` window, a write there is a write to read-only pages; what a script
  wrote is discarded at the next call too.

A system call that would write to a read-only page, or read a missing one, changes nothing and fails
with \`EFAULT\`.

When a module grows its memory with its own \`memory.grow\`, V8 makes the whole memory writable,
including read-only mappings. The region is still safe, because these pages are copy-on-write. But
until the next call into the library that concerns the memory, writes go to private copies and are
not counted.

## Is the answer right?

Zeros in place of data produce wrong answers, and the warning may come after you used one. So ask:

- \`checkFaults()\` of a memory, mapping, window or region throws \`ERR_HOSTMAP_FAULTED\` if an access
  found no data, until you call \`acknowledgeFaults()\`. Missing pages and accesses past what a window
  shows count. Stray writes don't, because what is read stays right.
- With \`strict: true\`, a mapping's or window's own calls throw too, and the window's sources end with
  that error, so that a module traps.

\`\`\`js
const mapping = guarded.map(HostRegion.open('orders.db'), { allocator, strict: true })
const rows = engine.query('select ...')
guarded.checkFaults() // throws if the file was truncated meanwhile: don't trust rows
\`\`\`

\`lastFault\` of a mapping or window, or of a region for its views, says where the last fault was, why
it happened, and what its outcome was.

## Without the fault guard

With \`WASM_HOSTMAP_FAULT_GUARD=off\` in the environment there is no fault guard. As usual with mapped
files, missing data ends the process (SIGBUS), and so does a write to a \`readonly\` mapping that is not
a plain store (SIGSEGV). Views of sealed and read-only regions are copy-on-write, and nothing is
counted.

## How to read the tables

Every access had the outcome in its row: with V8's fast compilers (Liftoff; JavaScript not optimized)
and its optimizing ones (TurboFan), on the main thread and in a worker, in 32-bit, shared and 64-bit
memories, on Node.js NODES. Where there are two words, the first is for Liftoff's code and the second
for TurboFan's. After each access, the same activation of WebAssembly code could still catch an
access out of bounds.

| Word | Meaning |
| --- | --- |
| data | It read the region's bytes. |
| region | It wrote to the region, as intended. |
| private page | It wrote to a copy of the page that only this memory or view has. The region did not change. |
| zeros | It read zeros in place of missing data, or where a window shows nothing. |
| trap | It threw a \`WebAssembly.RuntimeError\`. Nothing changed. |
| EFAULT | The system call failed with this error. Nothing changed. |
| untouched | It does not access the bytes. |

- _Shrunk_: the region's file became shorter, and the access is past its new end.
- _Grown_: the module has grown its memory with \`memory.grow\`, and nobody has called the library
  since.
- _Constant address_: the address is a constant in the code, below the memory's minimum size. V8
  generates code for these that can't trap.

Half of the mappings were shown by a window that had shown something else before. That makes no
difference.
`

const NO_TRAPS = `## Without V8's trap handler

With \`--disable-wasm-trap-handler\`, and in all arm64 builds of Node.js 20, V8 checks bounds in code,
and nothing in a mapping traps: \`limits().faultGuard.traps\` is false. Read "private page" for a write
and "zeros" for a read where the tables say "trap". Everything else is the same.
`

const TITLES = {
  readonly: 'readonly',
  private: 'private',
  shared: 'shared',
  'view, sealed': 'sealed region',
  'view, then sealed': 'region sealed later',
  'view, read-only file': 'file open for reading',
  'view, writable file': 'file open for writing'
}

const REST_TITLES = {
  trap: "rest 'trap'",
  zeros: "rest 'zeros', readonly",
  'private zeros': "rest 'zeros', private or shared"
}

const VALUES = {
  i32: '32-bit',
  shared: 'shared',
  i64: '64-bit',
  main: 'main thread',
  worker: 'workers'
}

/** The part of a tree for V8 with its trap handler, or without it. */
function pruned(tree, traps) {
  if (typeof tree !== 'object') return tree
  const [[split, branches]] = Object.entries(tree)
  const left = new Map()
  for (const [names, branch] of Object.entries(branches)) {
    const kept = names
      .split(', ')
      .filter(name => split !== 'tier' || (name !== 'trapless') === traps)
    if (kept.length === 0) continue
    const below = pruned(branch, traps)
    const key = JSON.stringify(below)
    left.set(key, { below, names: [...(left.get(key)?.names ?? []), ...kept] })
  }
  const parts = [...left.values()]
  if (parts.length === 1) return parts[0].below
  return { [split]: Object.fromEntries(parts.map(({ names, below }) => [names.join(', '), below])) }
}

/** A tree's outcomes, on one line. */
function textOf(tree) {
  if (typeof tree !== 'object') return (tree ?? '').replace('error:', '')
  const [[split, branches]] = Object.entries(tree)
  if (split === 'tier' && 'liftoff' in branches)
    return `${textOf(branches.liftoff)} / ${textOf(branches.turbofan)}`
  return Object.entries(branches)
    .map(([names, branch]) => {
      const who = names.split(', ').map(name => VALUES[name] ?? `Node.js ${name}`)
      return `${who.join(', ')}: ${textOf(branch)}`
    })
    .join('; ')
}

/** A tree's outcomes, each once. */
function wordsOf(tree) {
  if (typeof tree !== 'object') return tree === undefined ? [] : [tree]
  return [...new Set(Object.values(Object.values(tree)[0]).flatMap(wordsOf))]
}

const markdownTable = (head, rows) =>
  [head, head.map(() => '---'), ...rows].map(cells => `| ${cells.join(' | ')} |`).join('\n')

/** One row per family, or several if its accesses differ. */
function tableOf(table, places) {
  const families = new Map()
  for (const { name, family } of accesses) {
    const trees = places.map(place => table.treeOf(name, place))
    if (trees.includes(undefined)) continue
    const key = JSON.stringify(trees.map(tree => textOf(pruned(tree, true))))
    if (!families.has(family)) families.set(family, new Map())
    const outcomes = families.get(family)
    if (!outcomes.has(key)) outcomes.set(key, [])
    outcomes.get(key).push(name)
  }
  const rows = []
  for (const [family, outcomes] of families) {
    for (const [key, names] of outcomes) {
      const label = outcomes.size === 1 ? family : `${family}: ${names.join(', ')}`
      rows.push([label, ...JSON.parse(key)])
    }
  }
  const head = places.map(place => {
    const { target, state, isRest } = parsePlace(place)
    if (isRest) return REST_TITLES[state]
    return state === 'present' ? TITLES[target] : `${TITLES[target]}, ${state}`
  })
  return markdownTable(['Access', ...head], rows)
}

/**
 * Accesses that end their process or have an unknown outcome: `[[access, place, outcome], ...]`.
 */
function strangeIn(table) {
  const names = new Set([
    'data',
    'region',
    'private page',
    'zeros',
    'trap',
    'error:EFAULT',
    'untouched'
  ])
  return table.accesses
    .flatMap(access =>
      PLACES.flatMap(place =>
        wordsOf(table.treeOf(access, place)).map(word => [access, place, word])
      )
    )
    .filter(([, , word]) => !names.has(word))
}

/** Whether the section on V8 without its trap handler is right. */
function isTrueWithoutTraps(table) {
  return accesses.every(({ name, side }) =>
    PLACES.every(place => {
      const tree = table.treeOf(name, place)
      if (side !== 'wasm' || tree === undefined) return true
      const [[without], withTraps] = [wordsOf(pruned(tree, false)), wordsOf(pruned(tree, true))]
      return withTraps.every(
        word => word === without || (word === 'trap' && /private page|zeros/.test(without))
      )
    })
  )
}

/** The document, in Markdown that Prettier has not formatted yet. */
function documentOf(table) {
  if (!isTrueWithoutTraps(table))
    throw new Error('What the document says about V8 without its trap handler is wrong')
  const strange = strangeIn(table)
  const families = new Map()
  for (const { family, name } of accesses) {
    if (!table.accesses.includes(name) || family.endsWith(', constant address')) continue
    families.set(family, [...(families.get(family) ?? []), name])
  }
  const ofMappings = PLACES.filter(place => !parsePlace(place).isView && !parsePlace(place).isRest)
  const ofRests = PLACES.filter(place => parsePlace(place).isRest)
  const ofViews = PLACES.filter(place => parsePlace(place).isView)
  return [
    HEAD.replace('NODES', table.nodes.join(', ').replace(/, (?=\d+$)/, ' and ')),
    '## Accesses that end the process\n',
    strange.length === 0
      ? 'None.\n'
      : `${markdownTable(['Access', 'Where', 'Outcome'], strange)}\n`,
    NO_TRAPS,
    '## Mappings and windows\n',
    `${tableOf(table, ofMappings)}\n`,
    '## Past what a window shows\n',
    `${tableOf(table, ofRests)}\n`,
    '## Views of regions\n',
    `${tableOf(table, ofViews)}\n`,
    '## The accesses\n',
    ...[...families].map(
      ([family, names]) => `- **${family}**: ${names.map(name => `\`${name}\``).join(', ')}`
    )
  ].join('\n')
}

module.exports = { documentOf, strangeIn }
