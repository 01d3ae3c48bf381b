'use strict'

// What an installation looks like from inside, for the words of a failed load: which package
// manager made it, and from what. Reads files that may be anybody's, so nothing here may be relied
// on for more than advice.

const { existsSync, readFileSync } = require('node:fs')
const path = require('node:path')
const { PACKAGE_ROOT, TARGETS, VERSION, packageFolder, packageOf } = require('./place.js')

const LOCK_FILES = new Map([
  ['package-lock.json', 'npm'],
  ['npm-shrinkwrap.json', 'npm'],
  ['pnpm-lock.yaml', 'pnpm'],
  ['yarn.lock', 'yarn'],
  ['bun.lock', 'bun']
])

/** The targets whose packages are installed where this one looks. */
const installedTargets = () => TARGETS.filter(target => packageFolder(target) !== undefined)

/** The nearest lock file above the package, and its manager; undefined where there is none. */
function findLock() {
  // A package manager may keep packages far away from the project that uses them.
  for (const start of [PACKAGE_ROOT, process.cwd()]) {
    for (let folder = start; ; folder = path.dirname(folder)) {
      for (const [name, manager] of LOCK_FILES) {
        const file = path.join(folder, name)
        if (existsSync(file))
          return { file, manager: name === 'yarn.lock' ? yarnOf(file) : manager }
      }
      if (folder === path.dirname(folder)) break
    }
  }
  return undefined
}

/** Yarn 1, or one of those that came later, whose commands are others. */
const yarnOf = file =>
  process.versions.pnp !== undefined || readFileSync(file, 'utf8').includes('__metadata')
    ? 'later yarn'
    : 'yarn'

/**
 * Whether a lock file of npm's has this package, and lacks that of a target. npm writes only those
 * for the machine that it runs on, if it makes the file where node_modules is already there.
 */
function isMissingIn({ file, manager }, target) {
  if (manager !== 'npm') return false
  const text = readFileSync(file, 'utf8')
  return text.includes('/wasm-hostmap"') && !text.includes(`/${packageOf(target)}"`)
}

/** The commands of a package manager, for advice. */
function commandsOf(manager, target) {
  const name = `${packageOf(target)}@${VERSION}`
  const libc = target.endsWith('-musl') ? 'musl' : 'glibc'
  const npm = {
    again: 'npm install --include=optional',
    fresh: 'rm -rf node_modules && npm ci',
    relock: 'rm -rf node_modules package-lock.json && npm install',
    add: `npm install --save-optional ${name}`,
    forTarget: `npm install --os=linux --cpu=${process.arch} --libc=${libc}`
  }
  const others = {
    pnpm: {
      again: 'pnpm install --force',
      fresh: 'rm -rf node_modules && pnpm install',
      add: `pnpm add --save-optional ${name}`
    },
    yarn: {
      again: 'yarn install --force',
      fresh: 'rm -rf node_modules && yarn install',
      add: `yarn add --optional ${name}`
    },
    'later yarn': {
      again: 'yarn install',
      fresh: 'rm -rf node_modules && yarn install',
      add: `yarn add --optional ${name}`
    },
    bun: {
      again: 'bun install',
      fresh: 'rm -rf node_modules && bun install',
      add: `bun add --optional ${name}`
    }
  }
  return others[manager] ?? npm
}

module.exports = { installedTargets, findLock, isMissingIn, commandsOf }
