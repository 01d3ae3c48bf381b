// Builds the addon for all targets, and packs what a release publishes: the main package, and one
// for each binary.
//
//   npm run pack:all                          builds and packs
//   npm run pack:all -- --quick               without link-time optimisation: larger, in less time
//   npm run pack:all -- --binaries FOLDER     packs what was built elsewhere, and builds nothing
//   ... --repository URL                      what package.json names as the place of the sources
//   ... --write                               and writes the sizes into BENCHMARKS.md
//
// The tarballs are in target/packages/. Their sizes are printed, and it fails if one is too large.

import { execFileSync } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { pathToFileURL } from 'node:url'
import { parseArgs } from 'node:util'
import Table from 'cli-table3'
import { keepSizes, writePage } from '../../bench/lib/page.mjs'
import { BINARIES, buildAll } from './build.mjs'
import { MOST_PACKED_KIB, printTable } from './check.mjs'
import manifests from './manifests.cjs'

const { ROOT, OLDEST_GLIBC, TARGETS, mainManifest, platformManifest } = manifests
const PACKAGES = path.join(ROOT, 'target/packages')

const LIBRARIES = { glibc: `glibc ${OLDEST_GLIBC} or later`, musl: 'musl' }

const readmeOf = ({ packageName, cpu, libc }) => `# ${packageName}

The native part of \`wasm-hostmap\` for Linux on ${cpu} with ${LIBRARIES[libc]}. Package managers
install it together with \`wasm-hostmap\` on such machines.
`

/** A folder as it is packed: its package.json, LICENSE, and what `fill` puts there. */
function folderOf(manifest, fill) {
  const folder = path.join(PACKAGES, 'folders', manifest.name)
  fs.rmSync(folder, { recursive: true, force: true })
  fs.mkdirSync(folder, { recursive: true })
  fs.writeFileSync(path.join(folder, 'package.json'), `${JSON.stringify(manifest, undefined, 2)}\n`)
  fs.copyFileSync(path.join(ROOT, 'LICENSE'), path.join(folder, 'LICENSE'))
  fill(folder)
  return folder
}

function platformFolder(target, binaries, options) {
  return folderOf(platformManifest(target, options), folder => {
    fs.writeFileSync(path.join(folder, 'README.md'), readmeOf(target))
    fs.copyFileSync(path.join(binaries, target.binary), path.join(folder, target.binary))
    fs.chmodSync(path.join(folder, target.binary), 0o755)
  })
}

function mainFolder(options) {
  const manifest = mainManifest(options)
  return folderOf(manifest, folder => {
    // npm leaves out what its list excepts.
    for (const name of ['README.md', ...manifest.files.filter(file => !file.startsWith('!'))])
      fs.cpSync(path.join(ROOT, name), path.join(folder, name), { recursive: true })
  })
}

/** Packs a folder. Gives what npm says of the tarball: its name, files and sizes. */
function pack(folder) {
  const args = ['pack', '--json', '--ignore-scripts', '--pack-destination', PACKAGES, folder]
  const output = execFileSync('npm', args, { cwd: ROOT, encoding: 'utf8' })
  const found = JSON.parse(output)
  return Array.isArray(found) ? found[0] : Object.values(found)[0]
}

/** What is in a tarball and should not be there, or the other way round. */
function problemsOf({ name, size, files }, mostKib) {
  const paths = files.map(({ path }) => path)
  const target = [...TARGETS.values()].find(({ packageName }) => packageName === name)
  const wanted = ['package.json', 'README.md', 'LICENSE', target ? target.binary : 'index.js']
  const isForeign = target
    ? file => !wanted.includes(file)
    : file => /\.node$|(^|\/)(__test__|node_modules|target|images)\/|^(?!guest\/).*\.rs$/.test(file)
  return [
    ...wanted.filter(file => !paths.includes(file)).map(file => `${name} lacks ${file}`),
    ...paths.filter(isForeign).map(file => `${name} has ${file}`),
    ...(size < mostKib * 1024
      ? []
      : [`${name} has ${(size / 1024).toFixed()} KiB, and less than ${mostKib} is the aim`])
  ]
}

/** Packs all packages and prints their sizes. Gives these, the paths of the tarballs, problems. */
export function packAll({ binaries = BINARIES, repository, mostKib = MOST_PACKED_KIB } = {}) {
  for (const name of fs.existsSync(PACKAGES) ? fs.readdirSync(PACKAGES) : [])
    if (name.endsWith('.tgz')) fs.rmSync(path.join(PACKAGES, name))
  const folders = [
    ...[...TARGETS.values()].map(target => platformFolder(target, binaries, { repository })),
    mainFolder({ repository })
  ]
  const packed = folders.map(pack)
  const table = new Table({
    head: ['package', 'files', 'KiB packed', 'KiB unpacked'],
    colAligns: ['left', 'right', 'right', 'right'],
    style: { head: [], border: [] }
  })
  for (const { name, entryCount, size, unpackedSize } of packed)
    table.push([name, entryCount, (size / 1024).toFixed(), (unpackedSize / 1024).toFixed()])
  console.log(String(table))
  return {
    sizes: packed.map(({ name, size, unpackedSize }) => ({
      name,
      packedBytes: size,
      unpackedBytes: unpackedSize
    })),
    tarballs: packed.map(({ filename }) => path.join(PACKAGES, filename)),
    problems: packed.flatMap(each => problemsOf(each, mostKib))
  }
}

async function main() {
  const { values: options } = parseArgs({
    options: {
      quick: { type: 'boolean' },
      binaries: { type: 'string' },
      repository: { type: 'string' },
      write: { type: 'boolean' }
    }
  })
  if (options.quick && options.write)
    throw new Error('--quick: its sizes are not those of a release')
  if (options.quick) {
    process.env.CARGO_PROFILE_RELEASE_LTO = 'off'
    process.env.CARGO_PROFILE_RELEASE_CODEGEN_UNITS = '16'
  }
  const mostKib = options.quick ? Infinity : MOST_PACKED_KIB
  const binaries = options.binaries ? path.resolve(options.binaries) : BINARIES
  const names = [...TARGETS.keys()]
  const areWell = options.binaries
    ? printTable(binaries, names, { mostKib })
    : buildAll(names, { mostKib })
  const { sizes, problems } = packAll({ binaries, repository: options.repository, mostKib })
  for (const problem of problems) console.error(problem)
  if (!areWell || problems.length > 0) process.exitCode = 1
  else if (options.write) {
    keepSizes(ROOT, sizes)
    await writePage(ROOT)
  }
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) await main()
