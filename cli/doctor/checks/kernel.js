'use strict'

// The kernel: which of the calls that the package can do without it has. Each was made once, by the
// native part (src/sys/probe.rs).

const { good, slower, breaking, unknown, notAsked } = require('../finding.js')

// Nobody has tried the package on an older one.
const OLDEST = '5.10'

const isOlder = (version, wanted) => version.localeCompare(wanted, 'en', { numeric: true }) < 0

function release({ release: found }) {
  const values = { release: found, oldestTried: OLDEST }
  if (!isOlder(found, OLDEST)) return good(found, values)
  return slower(
    found,
    `Nobody has tried the package on a kernel before ${OLDEST}: believe the trial.`,
    { advice: `Use Linux ${OLDEST} or later.` },
    { values }
  )
}

// The names of the answers, what each call is for, since which release of the kernel it is there,
// and what is done without it.
const CALLS = [
  [
    'MREMAP_DONTUNMAP',
    'moves pages of files',
    '5.13',
    'A slide of a window over a file maps its pages anew, and each faults again.'
  ],
  [
    'MADV_POPULATE_READ',
    'prefetches',
    '5.14',
    '`prefetch` brings pages of files into memory and does not map them: each still faults once.'
  ],
  [
    'futex_waitv',
    'waits for words',
    '5.16',
    'A `wait` that is cancelled takes up to 50 ms to end.'
  ],
  [
    'MADV_COLLAPSE',
    'makes huge pages',
    '6.1',
    'Regions get huge pages only where shmem_enabled allows them.'
  ],
  [
    'PAGEMAP_SCAN',
    'finds written pages',
    '6.7',
    "A restore reads an entry for each of the memory's pages, not just for those written."
  ],
  [
    'PROCMAP_QUERY',
    'finds a mapping',
    '6.11',
    "A look-up reads the process's whole map, which takes longer the more mappings there are."
  ],
  [
    'copy_file_range',
    'copies in the kernel',
    '4.5',
    'Saving a snapshot shares no blocks with what it copies, on file systems that could.'
  ],
  [
    'F_SEAL_FUTURE_WRITE',
    'seals for readers',
    '5.1',
    'A region that this process still writes can not be shared read-only.'
  ]
]

// There is no descriptor or memory to ask with.
const NOT_ASKED = new Set(['EMFILE', 'ENFILE', 'ENOMEM'])
const REFUSED = new Set(['EPERM', 'EACCES'])

function call(name, purpose, since, cost) {
  return facts => {
    const { answers, release: kernel, containers } = facts
    const refused = answers.get(name)
    if (refused === undefined) return notAsked(facts)
    const values = { call: name, refused, since }
    if (refused === null) return good(purpose, values)
    if (NOT_ASKED.has(refused)) return unknown(`not asked (${refused})`, values)
    const shouldBeThere = !isOlder(kernel, since)
    const isFiltered = REFUSED.has(refused) || shouldBeThere
    const isDocker = containers.some(({ kind }) => kind === 'Docker' || kind === 'Podman')
    const advice = isFiltered
      ? isDocker
        ? 'Let the container make the call: `--security-opt seccomp=unconfined`, or a profile with it.'
        : 'Let the sandbox (seccomp, gVisor, an emulator) make the call.'
      : `Use Linux ${since} or later.`
    const found = isFiltered ? `refused (${refused})` : `not in this kernel (${refused})`
    return slower(found, cost, { advice }, { values })
  }
}

function memfd(facts) {
  const { answers, settings } = facts
  const refused = answers.get('memfd_create')
  if (refused === undefined) return notAsked(facts)
  const values = { call: 'memfd_create', refused, memfdNoexec: settings.memfdNoexec ?? null }
  if (refused === null) return good('makes and seals regions', values)
  if (NOT_ASKED.has(refused)) return unknown(`not asked (${refused})`, values)
  const isNoexec = refused === 'EACCES' && settings.memfdNoexec === 2
  return breaking(
    isNoexec ? 'refused: vm.memfd_noexec is 2' : `refused (${refused})`,
    'There are no regions in memory and no snapshots.',
    isNoexec
      ? { command: 'sudo sysctl -w vm.memfd_noexec=1' }
      : { advice: 'Let the sandbox (seccomp) make the call.' },
    { values }
  )
}

// The one thing that can't be tried: its failure would leave a hole.
const ONE_STEP = '6.12'

function oneStep({ release: kernel }) {
  const values = { since: ONE_STEP, byRelease: true }
  if (!isOlder(kernel, ONE_STEP)) return good('replaces pages in one step', values)
  return slower(
    `not safe in this kernel`,
    'Each mapping is made elsewhere first and then moved: two system calls more.',
    { advice: `Use Linux ${ONE_STEP} or later.` },
    { values }
  )
}

function userfaultfd(facts) {
  const { answers, settings } = facts
  const refused = answers.get('userfaultfd')
  if (refused === undefined) return notAsked(facts)
  // One whose missing pages raise a signal: what paged regions use.
  const signalRefused = answers.get('UFFD_FEATURE_SIGBUS') ?? null
  const values = {
    call: 'userfaultfd',
    refused,
    signalRefused,
    unprivileged: settings.userfaultfd ?? null
  }
  const why = refused ?? signalRefused
  return good(
    why === null
      ? 'allowed in user mode, for paged regions'
      : `not allowed (${why}); paged regions take memory mappings instead`,
    values
  )
}

module.exports = {
  group: 'Kernel',
  checks: [
    ['kernel.release', 'Linux', release],
    ['kernel.memfd-create', 'memfd_create', memfd],
    ['kernel.map-fixed', 'MAP_FIXED', oneStep],
    ...CALLS.map(([name, purpose, since, cost]) => [
      `kernel.${name.toLowerCase().replaceAll('_', '-')}`,
      name,
      call(name, purpose, since, cost)
    ]),
    ['kernel.userfaultfd', 'userfaultfd', userfaultfd]
  ]
}
