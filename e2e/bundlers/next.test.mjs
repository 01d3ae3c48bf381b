// Next.js: what `next build` copies for a route handler, and what it says without the setting.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { cpSync, readdirSync } from 'node:fs'
import { createServer } from 'node:net'
import path from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { MOST_MS, TARGET, elsewhere, project, recipe, run } from './support.mjs'

const NEXT = fileURLToPath(new URL('node_modules/next/dist/bin/next', import.meta.url))

const FILES = {
  'package.json': '{ "name": "app", "private": true }\n',
  'app/layout.js': `export default function Layout({ children }) {
  return <html><body>{children}</body></html>
}
`,
  'app/magic/route.js': `import { GuardedMemory, HostRegion } from 'wasm-hostmap'

export const dynamic = 'force-dynamic'

export function GET() {
  const guarded = new GuardedMemory({ initial: 1 })
  const mapping = guarded.map(HostRegion.open('/proc/self/exe'))
  return new Response(new Uint8Array(guarded.buffer).slice(mapping.address + 1, mapping.address + 4))
}
`
}

// Next.js takes the highest folder with a lock file for its root, which is this checkout's.
const ROOT = fileURLToPath(new URL('.', import.meta.url)).replace(/\/$/, '')
/** Builds a project with this file as its next.config.mjs. */
async function next(config) {
  const at = project('next', {
    ...FILES,
    'page.config.mjs': config,
    'next.config.mjs': `import page from './page.config.mjs'
const root = ${JSON.stringify(ROOT)}
export default { ...page, outputFileTracingRoot: root, turbopack: { root } }
`
  })
  const built = await run(process.execPath, [NEXT, 'build'], {
    cwd: at,
    env: { NEXT_TELEMETRY_DISABLED: '1', NODE_ENV: 'production', CI: '1' }
  })
  return { at, ...built }
}

async function build(config) {
  const { at, status, stdout, stderr } = await next(config)
  assert.equal(status, 0, stdout + stderr)
  // A copy of the folder, as it is put into an image.
  const alone = elsewhere()
  cpSync(path.join(at, '.next', 'standalone'), alone, { recursive: true, verbatimSymlinks: true })
  return alone
}

/** The folder of a standalone build that has server.js: the project's, below the common root. */
function serverIn(at) {
  const found = readdirSync(at, { recursive: true }).find(
    file => path.basename(file) === 'server.js' && !file.includes('node_modules')
  )
  assert.ok(found, 'server.js')
  return path.join(at, found)
}

async function freePort() {
  const server = createServer()
  await new Promise(resolve => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address()
  await new Promise(resolve => server.close(resolve))
  return port
}

/** Starts the server of a standalone build: gives it, its address, and what it prints. */
async function start(at, attempts = 3) {
  const port = await freePort()
  const child = spawn(process.execPath, [serverIn(at)], {
    env: { ...process.env, PORT: String(port), HOSTNAME: '127.0.0.1', NODE_ENV: 'production' },
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: MOST_MS
  })
  let printed = ''
  const isReady = await new Promise((resolve, reject) => {
    const onText = text => {
      printed += text
      if (/Ready in/.test(printed)) resolve(true)
    }
    child.stdout.setEncoding('utf8').on('data', onText)
    child.stderr.setEncoding('utf8').on('data', onText)
    child.on('error', reject)
    child.on('close', () => resolve(false))
  })
  if (isReady) return { child, url: `http://127.0.0.1:${port}/`, printed: () => printed }
  // Somebody took the port meanwhile.
  if (attempts > 1 && printed.includes('EADDRINUSE')) return start(at, attempts - 1)
  throw new Error(`the server ended: ${child.exitCode ?? child.signalCode}\n${printed}`)
}

/** What the handler answers, and what the server printed. */
async function ask(at) {
  const { child, url, printed } = await start(at)
  try {
    const response = await fetch(`${url}magic`)
    return { status: response.status, text: await response.text(), printed }
  } finally {
    if (child.exitCode === null && child.signalCode === null) {
      const ended = once(child, 'exit')
      child.kill()
      await ended
    }
  }
}

test('the standalone folder has the package and its binary, and the handler maps', async () => {
  const at = await build(recipe('Next.js', 'javascript'))
  const files = readdirSync(at, { recursive: true })
  assert.ok(files.some(file => file.endsWith(path.join(TARGET.packageName, TARGET.binary))))
  const { status, text, printed } = await ask(at)
  assert.equal(status, 200, printed())
  assert.equal(text, 'ELF')
})

test('without the setting the build fails and the error shows it', async () => {
  const { status, stdout, stderr } = await next("export default { output: 'standalone' }\n")
  assert.notEqual(status, 0)
  assert.match(stdout + stderr, /ERR_HOSTMAP_LOAD_FAILED/)
  assert.match(stdout + stderr, /Next.js +serverExternalPackages: \['wasm-hostmap'\]/)
})
