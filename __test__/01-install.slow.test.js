'use strict'

// What is in the package's files agrees, and its binary is found, missed and built as promised.
// e2e/packages/ does the same at full length: with package managers, and packages from a registry.

const { spawnSync } = require('node:child_process')
const fs = require('node:fs')
const path = require('node:path')
const hostmap = require('..')
const { platform } = require('./support/native')

const { target, unsupported } = platform
const manifest = require('../package.json')
const packages = require('../scripts/packages/manifests.cjs')
const { temporaryDirectory } = require('./support/files')
const { skipUnless } = require('./support/skip')

const root = path.join(__dirname, '..')
const directory = temporaryDirectory()
const read = file => fs.readFileSync(path.join(root, file), 'utf8')
const binaryName = `wasm-hostmap.${target()}.node`
const packageName = `@wasm-hostmap/${target()}`
const built = fs.readFileSync(path.join(root, binaryName))
const other = [...packages.TARGETS.keys()].find(name => name !== target())
const { test: testOnGlibc } = skipUnless('needs glibc', target().endsWith('-gnu'))

/** All files below a directory of the package, as paths from its root. */
const filesBelow = name =>
  fs
    .readdirSync(path.join(root, name), { withFileTypes: true })
    .flatMap(entry =>
      entry.isDirectory() ? filesBelow(path.join(name, entry.name)) : path.join(name, entry.name)
    )

/** A file of a folder, which is made if need be. */
function put(file, content, options) {
  fs.mkdirSync(path.dirname(file), { recursive: true })
  fs.writeFileSync(file, content, options)
}

/** The package of a target in a node_modules folder. `binary: null` leaves the binary out. */
function putPlatformPackage(modules, { name = target(), binary, version = manifest.version }) {
  const described = packages.platformManifest(packages.TARGETS.get(name))
  const folder = path.join(modules, described.name)
  put(path.join(folder, 'package.json'), JSON.stringify({ ...described, version }))
  if (binary !== null) put(path.join(folder, described.main), binary, { mode: 0o755 })
  return folder
}

/**
 * A project as somebody has it who installed the package: its files, but those that only people
 * read, and what `platform` says of the packages with binaries. Gives the folder of the main
 * package.
 *
 * @param platform a list of what putPlatformPackage takes
 * @param files other files of the project
 */
function project({ platform = [{ binary: built }], files = {}, release = true } = {}) {
  const place = fs.mkdtempSync(path.join(directory.path, 'project-'))
  const modules = path.join(place, 'node_modules')
  const main = path.join(modules, 'wasm-hostmap')
  const described = release ? packages.mainManifest() : manifest
  const isForPeople = name => /^(docs|guest|adapters)\b|[.]md$/.test(name)
  for (const file of described.files.filter(name => !name.includes('*') && !isForPeople(name))) {
    if (fs.existsSync(path.join(root, file)))
      fs.cpSync(path.join(root, file), path.join(main, file), { recursive: true })
  }
  put(path.join(main, 'package.json'), JSON.stringify(described))
  for (const each of platform) putPlatformPackage(modules, each)
  for (const [file, content] of Object.entries(files)) put(path.join(place, file), content)
  return main
}

/** What loading the package in a process of its own comes to: its exports, or an error. */
function load(location, { flags = [], prelude = '', env = {} } = {}) {
  const script = `${prelude}
    try { console.log(JSON.stringify({ exports: Object.keys(require(${JSON.stringify(location)})) })) }
    catch ({ code, message, cause }) { console.log(JSON.stringify({ code, message, cause: cause && cause.code })) }`
  const { status, stdout, stderr } = spawnSync(process.execPath, [...flags, '-e', script], {
    encoding: 'utf8',
    env: { ...process.env, ...env }
  })
  if (status !== 0) throw new Error(`exit code ${status}\n${stderr}`)
  return JSON.parse(stdout)
}

