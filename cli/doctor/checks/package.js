'use strict'

// Whether the package is there and works.

const { isWorkingCopy } = require('../../../lib/platform/place.js')
const { good, breaking, notAsked, errorInWords } = require('../finding.js')

/** The ways out that a load error lists, in its order. */
const fixesOf = error => [...error.message.matchAll(/^ +\d+\. (.+)$/gm)].map(([, fix]) => fix)

const causeOf = error => {
  const [line] = error.message.split('\n', 1)
  return line.replace(/^wasm-hostmap can't be loaded: /, '').replace(/\.$/, '')
}

const COMMAND = /`((?:npm|pnpm|yarn|npx|sudo|apt-get|apk|unset) [^`]+)`/

// What fails by a limit that another check tells of.
const MENDS = new Map([
  ['EMFILE', { command: 'ulimit -n 4096' }],
  ['ERR_HOSTMAP_TOO_MANY_FILES', { command: 'ulimit -n 4096' }],
  ['ERR_HOSTMAP_RLIMIT_AS', { command: 'ulimit -v unlimited' }],
  ['ERR_HOSTMAP_RLIMIT_DATA', { command: 'ulimit -d unlimited' }],
  ['ERR_HOSTMAP_MAP_COUNT', { command: 'sudo sysctl -w vm.max_map_count=262144' }],
  ['ERR_HOSTMAP_OVERCOMMIT', { command: 'sudo sysctl -w vm.overcommit_memory=0' }]
])

/**
 * Whether the binary of a clone may be of other sources than those that are there: it lacks what
 * they call, or takes other arguments.
 */
const mayBeStale = ({ name, code = '' }) =>
  isWorkingCopy() &&
  (name === 'TypeError' || /^(ERR_HOSTMAP_INTERNAL|InvalidArg|\w+Expected)$/.test(code))

const BUILD = {
  command: 'npm run build',
  advice: 'The binary is of other sources than those that are here: npm run build makes it anew.'
}

/** What to do about an error, where it does not say so itself. */
function mendOf(error) {
  const { code } = error
  if (mayBeStale(error)) return BUILD
  if (code !== 'ERR_HOSTMAP_UNSUPPORTED_PLATFORM') return MENDS.get(code)
  // Then it is the place that is wrong. Of WebAssembly another check says so.
  const advice =
    typeof WebAssembly === 'undefined'
      ? 'Use a Node.js that has WebAssembly: see below.'
      : 'Use Linux on x64 or arm64: a container or a virtual machine will do.'
  return { advice }
}

/** What a binary belongs to, in words: a package, a build in a clone, or a file by its path. */
function originOf(file, target) {
  if (file === undefined) return target
  if (file.includes(`/@wasm-hostmap/${target}/`)) return `@wasm-hostmap/${target}`
  return file.endsWith(`/wasm-hostmap.${target}.node`) ? `a build for ${target}` : file
}

function native({ loadError, binary, target }) {
  if (loadError === null)
    return good(`loaded: ${originOf(binary, target)}`, { file: binary ?? null })
  const [first, ...others] = fixesOf(loadError)
  return breaking(
    causeOf(loadError),
    'Nothing of the package works: it throws when it is loaded.',
    first === undefined
      ? mendOf(loadError)
      : { command: COMMAND.exec(first)?.[1] ?? null, advice: first },
    { values: { code: loadError.code ?? null, otherMends: others } }
  )
}

function works(facts) {
  const { works: error, answers, settings, loadError } = facts
  if (loadError !== null) return notAsked(facts)
  if (error === null) return good('a mapping, a window and a restore, tried just now')
  const noMemfd = answers.get('memfd_create') === 'EACCES' && settings.memfdNoexec === 2
  return breaking(
    errorInWords(error),
    'A region, a guarded memory, a mapping, a window or a restore fails here.',
    noMemfd ? { command: 'sudo sysctl -w vm.memfd_noexec=1' } : mendOf(error),
    { values: { code: error.code ?? null } }
  )
}

module.exports = {
  group: 'Package',
  checks: [
    ['package.native', 'native part', native],
    ['package.trial', 'trial', works]
  ]
}
