// Boots a kernel of Debian's and tries the package in it:
//
//   npm run test:vm -- KERNEL [--arch arm64] [--pages 16k] [--node 20,24] [--costs] [--write]
//   npm run test:vm -- KERNEL --suites 10,35 | --core | --doctor | --install FOLDER
//   npm run test:vm -- host [--musl] [--node 20,24] [--costs | --install FOLDER] [--write]
//   npm run test:vm -- --page | --check
//
// KERNEL is 5.10, 6.1, 6.12, sid or newest (Debian's backports). QEMU emulates the processor, since
// these kernels are to be what differs; `host` is this machine as it is, with --musl on the Node.js
// for musl that PyPI has.
//
// --node LIST     which Node.js run the smoke script, all in one boot. Default: 20,22,24,26
// --costs         measures what each fallback costs, too
// --suites LIST   runs suites of jest, by the number of their files, on the first of the Node.js
// --only PATTERN  of the suites' tests, those whose names match; of the core's, those binaries
// --core          runs the tests of the core, which need no Node.js: cargo's binaries
// --doctor        runs doctor, on the first of the Node.js
// --install F     installs the packages of a folder (pack:all puts them into target/packages) from
//                 a registry on loopback, and runs the README's first example: how long both take
// --write         keeps the results in results/ or installs/, and writes docs/platforms.md anew
// --page, --check writes docs/platforms.md from results/; says whether it is what they give
// --seconds N     how long the machine may run. Default: 30 minutes
// --if-possible   ends well, and says so, where packages can't be had
//
// Kernels and files are made once and kept: WASM_HOSTMAP_MACHINES, or
// ~/.cache/wasm-hostmap-machines. WASM_HOSTMAP_BINARIES is a folder with binaries of the package
// that are built already. Needs root for nothing, and these programs:
//
//   apt-get install -y --no-install-recommends qemu-system-x86 qemu-system-arm kmod cpio zstd
import { spawnSync } from 'node:child_process'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { parseArgs } from 'node:util'

import { nodeOf, RELEASES } from '../../scripts/nodes.mjs'
import { MUSL_RELEASES, muslNode } from '../packages/musl-node.mjs'
import { NotToBeHad } from './apt.mjs'
import { base, nodes } from './base.mjs'
import { binary, coreTests, kernelProgram, resolverOf } from './binaries.mjs'
import { CACHE, output, ROOT } from './cache.mjs'
import { prepare, ROUNDS } from './install.mjs'
import { kernel, KERNELS } from './kernels.mjs'
import { boot } from './machine.mjs'
import { page } from './page.mjs'
import { RESULTS, read, readInstalls, write, writeInstall } from './results.mjs'

const { values: given, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    arch: { type: 'string', default: 'x64' },
    pages: { type: 'string', default: '4k' },
    node: { type: 'string', default: [...RELEASES.keys()].join() },
    musl: { type: 'boolean', default: false },
    costs: { type: 'boolean', default: false },
    suites: { type: 'string' },
    only: { type: 'string', default: '' },
    core: { type: 'boolean', default: false },
    doctor: { type: 'boolean', default: false },
    install: { type: 'string' },
    write: { type: 'boolean', default: false },
    page: { type: 'boolean', default: false },
    check: { type: 'boolean', default: false },
    seconds: { type: 'string', default: '1800' },
    'if-possible': { type: 'boolean', default: false }
  }
})

/** How much slower than a processor its emulation is, with room to spare. */
const SLOW = 20

const majors = given.node.split(',').filter(major => !given.musl || MUSL_RELEASES.has(major))
for (const major of majors) {
  if (!RELEASES.has(major))
    throw new Error(`--node ${major}: one of ${[...RELEASES.keys()].join()}`)
}

/** V8's builds of Node.js 20 for arm64 have its trap handler off, so that stores don't trap. */
const requirements = (arch, major) =>
  [
    'guard',
    ...(arch === 'arm64' && major === '20' ? [] : ['traps']),
    ...(Number(major) >= 24 ? ['memory64'] : [])
  ].join()

const quoted = word => `'${String(word).replaceAll("'", "'\\''")}'`

/** What all scripts of a guest begin with. */
const preamble = arch => `
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TMPDIR=/tmp CI=true SMOKE_SLOW=${SLOW}
export SMOKE_HUGETLB=1
[ -x /results/kernel ] && export HOSTMAP_KERNEL=/results/kernel
cp /results/hostmap.node /project/wasm-hostmap.linux-${arch}-gnu.node
cd /project || exit 125
`