/** Runs the script that builds in a clone, on a machine that has these commands and no others. */
function prepare({ commands = {}, prelude = '' } = {}) {
  const PATH = fs.mkdtempSync(path.join(directory.path, 'bin-'))
  const home = fs.mkdtempSync(path.join(directory.path, 'home-'))
  for (const [name, script] of Object.entries(commands)) {
    fs.writeFileSync(path.join(PATH, name), `#!/bin/sh\n${script}\n`, { mode: 0o755 })
  }
  const flags = prelude
    ? ['--require', directory.file(prelude, `prelude-${path.basename(PATH)}.cjs`)]
    : []
  return spawnSync(process.execPath, [...flags, path.join(root, 'scripts/prepare.cjs')], {
    encoding: 'utf8',
    env: { PATH, HOME: home }
  })
}

/** A module and what it requires in one file, as bundlers write it. */
function bundled(entry) {
  const modules = {}
  const add = file => {
    if (modules[file] !== undefined) return
    const text = read(file)
    modules[file] = file.endsWith('.json') ? `module.exports = ${text}` : text
    for (const [, name] of text.matchAll(/require\('(\.[^']+)'\)/g))
      add(path.join(path.dirname(file), name))
  }
  add(entry)
  const functions = Object.entries(modules).map(
    ([file, text]) => `${JSON.stringify(file)}: (module, exports, require) => {${text}\n}`
  )
  return `const path = require('node:path'), modules = {${functions.join(',\n')}}, loaded = {}
    const requireIn = from => name => {
      if (!name.startsWith('.')) return require(name)
      const file = path.join(from, name)
      if (loaded[file] === undefined) {
        loaded[file] = { exports: {} }
        modules[file](loaded[file], loaded[file].exports, requireIn(path.dirname(file)))
      }
      return loaded[file].exports
    }
    module.exports = requireIn('')('./${entry}')`
}

const fakeProcess = (name, value) =>
  `Object.defineProperty(process, ${JSON.stringify(name)}, { value: ${JSON.stringify(value)} })\n`

describe('the files of the package agree', () => {
  test('on its version', () => {
    const versions = {
      'package-lock.json': JSON.parse(read('package-lock.json')).version,
      'Cargo.toml': /^version = "(.+)"$/m.exec(read('Cargo.toml'))[1],
      'Cargo.lock': /^name = "wasm-hostmap"\nversion = "(.+)"$/m.exec(read('Cargo.lock'))[1]
    }
    for (const [file, version] of Object.entries(versions)) {
      expect({ file, version }).toEqual({ file, version: manifest.version })
    }
  })

  test('on the oldest Node.js, and the oldest Rust', () => {
    expect(manifest.engines.node).toBe(`>=${platform.OLDEST_NODE}`)
    expect(/^rust-version = "(.+)"$/m.exec(read('Cargo.toml'))[1]).toBe(platform.RUST_VERSION)
  })

  test('on the codes of errors: those that are documented are those that are thrown', () => {
    const codesIn = text => [...new Set(text.match(/\bERR_HOSTMAP_[A-Z0-9_]+\b/g))].sort()
    const declarations = read('index.d.ts')
    const [, union] = /^export type HostmapErrorCode =$([^]*?)\n\n/m.exec(declarations)
    const sources = [...filesBelow('src'), ...filesBelow('lib'), 'index.js'].map(read).join('\n')
    expect(codesIn(union)).toEqual(codesIn(sources))
    // And the docs of the members name none that is not in the list.
    expect(codesIn(declarations)).toEqual(codesIn(union))
  })

  test('on what is exported', () => {
    const declared = [
      ...read('index.d.ts').matchAll(/^export (?:class|function|const) (\w+)/gm)
    ].map(([, name]) => name)
    expect(declared.sort()).toEqual(Object.keys(hostmap).sort())
    expect(read('index.mjs')).toMatch(/^export default hostmap$/m)
    const [, names] = /^export const \{([^}]+)\}/m.exec(read('index.mjs'))
    expect(
      names
        .split(',')
        .map(name => name.trim())
        .sort()
    ).toEqual(Object.keys(hostmap).sort())
  })

  test('on what goes into the tarball', () => {
    const filesIn = entry =>
      typeof entry === 'string' ? [entry] : Object.values(entry).flatMap(filesIn)
    const targets = filesIn(manifest.exports)
    const packed = manifest.files.flatMap(name => {
      if (/^!|\*/.test(name)) return []
      return fs.statSync(path.join(root, name)).isDirectory() ? filesBelow(name) : name
    })
    for (const file of targets) {
      if (file !== './package.json') expect(packed).toContain(path.normalize(file))
    }
    expect(packed.filter(name => /__test__|\.node$|target|^src/.test(name))).toEqual([])
  })

  test('on what a release has: no script, no tool, and binaries of exactly its version', () => {
    const { main, exports } = manifest
    const released = packages.mainManifest()
    expect(released).toMatchObject({ main, exports, version: manifest.version })
    const described = [...packages.TARGETS.values()].map(each => packages.platformManifest(each))
    expect(released.optionalDependencies).toEqual(
      Object.fromEntries(described.map(({ name }) => [name, manifest.version]))
    )
    for (const each of [released, ...described]) {
      expect(each.engines).toEqual(manifest.engines)
      for (const key of ['scripts', 'dependencies', 'devDependencies', 'overrides'])
        expect(each).not.toHaveProperty(key)
    }
    expect(described.map(({ name }) => name)).toEqual(
      platform.TARGETS.map(name => `@wasm-hostmap/${name}`)
    )
  })
})

