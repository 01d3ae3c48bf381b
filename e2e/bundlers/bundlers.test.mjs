// Each bundler: what it does by itself, and its section of docs/bundlers.md.
import assert from 'node:assert/strict'
import { cpSync, existsSync, readFileSync, readdirSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import path from 'node:path'
import { describe, test } from 'node:test'
import { fileURLToPath, pathToFileURL } from 'node:url'
import {
  APP,
  MOST_MS,
  TARGET,
  elsewhere,
  project,
  putBinary,
  recipe,
  run,
  runNode
} from './support.mjs'

const BIN = fileURLToPath(new URL('node_modules/.bin', import.meta.url))
const require = createRequire(import.meta.url)
const WORKS = { status: 0, stdout: 'ELF function\n', stderr: '' }

/** Runs a line of a shell in a project, with the bundlers at hand. */
async function shell(line, cwd) {
  const { status, stdout, stderr } = await run('sh', ['-ec', line], {
    cwd,
    env: { PATH: `${BIN}:${path.dirname(process.execPath)}:${process.env.PATH}` }
  })
  assert.equal(status, 0, stdout + stderr)
}

/** The settings of a section, as what its file exports. */
async function settings(section, at, file) {
  const text = recipe(section, 'javascript')
  assert.ok(text.startsWith(`// ${file}\n`), `${section}: ${file}`)
  writeFileSync(path.join(at, file), text)
  return file.endsWith('.mjs')
    ? (await import(pathToFileURL(path.join(at, file)))).default
    : require(path.join(at, file))
}

const BUNDLERS = {
  esbuild: {
    entry: 'app.cjs',
    line: '--external:wasm-hostmap',
    build: at =>
      shell(
        'esbuild app.mjs --bundle --platform=node --outfile=dist/app.cjs --log-level=error',
        at
      ),
    buildByRecipe: at => shell(recipe('esbuild', 'sh'), at)
  },
  webpack: {
    entry: 'app.cjs',
    line: "externalsType: 'commonjs', externals: /^wasm-hostmap(\\/|$)/",
    build: async at => {
      const { externals, externalsType, ...rest } = await settings(
        'webpack',
        at,
        'webpack.config.js'
      )
      assert.ok(externals && externalsType)
      await webpack(at, rest)
    },
    buildByRecipe: async at => webpack(at, await settings('webpack', at, 'webpack.config.js'))
  },
  Rollup: {
    entry: 'app.mjs',
    line: 'external: /^wasm-hostmap(\\/|$)/',
    build: async at => {
      const { external, ...rest } = await settings('Rollup', at, 'rollup.config.mjs')
      assert.ok(external)
      await rollup(at, { ...rest, external: [] })
    },
    buildByRecipe: async at => rollup(at, await settings('Rollup', at, 'rollup.config.mjs'))
  },
  Vite: {
    entry: 'app.mjs',
    line: "ssr: { external: ['wasm-hostmap'] }",
    build: async at => {
      const { ssr, ...rest } = await settings('Vite', at, 'vite.config.mjs')
      await vite(at, { ...rest, ssr: { ...ssr, external: [] } })
    },
    buildByRecipe: async at => vite(at, await settings('Vite', at, 'vite.config.mjs'))
  },
  ncc: {
    entry: 'index.mjs',
    line: '--external wasm-hostmap',
    build: at => shell('ncc build app.mjs --out dist --quiet', at),
    buildByRecipe: at => shell(recipe('ncc', 'sh'), at)
  }
}

async function webpack(at, config) {
  const output = { ...config.output, path: path.join(at, 'dist') }
  const compiler = require('webpack')({ ...config, context: at, output })
  const stats = await new Promise((resolve, reject) =>
    compiler.run((error, result) => (error ? reject(error) : resolve(result)))
  )
  assert.ok(!stats.hasErrors(), stats.toString('errors-only'))
  await new Promise(resolve => compiler.close(resolve))
}

async function rollup(at, config) {
  const bundle = await require('rollup').rollup({
    ...config,
    input: path.join(at, config.input),
    onwarn() {}
  })
  await bundle.write({ ...config.output, dir: path.join(at, config.output.dir) })
  await bundle.close()
}

async function vite(at, config) {
  const { build } = await import('vite')
  await build({ ...config, root: at, configFile: false, logLevel: 'error' })
}

// A pipe holds a part of such a line.
test('an error at the end of a long line is read whole, however late', async () => {
  const at = elsewhere()
  const text = `(() => {/*${'x'.repeat(2 ** 22)}*/ throw new Error('the end') })()`
  writeFileSync(path.join(at, 'app.cjs'), text)
  const ended = path.join(at, 'ended')
  const running = run('sh', ['-c', `"$0" app.cjs; echo $? >ended`, process.execPath], { cwd: at })
  // Nobody reads while this thread waits.
  const turn = new Int32Array(new SharedArrayBuffer(4))
  const last = Date.now() + MOST_MS
  while (!existsSync(ended) && Date.now() < last) Atomics.wait(turn, 0, 0, 20)
  const { status, stderr } = await running
  assert.equal(status, 0)
  assert.match(stderr.slice(-1000), /^Error: the end$/m)
})

for (const [name, { entry, line, build, buildByRecipe }] of Object.entries(BUNDLERS)) {
  describe(name, () => {
    test('a bundle with the package in it works where node_modules is', async () => {
      const at = project(name, { 'app.mjs': APP })
      await build(at)
      assert.deepEqual(await runNode(path.join(at, 'dist', entry)), WORKS)

      await test('and elsewhere says what setting leaves the package out', async () => {
        const alone = elsewhere()
        cpSync(path.join(at, 'dist'), alone, { recursive: true })
        const failed = await runNode(path.join(alone, entry))
        assert.equal(failed.status, 1)
        assert.match(failed.stderr, /ERR_HOSTMAP_LOAD_FAILED/)
        const said = failed.stderr.split('\n').find(text => text.trimStart().startsWith(name))
        assert.equal(said?.trim().replace(/^\S+\s+/, ''), line, failed.stderr.slice(-4000))

        // What the message says otherwise.
        const place = /next to the bundle: (\/.*)$/m.exec(failed.stderr)?.[1]
        assert.equal(place, path.join(alone, TARGET.binary))
        putBinary(alone)
        assert.deepEqual(await runNode(path.join(alone, entry)), WORKS)

        // Where a server, or a function in a cloud, is started by a program of another folder.
        const starter = path.join(elsewhere(), 'start.mjs')
        writeFileSync(starter, `await import(${JSON.stringify(path.join(alone, entry))})`)
        assert.deepEqual(await runNode(starter), WORKS)
      })
    })

    test('with the setting of docs/bundlers.md the package is not in the bundle', async () => {
      const at = project(name, { 'app.mjs': APP })
      await buildByRecipe(at)
      const files = readdirSync(path.join(at, 'dist')).filter(file => /\.[cm]?js$/.test(file))
      for (const file of files) {
        const text = readFileSync(path.join(at, 'dist', file), 'utf8')
        assert.ok(!text.includes('ERR_HOSTMAP'), `${file} has code of the package`)
      }
      assert.deepEqual(await runNode(path.join(at, 'dist', entry)), WORKS)
    })
  })
}

test('an ES module by esbuild says that it can not be one', async () => {
  const at = project('esm', { 'app.mjs': APP })
  await shell(
    'esbuild app.mjs --bundle --platform=node --format=esm --outfile=dist/app.mjs --log-level=error',
    at
  )
  const { status, stderr } = await runNode(path.join(at, 'dist', 'app.mjs'))
  assert.equal(status, 1)
  assert.match(stderr, /ERR_HOSTMAP_LOAD_FAILED/)
  assert.match(stderr, /--external:wasm-hostmap$/m)
  assert.match(stderr, /--format=cjs/)
})
