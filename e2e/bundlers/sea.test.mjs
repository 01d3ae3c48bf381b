// Single executable applications, by their section of docs/bundlers.md: on the Node.js that runs
// this, or on all that HOSTMAP_NODES names (20,22,24,26).
import assert from 'node:assert/strict'
import {
  copyFileSync,
  mkdirSync,
  readdirSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync
} from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { nodeOf } from '../../scripts/nodes.mjs'
import { APP, TARGET, elsewhere, project, recipe, run } from './support.mjs'

const BIN = fileURLToPath(new URL('node_modules/.bin', import.meta.url))
const SECTION = 'Single executable applications'
const nodes = process.env.HOSTMAP_NODES?.split(',').map(nodeOf) ?? [process.execPath]

/** Builds the page's application with this Node.js, and gives where the program is. */
async function build(node, config, source = APP) {
  const at = project('sea', { 'app.mjs': source, 'sea-config.json': JSON.stringify(config) })
  // The page's `node` is this one, and so is what it copies.
  const { status, stdout, stderr } = await run('sh', ['-ec', recipe(SECTION, 'sh')], {
    cwd: at,
    env: { PATH: `${path.dirname(node)}:${BIN}:${process.env.PATH}` }
  })
  assert.equal(status, 0, stdout + stderr)
  const alone = elsewhere()
  copyFileSync(path.join(at, 'dist', 'app'), path.join(alone, 'app'))
  rmSync(at, { recursive: true })
  return alone
}

/** The page's configuration, for this machine. */
function configuration() {
  const config = recipe(SECTION, 'json')
  const { packageName, binary } = TARGET
  return JSON.parse(
    config.replace(/@wasm-hostmap\/[\w-]+\/wasm-hostmap\.[\w-]+\.node/, `${packageName}/${binary}`)
  )
}

for (const node of nodes) {
  test(`the program that ${node} becomes finds its binary in itself, and leaves no file`, async () => {
    const alone = await build(node, configuration())
    const temporary = elsewhere()
    const app = path.join(alone, 'app')
    const ran = await run(app, [], { cwd: alone, env: { TMPDIR: temporary } })
    assert.deepEqual(ran, { status: 0, stdout: 'ELF function\n', stderr: '' })
    assert.deepEqual(readdirSync(temporary), [])
    assert.deepEqual(readdirSync(alone), ['app'])
  })
}

// Its workers run the same code, from an asset. It prints how many files with a binary are loaded.
const WITH_WORKERS = `import { Worker, isMainThread } from 'node:worker_threads'
import { readFileSync, rmSync } from 'node:fs'
import { HostRegion, limits } from 'wasm-hostmap'

async function main() {
  const { getAsset } = require('node:sea')
  // A file of that name, which is no library, and so large that it is below.
  const likeIt = process.argv[2]
  const view = likeIt && HostRegion.open(likeIt).view()
  if (likeIt) rmSync(likeIt)
  for (let worker = 0; worker < 3; worker++) {
    await new Promise((resolve, reject) => {
      new Worker(getAsset('app.js', 'utf8'), { eval: true }).on('error', reject).on('exit', resolve)
    })
  }
  const maps = readFileSync('/proc/self/maps', 'utf8')
  console.log(new Set(maps.match(/r-xp.*wasm-hostmap[.]node.*$/gm)).size, view?.byteLength)
}

limits()
if (isMainThread) main()
`

test('all threads of it share the binary that the first one has loaded', async () => {
  const config = configuration()
  config.assets['app.js'] = config.main
  const alone = await build(process.execPath, config, WITH_WORKERS)
  const app = path.join(alone, 'app')
  // Its folder by a link, too.
  const temporary = elsewhere()
  symlinkSync(temporary, path.join(alone, 'link'))
  const likeIt = path.join(alone, 'wasm-hostmap-a', 'wasm-hostmap.node')
  mkdirSync(path.dirname(likeIt))
  writeFileSync(likeIt, '')
  truncateSync(likeIt, 2 ** 30)
  const env = { TMPDIR: path.join(alone, 'link') }
  for (const [args, said] of [
    [[], '1 undefined\n'],
    [[likeIt], `1 ${2 ** 30}\n`]
  ]) {
    const ran = await run(app, args, { cwd: alone, env })
    assert.deepEqual(ran, { status: 0, stdout: said, stderr: '' })
  }
  assert.deepEqual(readdirSync(temporary), [])
})

test('where the asset can not become a file, or may not be executed as one, the error says so', async t => {
  const alone = await build(process.execPath, configuration())
  const app = path.join(alone, 'app')
  const nowhere = path.join(alone, 'nowhere')
  const unwritten = await run(app, [], { cwd: alone, env: { TMPDIR: nowhere } })
  assert.equal(unwritten.status, 1)
  assert.match(
    unwritten.stderr,
    /asset 'wasm-hostmap.node' can't be written to .*nowhere: ENOENT[^]*1\. Let TMPDIR name/
  )
  const mounted = line => run('unshare', ['-rm', 'sh', '-ec', MOUNT + line, alone, app])
  const can = await mounted('true').catch(error => ({ status: error.code }))
  if (can.status !== 0) return t.diagnostic(`nothing can be mounted: ${can.status}`)
  const refused = await mounted('TMPDIR=$0/noexec exec "$1"')
  assert.equal(refused.status, 1)
  assert.match(refused.stderr, /lets nothing in .*\/noexec, be executed\.\n {2}1\. Let TMPDIR name/)
})
const MOUNT = 'mkdir -p "$0/noexec"; mount -t tmpfs -o noexec tmpfs "$0/noexec"; '

test('without the asset the error says which one is missing', async () => {
  const { assets, ...config } = configuration()
  assert.deepEqual(Object.keys(assets), ['wasm-hostmap.node'])
  const alone = await build(process.execPath, config)
  const { status, stderr } = await run(path.join(alone, 'app'), [], { cwd: alone })
  assert.equal(status, 1)
  assert.match(stderr, /ERR_HOSTMAP_LOAD_FAILED/)
  assert.match(stderr, /single executable application, make it the asset 'wasm-hostmap.node'/)
})