describe('loading', () => {
  const exported = { exports: Object.keys(hostmap) }

  test('takes the binary of this machine from its package', () => {
    expect(load(project())).toEqual(exported)
  })

  test('takes it where other packages are beside it, as package managers without libc install', () => {
    const stranger = { name: other, binary: 'not for this machine' }
    expect(load(project({ platform: [{ binary: built }, stranger] }))).toEqual(exported)
  })

  test('takes it where packages are links, as pnpm has them', () => {
    const main = project({ platform: [] })
    const store = path.join(path.dirname(main), '.pnpm')
    const inStore = path.join(store, 'main', 'node_modules')
    fs.mkdirSync(inStore, { recursive: true })
    fs.renameSync(main, path.join(inStore, 'wasm-hostmap'))
    fs.symlinkSync(path.join(inStore, 'wasm-hostmap'), main)
    const apart = path.join(store, 'platform', 'node_modules')
    const folder = putPlatformPackage(apart, { binary: built })
    expect(load(main).message).toMatch(`${packageName}, which has the binary`)
    fs.mkdirSync(path.join(inStore, '@wasm-hostmap'))
    fs.symlinkSync(folder, path.join(inStore, packageName))
    expect(load(main)).toEqual(exported)
  })

  test('takes what was built next to package.json, first', () => {
    const main = project({ platform: [{ binary: 'not a binary' }], release: false })
    fs.writeFileSync(path.join(main, binaryName), built)
    expect(load(main)).toEqual(exported)
  })

  test('takes another build by WASM_HOSTMAP_BINARY_PATH, a path from the working directory', () => {
    const location = project({ platform: [] })
    const file = path.relative(process.cwd(), path.join(root, binaryName))
    expect(load(location, { env: { WASM_HOSTMAP_BINARY_PATH: file } })).toEqual(exported)
    const missing = load(location, { env: { WASM_HOSTMAP_BINARY_PATH: 'no/such.node' } })
    expect(missing).toMatchObject({ code: 'ERR_HOSTMAP_LOAD_FAILED', cause: 'MODULE_NOT_FOUND' })
    expect(missing.message).toMatch(/WASM_HOSTMAP_BINARY_PATH names .*no\/such\.node/)
  })

  test('has a variable of its own for that: others name the binaries of other packages', () => {
    const env = { NAPI_RS_NATIVE_LIBRARY_PATH: directory.file('process.exit(9)', 'theirs.cjs') }
    expect(load(project(), { env })).toEqual(exported)
  })

  test('takes nothing for its native part that is another one', () => {
    for (const text of ['', 'module.exports = null', 'module.exports = 1']) {
      const env = { WASM_HOSTMAP_BINARY_PATH: directory.file(text, 'theirs.cjs') }
      const { code, message } = load(project(), { env })
      expect(code).toBe('ERR_HOSTMAP_LOAD_FAILED')
      expect(message).toMatch(/names .*theirs\.cjs, .*it is not the native part of wasm-hostmap/)
    }
  })

  testOnGlibc('knows a glibc whose file was replaced since the process began', () => {
    const [file] = /\/\S+\/libc(\.so\.6|-2\.\d+\.so)$/m.exec(
      fs.readFileSync('/proc/self/maps', 'utf8')
    )
    const folder = fs.mkdtempSync(path.join(directory.path, 'libc-'))
    const copy = path.join(folder, 'libc.so.6')
    fs.copyFileSync(file, copy)
    const prelude = `require('node:fs').unlinkSync(${JSON.stringify(copy)})
      if (!require('node:fs').readFileSync('/proc/self/maps', 'utf8').includes('libc.so.6 (deleted)')) throw 1\n`
    expect(load(project(), { prelude, env: { LD_LIBRARY_PATH: folder } })).toEqual(exported)
  })

  test('takes no package of another name for the binary', () => {
    const location = project({ platform: [] })
    for (const name of [
      `wasm-hostmap-${target()}`,
      'wasm-hostmap-wasm32-wasi',
      '@wasm-hostmap/wasm32-wasi',
      `@wasm-hostmap/${other}`
    ]) {
      const stranger = path.join(location, 'node_modules', name)
      put(path.join(stranger, 'index.js'), 'console.log("a stranger ran"); process.exit(0)')
    }
    expect(load(location, { env: { NAPI_RS_FORCE_WASI: '1' } }).code).toBe(
      'ERR_HOSTMAP_LOAD_FAILED'
    )
  })

  test('does not load a binary of another version', () => {
    // It would stay in the process, and serve every copy that is loaded later.
    const binary = 'process.exit(9)'
    const { code, message } = load(project({ platform: [{ binary, version: '99.0.1' }] }))
    expect(code).toBe('ERR_HOSTMAP_TWO_VERSIONS')
    expect(message).toContain(`it is version ${manifest.version}, and its binary, the package`)
    expect(message).toContain(`${packageName}, is version 99.0.1`)
    expect(message).toContain(`${packageName}@${manifest.version}`)
  })
})