function smokeScript(arch) {
  const runs = majors.map((major, at) => {
    const options = ['--json', `/results/node${major}.json`, '--require', requirements(arch, major)]
    if (given.costs && at === 0) options.push('--costs')
    const command = [`/opt/node${major}/bin/node`, 'e2e/smoke/run.cjs', ...options].map(quoted)
    return `${command.join(' ')} || failed="$failed ${major}"`
  })
  return `${preamble(arch)}failed=\n${runs.join('\n')}\n[ -z "$failed" ]\n`
}

function suitesScript(arch) {
  const files = given.suites.split(',').map(number => quoted(`__test__/${number}`))
  const jest = 'node_modules/jest/bin/jest.js --ci --maxWorkers=2 --testTimeout=1800000'
  const only = given.only && `--testNamePattern ${quoted(given.only)}`
  return `${preamble(arch)}
for folder in /results/unrs/*; do
  [ -d "$folder" ] && cp -r "$folder" node_modules/@unrs/
done
ulimit -c 0
export PATH=/opt/node${majors[0]}/bin:$PATH
node ${jest} ${only} ${files.join(' ')}
`
}

const coreScript = arch => `${preamble(arch)}
export RUST_BACKTRACE=1
failed=0
for test in /results/core/*/*; do
  echo "== $test"
  timeout 900 "$test" --test-threads=2 >/tmp/said 2>&1 || { echo "status $?"; failed=1; }
  grep -v -E '^test .* ok$|^$|^running' /tmp/said
done
exit $failed
`

const doctorScript = arch => `${preamble(arch)}
/opt/node${majors[0]}/bin/node cli/main.js doctor
`

/** The packages, installed as a user does, and the first example of the README. */
const installScript = arch => `${preamble(arch)}
mkdir /tmp/install
tar xf /results/install.tar -C /tmp/install
/opt/node${majors[0]}/bin/node e2e/machines/install-here.mjs /tmp/install ${ROUNDS.qemu} || exit 1
cp /tmp/install/times.json /results/
`

/** Runs the script in a guest, and gives what came of it. */
async function inGuest(name, script, fill = () => {}) {
  const { arch, pages } = given
  const found = kernel(name, arch, pages)
  const results = fs.mkdtempSync(path.join(CACHE, 'results-'))
  fs.copyFileSync(binary(arch), path.join(results, 'hostmap.node'))
  const program = kernelProgram(arch)
  if (program) fs.copyFileSync(program, path.join(results, 'kernel'))
  else
    console.log(
      `no compiler for ${arch}, so nobody asks the kernel what it has: pip install ziglang`
    )
  fill(results)
  console.log(`booting ${found.release} (${arch})`)
  const folders = { base: base(arch), opt: nodes(arch, majors), project: ROOT }
  const job = { arch, kernel: found, folders, script, seconds: Number(given.seconds), results }
  const ran = await boot(job)
  console.log(ran.output)
  const up = ran.bootSeconds === null ? 'it did not come up' : `up after ${ran.bootSeconds} s`
  console.log(`${found.release}: ${up}, ${ran.seconds} s in all, status ${ran.status}`)
  if (ran.why !== null) console.log(ran.why)
  return { ...ran, release: found.release }
}

/**
 * What runs the smoke script here: a Node.js, its environment, and what its results say otherwise.
 * For musl with the addon as it is published: a working copy has none.
 */
function onThisMachine(major) {
  if (!given.musl) return { node: nodeOf(major), env: {}, also: {} }
  const { node, version } = muslNode(major)
  const env = { WASM_HOSTMAP_BINARY_PATH: binary(process.arch, 'musl') }
  return { node, env, also: { libc: `musl ${version}` } }
}

/** The smoke script on the machine as it is, on each Node.js. */
function onHost() {
  let failed = false
  for (const major of majors) {
    const { node, env: own, also } = onThisMachine(major)
    const file = path.join(os.tmpdir(), `hostmap-host-${process.pid}.json`)
    const options = ['--json', file, '--require', requirements(process.arch, major)]
    if (given.costs && major === majors[0]) options.push('--costs')
    const env = { ...process.env, ...own, HOSTMAP_KERNEL: kernelProgram(process.arch) ?? '' }
    const script = path.join(ROOT, 'e2e/smoke/run.cjs')
    const { status } = spawnSync(node, [script, ...options], { stdio: 'inherit', env })
    failed ||= status !== 0
    if (given.write) write('host', { ...JSON.parse(fs.readFileSync(file, 'utf8')), ...also })
    fs.rmSync(file, { force: true })
  }
  return failed ? 1 : 0
}

