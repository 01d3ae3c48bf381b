'use strict'

// docs/faults.md, as the table of outcomes says it.

const { accesses, parsePlace, PLACES } = require('./cells')

const HEAD = `# What happens when an access faults

<!-- Written by \`node __test__/matrix/run.mjs --write\` from __test__/matrix/outcomes.json. Don't change it by hand. -->

**Whoever reads or writes a mapping in a wrong way does not end the process, and does not change your data.** Three
things can go wrong:

- Somebody writes to what is read-only: a \`readonly\` mapping, or a view of a sealed or read-only region. A module gets a
  \`WebAssembly.RuntimeError\` ("memory access out of bounds"), which its caller can catch, where V8 can throw one: for plain
  loads and stores, and for some others, as the tables say. Where V8 can't, the write lands on a private copy of the page,
  which only this memory or view sees. The region stays as it is, the write counts in \`strayWrites\`, and the process gets
  one warning per mapping (\`HOSTMAP_STRAY_WRITE\`).
- The data can't be had: the file has got shorter, the disk failed, there is no memory. A module gets the same
  \`RuntimeError\` where V8 can throw one. All others find a page of zeros, which is private too, and the process gets one
  warning per mapping (\`HOSTMAP_MISSING_PAGE\`). Traps and zeros both count in \`faults\`. When the file grows back, its data is there again,
  but where a page of zeros was put.
- Somebody reads or writes past what a window shows. With rest \`'trap'\` a module gets the same \`RuntimeError\` where V8 can throw one. All
  others find zeros in all of the rest, which are forgotten at the next call into the library concerning that memory; the process gets one warning per window
  (\`HOSTMAP_PAST_END\`), and traps and zeros count in \`faults\`. With rest \`'zeros'\` it finds zeros; where the window is \`readonly\`, a write is one to what is read-only,
  and what a script wrote there is forgotten at the next call, too.

The kernel itself, when a system call is to write into a page that is read-only or to read one that can't be had, changes
nothing: the call fails with \`EFAULT\`.

When a module grows its memory with its own \`memory.grow\`, V8 makes all of it writable, read-only mappings too. The region is
safe still, since these pages are copy-on-write, but until the next call into the library concerning that memory writes
land on private copies and are not counted.

Pages of a region with \`hugePages: 'hugetlb'\` have 2 MiB. What is said here of a page holds for all of it: a copy of it is made in
ordinary pages, or zeros are laid in its place.

Zeros in the place of data are a wrong answer, and the warning may come after it was used. So ask: \`checkFaults()\` of a memory,
mapping, window or region throws \`ERR_HOSTMAP_FAULTED\` if an access found no data (missing pages, and past what a window shows;
stray writes don't count, since what is read stays right), until \`acknowledgeFaults()\`. With \`strict: true\` a mapping's or
window's own calls throw it too, and its sources end with it, so that a module traps:

\`\`\`js
const mapping = guarded.map(HostRegion.open('orders.db'), { allocator, strict: true })
const rows = engine.query('select ...')
guarded.checkFaults() // Throws if the file was truncated meanwhile: rows can't be trusted.
\`\`\`

\`lastFault\` of a mapping or window, or of a region for its views, says where the last fault was, why, and which of these came of it.

With \`WASM_HOSTMAP_FAULT_GUARD=off\` in the environment there is no fault guard. Then data that can't be had ends the
process (SIGBUS), and so does a write to a \`readonly\` mapping that is no plain store (SIGSEGV), as is usual with mapped
files. Views of sealed and read-only regions are copy-on-write then, and nothing is counted.

## How to read the tables

Every access of a row came to what stands there: with V8's fast compilers (Liftoff; JavaScript not optimized) and its
optimizing ones (TurboFan), on the main thread and in a worker, in 32-bit, shared and 64-bit memories, on Node.js NODES.
Where there are two words, the first is for code of Liftoff and the second for code of TurboFan. After each access the same
activation of WebAssembly could read out of bounds, and that was caught.

| Word | Meaning |
| --- | --- |
| data | It read the region's bytes. |
| region | The write reached the region, as it should. |
| private page | The write landed on a page that this memory or view alone has. The region did not change. |
| zeros | It read zeros in the place of data that can't be had, or where a window shows nothing. |
| trap | A \`WebAssembly.RuntimeError\`, and nothing changed. |
| EFAULT | The system call failed with this error, and nothing changed. |
| untouched | It does not look at the bytes. |

_Shrunk_: the file of the region got shorter, and the access is past its new end. _Grown_: the module has grown its memory
with \`memory.grow\`, and nobody has called the library since. Half of the
mappings were what a window showed after something else: it makes no difference. _Constant address_: the address is a constant in the code,
below the least size of the memory; V8 leaves out of such code what makes an access trap.
`

const NO_TRAPS = `## Without V8's trap handler

With \`--disable-wasm-trap-handler\` V8 checks bounds by code, and nothing in a mapping traps: \`limits().faultGuard.traps\` is
false. Then what is "trap" below is "private page" for a write and "zeros" for a read, and all else is the same.
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

/** What a tree says of V8 with its trap handler, or without it. */
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

/** What a tree says, on one line. */
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

/** The outcomes that a tree has, each once. */
function wordsOf(tree) {
  if (typeof tree !== 'object') return tree === undefined ? [] : [tree]
  return [...new Set(Object.values(Object.values(tree)[0]).flatMap(wordsOf))]
}

const markdownTable = (head, rows) =>
  [head, head.map(() => '---'), ...rows].map(cells => `| ${cells.join(' | ')} |`).join('\n')

/** A row for each family, or several where its accesses differ. */
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
 * Accesses that end their process or come to something that has no name, `[[access, place,
 * outcome], ...]`.
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

/** Whether the document's section on V8 without its trap handler is true. */
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

/** The document, in Markdown that is not yet formatted. */
function documentOf(table) {
  if (!isTrueWithoutTraps(table))
    throw new Error('What the document says of V8 without its trap handler is wrong.')
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
    '## Mappings, and what windows show\n',
    `${tableOf(table, ofMappings)}\n`,
    '## Past what a window shows\n',
    `${tableOf(table, ofRests)}\n`,
    "## Regions' views\n",
    `${tableOf(table, ofViews)}\n`,
    '## Which accesses were run\n',
    ...[...families].map(
      ([family, names]) => `- **${family}**: ${names.map(name => `\`${name}\``).join(', ')}`
    )
  ].join('\n')
}

module.exports = { documentOf, strangeIn }