describe('a load that fails says what to do, and keeps the cause', () => {
  const steps = /^ {2}1\. .*`.+`/m
  const missing = { code: 'ERR_HOSTMAP_LOAD_FAILED', cause: 'MODULE_NOT_FOUND' }
  const lockOf = entries =>
    JSON.stringify({
      packages: {
        'node_modules/wasm-hostmap': packages.mainManifest(),
        ...Object.fromEntries(entries.map(name => [`node_modules/@wasm-hostmap/${name}`, {}]))
      }
    })

  test.each([
    ['package-lock.json', lockOf([target()]), 'npm install --include=optional'],
    ['pnpm-lock.yaml', '', 'pnpm add --save-optional'],
    ['yarn.lock', '', 'yarn add --optional'],
    ['yarn.lock', '# yarn lockfile v1', 'yarn install --force'],
    ['yarn.lock', '__metadata:', '`yarn install`'],
    ['bun.lock', '', 'bun add --optional']
  ])('where optional dependencies were left out, by %s', (lock, text, command) => {
    const error = load(project({ platform: [], files: { [lock]: text } }))
    expect(error).toMatchObject(missing)
    expect(error.message).toMatch(`${packageName}, which has the binary for this machine`)
    expect(error.message).toMatch(steps)
    expect(error.message).toContain(command)
    expect(error.message).toContain(`${packageName}@${manifest.version}`)
  })

  test('where npm made the lock file on another kind of machine', () => {
    const files = { 'package-lock.json': lockOf([other]) }
    const error = load(project({ platform: [], files }))
    expect(error).toMatchObject(missing)
    expect(error.message).toMatch(
      new RegExp(`this is ${target()}, and .*package-lock.json does not name ${packageName}`)
    )
    expect(error.message).toMatch(steps)
  })

  test('where node_modules comes from another machine', () => {
    const platform = [{ name: other, binary: 'not for this machine' }]
    const error = load(project({ platform }))
    expect(error).toMatchObject(missing)
    expect(error.message).toContain(`this is ${target()}, and what is installed is for ${other}`)
    expect(error.message).toMatch(steps)
  })

  test('where the package came without its binary', () => {
    const error = load(project({ platform: [{ binary: null }] }))
    expect(error).toMatchObject(missing)
    expect(error.message).toMatch(`${packageName} is installed, but its binary is not in it`)
    expect(error.message).toMatch(steps)
  })

  test('where it was installed from its repository, and not built', () => {
    const error = load(project({ platform: [], release: false }))
    expect(error).toMatchObject(missing)
    expect(error.message).toMatch(/from its repository, and was not built[^]*--ignore-scripts/)
  })

  test('where a working copy was not built', () => {
    const main = project({ platform: [], release: false })
    put(path.join(main, 'Cargo.toml'), '')
    const error = load(main)
    expect(error).toMatchObject(missing)
    expect(error.message).toMatch(`has not been built for ${target()}`)
    expect(error.message).toMatch(/1\. .*`npm ci`.*Rust 1\.\d+ or later/)
  })

  test('where the binary is for another processor', () => {
    const binary = Buffer.from(built)
    const [machine, arch] = process.arch === 'x64' ? [183, 'arm64'] : [62, 'x64']
    binary.writeUInt16LE(machine, 18) // e_machine of the ELF header
    const { code, message } = load(project({ platform: [{ binary }] }))
    expect(code).toBe('ERR_HOSTMAP_LOAD_FAILED')
    expect(message).toMatch(`its binary is for ${arch}, and this Node.js for ${process.arch}`)
  })

  testOnGlibc('where glibc is too old, with the version that it needs in the end', () => {
    // The dynamic linker compares the names of versions: one that no glibc has is as good as an old
    // glibc. It stops at the first that it misses, which is not the newest here.
    const binary = Buffer.from(built)
    const names = [...built.toString('latin1').matchAll(/GLIBC_2\.\d\d\0/g)]
    binary.write('GLIBC_2.98', names.at(0).index, 'latin1')
    binary.write('GLIBC_2.99', names.at(-1).index, 'latin1')
    const { code, message } = load(project({ platform: [{ binary }] }))
    const { glibcVersionRuntime } = process.report.getReport().header
    expect(code).toBe('ERR_HOSTMAP_LOAD_FAILED')
    expect(message).toMatch(
      `needs glibc 2.99 or later, and this machine has glibc ${glibcVersionRuntime}`
    )
    expect(message).toMatch(/1\. Use a Linux distribution with glibc 2\.99/)
  })

  test.each([
    ['no ELF file', Buffer.from('<html>404</html>'.repeat(100))],
    ['shorter than an ELF header', Buffer.from('\x7fELF\x02\x01', 'latin1')]
  ])('where the binary is damaged: %s', (_, binary) => {
    const error = load(project({ platform: [{ binary }] }))
    expect(error).toMatchObject({ code: 'ERR_HOSTMAP_LOAD_FAILED', cause: 'ERR_DLOPEN_FAILED' })
    expect(error.message).toMatch('its binary is damaged')
    expect(error.message).toMatch('1. Remove node_modules, and install again')
  })

  test('where the process may not load addons', () => {
    const error = load(root, { flags: ['--no-addons'] })
    expect(error).toMatchObject({ code: 'ERR_HOSTMAP_LOAD_FAILED', cause: 'ERR_DLOPEN_DISABLED' })
    expect(error.message).toMatch(/--allow-addons[^]*--no-addons/)
  })

  test('where Node.js is too old', () => {
    const error = load(root, {
      prelude: fakeProcess('versions', { ...process.versions, node: '18.20.8' })
    })
    expect(error.code).toBe('ERR_HOSTMAP_LOAD_FAILED')
    expect(error.message).toMatch(/Node\.js 20 or later/)
  })

  test('where its code is part of a bundle, whose files are elsewhere', () => {
    const place = fs.mkdtempSync(path.join(directory.path, 'bundle-'))
    fs.mkdirSync(path.join(place, 'dist'))
    const bundle = path.join(place, 'dist', 'bundle.js')
    fs.writeFileSync(bundle, bundled('lib/platform/binding.js'))
    const { code, message } = load(bundle)
    expect(code).toBe('ERR_HOSTMAP_LOAD_FAILED')
    expect(message).toMatch(
      /part of a bundle[^]*1\. .*external[^]*--external:wasm-hostmap[^]*2\. .*next to the bundle/
    )
    expect(message).toContain(path.join(place, 'dist', binaryName))
    fs.writeFileSync(path.join(place, 'dist', binaryName), built)
    expect(load(bundle).exports).toContain('limits')
  })

  // What Deno throws where it was not given a permission.
  const deny = names => `
    const denied = () => { throw Object.assign(new Error('Requires X access to "Y", run again with the --allow-X flag'), { name: 'NotCapable' }) }
    const names = ${JSON.stringify(names)}
    if (names.includes('env')) process.env = new Proxy(process.env, { get: (env, name) => name === 'WASM_HOSTMAP_BINARY_PATH' ? denied() : env[name] })
    if (names.includes('sys')) process.report.getReport = denied
    if (names.includes('proc')) require('node:fs').readFileSync = (read => (file, ...rest) =>
      String(file).startsWith('/proc') ? denied() : read(file, ...rest))(require('node:fs').readFileSync)
    if (names.includes('ffi')) require('node:module')._extensions['.node'] = denied\n`

  test('needs neither the environment, nor the system, nor /proc', () => {
    expect(load(root, { prelude: deny(['env', 'sys', 'proc']) })).toEqual({
      exports: Object.keys(hostmap)
    })
  })

  test('says what to permit where Deno does not let it load', () => {
    const { code, message } = load(root, { prelude: deny(['env', 'sys', 'proc', 'ffi']) })
    expect(code).toBe('ERR_HOSTMAP_LOAD_FAILED')
    expect(message).toMatch(/Deno process is not permitted[^]*--allow-ffi/)
  })

  test('knows this platform', () => {
    expect(unsupported()).toBeNull()
  })
})