/** The smoke script in a guest; a table of what came back. */
async function smoke(name) {
  const ran = await inGuest(name, smokeScript(given.arch))
  let failed = ran.status !== 0
  const rows = []
  for (const major of majors) {
    const file = path.join(ran.results, `node${major}.json`)
    if (!fs.existsSync(file)) {
      rows.push({ node: major, outcome: 'did not end' })
      failed = true
      continue
    }
    const result = JSON.parse(fs.readFileSync(file, 'utf8'))
    rows.push({
      node: result.version,
      passed: result.passed,
      leftOut: result.leftOut.length,
      failed: result.failed.length,
      seconds: result.seconds
    })
    if (given.write) write('qemu', { ...result, bootSeconds: ran.bootSeconds })
  }
  console.table(rows)
  fs.rmSync(ran.results, { recursive: true })
  return failed ? 1 : 0
}

/** Runs a script in a guest that keeps nothing. Gives its status. */
async function runOnly(name, script, fill) {
  const { results, status } = await inGuest(name, script, fill)
  fs.rmSync(results, { recursive: true })
  return status
}

const suites = name =>
  runOnly(name, suitesScript(given.arch), into => {
    const resolver = resolverOf(given.arch)
    if (resolver) fs.cpSync(resolver, path.join(into, 'unrs'), { recursive: true })
  })

const core = name =>
  runOnly(name, coreScript(given.arch), into =>
    fs.cpSync(coreTests(given.arch), path.join(into, 'core'), {
      recursive: true,
      filter: file => fs.statSync(file).isDirectory() || path.basename(file).search(given.only) >= 0
    })
  )

/** Keeps what install-here.mjs has left in a folder, if there is something. */
function keepTimes(folder, machine, also = {}) {
  const file = path.join(folder, 'times.json')
  if (!fs.existsSync(file) || !given.write) return
  writeInstall(machine, { ...JSON.parse(fs.readFileSync(file, 'utf8')), ...also })
}

/** How long an install takes, here or in a guest. */
async function install(name) {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'hostmap-install-'))
  try {
    await prepare(given.install, folder)
    if (name !== 'host') {
      const script = installScript(given.arch)
      // One file, since the folder of results is not cached in the guest.
      const { results, status } = await inGuest(name, script, into =>
        output('tar', ['cf', path.join(into, 'install.tar'), '-C', folder, '.'])
      )
      keepTimes(results, 'qemu')
      fs.rmSync(results, { recursive: true })
      return status
    }
    const { node, also } = onThisMachine(majors[0])
    // npm believes /usr/bin/ldd, which is of this machine's own C library.
    const env = { ...process.env, ...(given.musl && { npm_config_libc: 'musl' }) }
    const args = [path.join(ROOT, 'e2e/machines/install-here.mjs'), folder, String(ROUNDS.host)]
    const { status } = spawnSync(node, args, { stdio: 'inherit', env })
    keepTimes(folder, 'host', also)
    return status
  } finally {
    fs.rmSync(folder, { recursive: true })
  }
}

async function main() {
  const [name] = positionals
  const file = path.join(ROOT, 'docs/platforms.md')
  if (given.check) {
    if (fs.readFileSync(file, 'utf8') === (await page(read(), readInstalls()))) return 0
    console.error(
      `docs/platforms.md is not what ${path.relative(ROOT, RESULTS)} gives: npm run test:vm -- --page`
    )
    return 1
  }
  let status = 0
  if (name === 'host' && given.install) status = await install(name)
  else if (name === 'host') status = onHost()
  else if (name !== undefined) {
    if (!(name in KERNELS))
      throw new Error(`kernel ${name}: host, ${Object.keys(KERNELS).join(', ')}`)
    if (given.suites) status = await suites(name)
    else if (given.core) status = await core(name)
    else if (given.doctor) status = await runOnly(name, doctorScript(given.arch))
    else if (given.install) status = await install(name)
    else status = await smoke(name)
  } else if (!given.page) throw new Error(`name a kernel: host, ${Object.keys(KERNELS).join(', ')}`)
  if (given.page || given.write) fs.writeFileSync(file, await page(read(), readInstalls()))
  return status
}

try {
  process.exitCode = await main()
} catch (error) {
  if (!(error instanceof NotToBeHad)) throw error
  console.log(`left out: ${error.message}`)
  if (!given['if-possible']) process.exitCode = 1
}
