// Checks binaries of a release, by what readelf says of them: that they are for their target, need
// no newer glibc and no other libraries than promised, and are small.
//
//   node scripts/packages/check.mjs [FOLDER]    those in a folder; by default, what was built last

import { execFileSync } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { pathToFileURL } from 'node:url'
import { gzipSync } from 'node:zlib'
import Table from 'cli-table3'
import manifests from './manifests.cjs'

const { ROOT, OLDEST_GLIBC, TARGETS } = manifests

/** What a package may have, packed, so that it is there in a moment. */
export const MOST_PACKED_KIB = 1024

// Parts of the C library, which is there wherever Node.js is. libdl and libpthread are parts of
// glibc that were libraries of their own until 2.34.
const MAY_NEED = {
  glibc: /^(lib(c|m|dl|pthread)\.so\.\d|ld-linux-[\w-]+\.so\.\d)$/,
  musl: /^libc\.so$/
}

const readelf = (...args) =>
  execFileSync('readelf', ['--wide', ...args], {
    encoding: 'utf8',
    env: { ...process.env, LC_ALL: 'C' }
  })

const all = (text, pattern) => [...new Set([...text.matchAll(pattern)].map(([, found]) => found))]

const isNewer = (version, than) => version.localeCompare(than, 'en', { numeric: true }) > 0

/** What a binary is and needs. */
export function describe(file) {
  const [header, dynamic, versions, symbols, segments] = [
    readelf('--file-header', file),
    readelf('--dynamic', file),
    readelf('--version-info', file),
    readelf('--dyn-syms', file),
    readelf('--program-headers', file)
  ]
  const needed = all(versions, /Name: (\S+)/g)
  const glibc = needed
    .flatMap(name => /^GLIBC_([\d.]+)$/.exec(name)?.[1] ?? [])
    .reduce((newest, each) => (isNewer(each, newest) ? each : newest), '0')
  const bytes = fs.readFileSync(file)
  return {
    machine: /Machine:\s+(?:Advanced Micro Devices )?(\S+)/.exec(header)?.[1],
    libraries: all(dynamic, /\(NEEDED\).*\[(.+)\]/g),
    versions: needed,
    // What no library had where it was linked, which a shared library may be without. It has no
    // version then, either.
    missing: all(symbols, /^.*\bGLOBAL\b.*\bUND (\w+)$/gm),
    glibc: glibc === '0' ? undefined : glibc,
    staysLoaded: /\bNODELETE\b/.test(dynamic),
    hasTextRelocations: /\(TEXTREL\)/.test(dynamic),
    hasExecutableStack: /GNU_STACK.*\bRWE\b/.test(segments),
    isAddon: /\bnapi_register_module_v1$/m.test(symbols),
    kib: bytes.length / 1024,
    packedKib: gzipSync(bytes, { level: 9 }).length / 1024
  }
}

/** What is wrong with the binary for a target. */
export function problemsOf({ machine, libc, cpu }, found, mostKib = MOST_PACKED_KIB) {
  const problems = []
  const expect = (holds, problem) => holds || problems.push(problem)
  expect(found.machine === machine, `is for ${found.machine}, not for ${cpu}`)
  const others = found.libraries.filter(name => !MAY_NEED[libc].test(name))
  expect(others.length === 0, `needs ${others.join(', ')}`)
  expect(found.libraries.length > 0, 'needs no C library: it has one inside')
  if (libc === 'glibc') {
    expect(found.glibc !== undefined, 'needs no glibc')
    expect(
      found.missing.length === 0,
      `needs ${found.missing.join(', ')}, which glibc ${OLDEST_GLIBC} has not`
    )
    expect(
      found.glibc === undefined || !isNewer(found.glibc, OLDEST_GLIBC),
      `needs glibc ${found.glibc}, and ${OLDEST_GLIBC} is what we promise`
    )
  }
  const foreign = found.versions.filter(name => libc === 'musl' || !/^GLIBC_[\d.]+$/.test(name))
  expect(foreign.length === 0, `needs ${foreign.join(', ')}`)
  expect(found.isAddon, 'is no Node-API addon')
  expect(found.staysLoaded, 'can be unloaded, with a signal handler in it')
  expect(!found.hasTextRelocations, 'has relocations in its code')
  expect(!found.hasExecutableStack, 'wants an executable stack')
  expect(
    found.packedKib < mostKib,
    `has ${found.packedKib.toFixed()} KiB packed, and less than ${mostKib} is the aim`
  )
  return problems
}

/** Prints what the binaries for targets in a folder are. Whether all are as they should be. */
export function printTable(folder, names, { mostKib } = {}) {
  const table = new Table({
    head: ['target', 'KiB', 'packed', 'needs', 'glibc'],
    colAligns: ['left', 'right', 'right', 'left', 'left'],
    style: { head: [], border: [] }
  })
  const problems = []
  for (const name of names) {
    const target = TARGETS.get(name)
    const found = describe(path.join(folder, target.binary))
    table.push([
      name,
      found.kib.toFixed(),
      found.packedKib.toFixed(),
      found.libraries.join(' '),
      found.glibc ?? ''
    ])
    problems.push(...problemsOf(target, found, mostKib).map(problem => `${name} ${problem}`))
  }
  console.log(String(table))
  for (const problem of problems) console.error(problem)
  return problems.length === 0
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  const folder = path.resolve(process.argv[2] ?? path.join(ROOT, 'target/packages/binaries'))
  const names = [...TARGETS.keys()].filter(name =>
    fs.existsSync(path.join(folder, TARGETS.get(name).binary))
  )
  if (names.length === 0) {
    console.error(`There is no binary in ${folder}: \`npm run build:target\` builds them.`)
    process.exit(2)
  }
  if (!printTable(folder, names)) process.exitCode = 1
}