describe('the script that builds in a clone', () => {
  const rustVersion = /^rust-version = "(.+)"$/m.exec(read('Cargo.toml'))[1]
  const current = 'echo "cargo 1.1000.0 (0000000 2030-01-01)"'

  test('says at an unsupported platform what loading says there', () => {
    const prelude = fakeProcess('platform', 'darwin')
    const { status, stderr } = prepare({ prelude })
    expect(status).toBe(1)
    expect(stderr.trim()).toBe(load(root, { prelude }).message)
  })

  test('says how to get Rust, and how to do without', () => {
    const { status, stderr } = prepare()
    expect(status).toBe(1)
    expect(stderr).toMatch('Rust was not found')
    expect(stderr).toMatch(`takes Rust ${rustVersion} or later`)
    expect(stderr).toMatch('https://rustup.rs')
    expect(stderr).toMatch('2. Or install a release')
  })

  test('refuses a Rust that is too old', () => {
    const commands = { cargo: 'echo "cargo 1.9.0 (0000000 2016-05-26)"' }
    const { status, stderr } = prepare({ commands })
    expect(status).toBe(1)
    expect(stderr).toMatch('The Rust on this machine is 1.9.0, which is too old')
  })

  test('builds by npm where Rust is there, and fails where that fails', () => {
    const commands = npm => ({ cargo: current, npm })
    expect(prepare({ commands: commands('[ "$*" = "run build" ]') })).toMatchObject({
      status: 0,
      stderr: ''
    })
    const { status, stderr } = prepare({ commands: commands('exit 3') })
    expect(status).toBe(1)
    expect(stderr).toMatch('`npm run build` failed')
  })
})
