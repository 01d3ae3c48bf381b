// Package managers, each with the commands that the tests use.

import fs from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'

const MODULES = fileURLToPath(new URL('node_modules', import.meta.url))
const inPackage = (name, file) => path.join(MODULES, name, file)

/** npm as Node.js 20 had it, which writes lock files that lack packages. */
export const OLD_NPM = inPackage('npm-10', 'bin/npm-cli.js')

/** The npm that is here. */
const NPM = fs.realpathSync(
  process.env.npm_execpath?.endsWith('npm-cli.js') ? process.env.npm_execpath : which('npm')
)

function which(command) {
  return process.env.PATH.split(path.delimiter)
    .map(folder => path.join(folder, command))
    .find(file => fs.existsSync(file))
}

const berry = linker => ({
  script: inPackage('@yarnpkg/cli-dist', 'bin/yarn.js'),
  add: ['add'],
  install: ['install'],
  withoutScripts: ['add', '--mode=skip-build'],
  filesFor: (cpu, registry) =>
    settings(linker, registry, { supportedArchitectures: { cpu: [cpu] } }),
  files: registry => settings(linker, registry)
})

const settings = (linker, registry, more = {}) => ({
  '.yarnrc.yml': JSON.stringify({
    nodeLinker: linker,
    pnpEnableEsmLoader: true,
    npmRegistryServer: registry,
    unsafeHttpWhitelist: ['127.0.0.1'],
    enableTelemetry: false,
    enableGlobalCache: false,
    // It takes no version that is younger than some days.
    npmMinimalAgeGate: 0,
    ...more
  }),
  'yarn.lock': ''
})

/**
 * By name: `script` is run by node; `add` and `install` are its arguments, and the other ones for
 * without optional dependencies and without scripts; `files` are in each project, `filesFor` in one
 * that is installed for another processor.
 */
export const MANAGERS = {
  npm: {
    script: NPM,
    add: ['install'],
    install: ['install'],
    withoutOptional: ['install', '--omit=optional'],
    withoutScripts: ['install', '--ignore-scripts']
  },
  pnpm: {
    script: inPackage('pnpm', 'bin/pnpm.cjs'),
    add: ['add'],
    install: ['install'],
    withoutOptional: ['add', '--no-optional'],
    withoutScripts: ['add', '--ignore-scripts'],
    files: () => ({ 'pnpm-workspace.yaml': '{}' }),
    filesFor: cpu => ({
      'pnpm-workspace.yaml': JSON.stringify({ supportedArchitectures: { cpu: [cpu] } })
    })
  },
  'yarn 1': {
    script: inPackage('yarn', 'bin/yarn.js'),
    add: ['add'],
    install: ['install'],
    withoutOptional: ['add', '--ignore-optional'],
    withoutScripts: ['add', '--ignore-scripts'],
    // It reads no libc, and installs the packages for both.
    ignoresLibc: true
  },
  'yarn 4, node_modules': berry('node-modules'),
  'yarn 4, Plug and Play': { ...berry('pnp'), run: ['node'] }
}
