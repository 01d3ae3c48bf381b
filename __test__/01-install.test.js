'use strict'

// What is in the package's files agrees, and its binary is found, missed and built as promised.
// scripts/tarball.mjs does the same at full length: with npm, and with a real build.

const { spawnSync } = require('node:child_process')
const fs = require('node:fs')
const path = require('node:path')
const hostmap = require('..')
const { platform } = require('./support/native')

const { target, unsupported } = platform
const manifest = require('../package.json')
const { temporaryDirectory } = require('./support/files')
const { skipUnless } = require('./support/skip')

const root = path.join(__dirname, '..')
const directory = temporaryDirectory()
const read = file => fs.readFileSync(path.join(root, file), 'utf8')
const binaryName = `wasm-hostmap.${target()}.node`
const { test: testOnGlibc } = skipUnless('needs glibc', target().endsWith('-gnu'))

/** All files below a directory of the package, as paths from its root. */
const filesBelow = name =>
  fs
    .readdirSync(path.join(root, name), { withFileTypes: true })
    .flatMap(entry =>
      entry.isDirectory() ? filesBelow(path.join(name, entry.name)) : path.join(name, entry.name)
    )

/**
 * The package as somebody has it who installed it, in a directory of its own. `binary: null` leaves
 * the binary out.
 */
function installedPackage({ binary = fs.readFileSync(path.join(root, binaryName)) } = {}) {
  const copy = fs.mkdtempSync(path.join(directory.path, 'installed-'))
  for (const file of ['package.json', ...manifest.files]) {
    if (fs.existsSync(path.join(root, file))) {
      fs.cpSync(path.join(root, file), path.join(copy, file), { recursive: true })
    }
  }
  if (binary) fs.writeFileSync(path.join(copy, binaryName), binary, { mode: 0o755 })
  return copy
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

/** Runs the install script as npm would, on a machine that has these commands and no others. */
function install(location, { commands = {}, prelude = '', env = {} } = {}) {
  const PATH = fs.mkdtempSync(path.join(directory.path, 'bin-'))
  const home = fs.mkdtempSync(path.join(directory.path, 'home-'))
  for (const [name, script] of Object.entries(commands)) {
    fs.writeFileSync(path.join(PATH, name), `#!/bin/sh\n${script}\n`, { mode: 0o755 })
  }
  const flags = prelude
    ? ['--require', directory.file(prelude, `prelude-${path.basename(PATH)}.cjs`)]
    : []
  return spawnSync(process.execPath, [...flags, path.join(location, 'scripts', 'install.cjs')], {
    encoding: 'utf8',
    env: { PATH, HOME: home, ...env }
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
      if (name.includes('*')) return []
      return fs.statSync(path.join(root, name)).isDirectory() ? filesBelow(name) : name
    })
    for (const file of targets) {
      if (file !== './package.json') expect(packed).toContain(path.normalize(file))
    }
    expect(packed.filter(name => /__test__|\.node$|target/.test(name))).toEqual([])
  })
})

describe('loading', () => {
  test('takes the binary of this platform, from wherever the package stands', () => {
    expect(load(installedPackage())).toEqual({ exports: Object.keys(hostmap) })
  })

  test('takes another build by NAPI_RS_NATIVE_LIBRARY_PATH, a path from the working directory', () => {
    const location = installedPackage({ binary: null })
    const other = path.relative(process.cwd(), path.join(root, binaryName))
    expect(load(location, { env: { NAPI_RS_NATIVE_LIBRARY_PATH: other } })).toEqual({
      exports: Object.keys(hostmap)
    })
    const missing = load(location, { env: { NAPI_RS_NATIVE_LIBRARY_PATH: 'no/such.node' } })
    expect(missing).toMatchObject({ code: 'ERR_HOSTMAP_LOAD_FAILED', cause: 'MODULE_NOT_FOUND' })
    expect(missing.message).toMatch(/NAPI_RS_NATIVE_LIBRARY_PATH names .*no\/such\.node/)
  })

  test('names both ways out when the binary is missing, and keeps the cause', () => {
    const error = load(installedPackage({ binary: null }))
    expect(error).toMatchObject({ code: 'ERR_HOSTMAP_LOAD_FAILED', cause: 'MODULE_NOT_FOUND' })
    expect(error.message).toMatch(`there is no binary for ${target()}`)
    expect(error.message).toMatch(/^ {2}1\. .*npm rebuild.*rustup\.rs/m)
    expect(error.message).toMatch(/^ {2}2\. .*npm pack/m)
  })

  test('takes no package of a similar name for the binary', () => {
    const location = installedPackage({ binary: null })
    for (const name of [`wasm-hostmap-${target()}`, 'wasm-hostmap-wasm32-wasi']) {
      const stranger = path.join(location, 'node_modules', name)
      fs.mkdirSync(stranger, { recursive: true })
      fs.writeFileSync(
        path.join(stranger, 'index.js'),
        'console.log("a stranger ran"); process.exit(0)'
      )
    }
    expect(load(location, { env: { NAPI_RS_FORCE_WASI: '1' } }).code).toBe(
      'ERR_HOSTMAP_LOAD_FAILED'
    )
  })

  test('says so when the package was installed on a machine of another kind', () => {
    const location = installedPackage({ binary: null })
    fs.writeFileSync(path.join(location, 'wasm-hostmap.linux-riscv64-musl.node'), '')
    const { code, message } = load(location)
    expect(code).toBe('ERR_HOSTMAP_LOAD_FAILED')
    expect(message).toMatch(
      `this is ${target()}, and the package was installed with a binary for linux-riscv64-musl`
    )
  })

  test('says so when the binary is for another processor', () => {
    const binary = fs.readFileSync(path.join(root, binaryName))
    const [machine, other] = process.arch === 'x64' ? [183, 'arm64'] : [62, 'x64']
    binary.writeUInt16LE(machine, 18) // e_machine of the ELF header
    const { code, message } = load(installedPackage({ binary }))
    expect(code).toBe('ERR_HOSTMAP_LOAD_FAILED')
    expect(message).toMatch(`its binary is for ${other}, and this Node.js for ${process.arch}`)
  })

  testOnGlibc('says so when glibc is too old, with both versions', () => {
    // The dynamic linker compares the names of versions: one that no glibc has is as good as an old
    // glibc.
    const binary = fs.readFileSync(path.join(root, binaryName))
    const at = /GLIBC_2\.\d\d\0/.exec(binary.toString('latin1')).index
    binary.write('GLIBC_2.99', at, 'latin1')
    const { code, message } = load(installedPackage({ binary }))
    const { glibcVersionRuntime } = process.report.getReport().header
    expect(code).toBe('ERR_HOSTMAP_LOAD_FAILED')
    expect(message).toMatch(
      `needs glibc 2.99 or later, and this machine has glibc ${glibcVersionRuntime}`
    )
    expect(message).toMatch(/1\. Build it on this machine/)
  })

  test.each([
    ['no ELF file', Buffer.from('<html>404</html>'.repeat(100))],
    ['shorter than an ELF header', Buffer.from('\x7fELF\x02\x01', 'latin1')]
  ])('says so when the binary is damaged: %s', (_, binary) => {
    const error = load(installedPackage({ binary }))
    expect(error).toMatchObject({ code: 'ERR_HOSTMAP_LOAD_FAILED', cause: 'ERR_DLOPEN_FAILED' })
    expect(error.message).toMatch('its binary is damaged')
  })

  test('says so when the process may not load addons', () => {
    const error = load(root, { flags: ['--no-addons'] })
    expect(error).toMatchObject({ code: 'ERR_HOSTMAP_LOAD_FAILED', cause: 'ERR_DLOPEN_DISABLED' })
    expect(error.message).toMatch(/--allow-addons[^]*--no-addons/)
  })

  test('says so when Node.js is too old', () => {
    const error = load(root, {
      prelude: fakeProcess('versions', { ...process.versions, node: '18.20.8' })
    })
    expect(error.code).toBe('ERR_HOSTMAP_LOAD_FAILED')
    expect(error.message).toMatch(/Node\.js 20 or later/)
  })

  test('says so where its code is part of a bundle, whose files are elsewhere', () => {
    const place = fs.mkdtempSync(path.join(directory.path, 'bundle-'))
    fs.mkdirSync(path.join(place, 'dist'))
    const bundle = path.join(place, 'dist', 'bundle.js')
    fs.writeFileSync(bundle, bundled('lib/platform/binding.js'))
    const { code, message } = load(bundle)
    expect(code).toBe('ERR_HOSTMAP_LOAD_FAILED')
    expect(message).toMatch(
      /part of a bundle[^]*1\. .*external[^]*2\. .*NAPI_RS_NATIVE_LIBRARY_PATH/
    )
    expect(message).toContain(path.join(place, binaryName))
    fs.copyFileSync(path.join(root, binaryName), path.join(place, binaryName))
    expect(load(bundle).exports).toContain('limits')
  })

  // What Deno throws where it was not given a permission.
  const deny = names => `
    const denied = () => { throw Object.assign(new Error('Requires X access to "Y", run again with the --allow-X flag'), { name: 'NotCapable' }) }
    const names = ${JSON.stringify(names)}
    if (names.includes('env')) process.env = new Proxy(process.env, { get: (env, name) => name === 'NAPI_RS_NATIVE_LIBRARY_PATH' ? denied() : env[name] })
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

describe('the install script', () => {
  const rustVersion = /^rust-version = "(.+)"$/m.exec(read('Cargo.toml'))[1]
  const quiet = { status: 0, stdout: '', stderr: '' }

  test('is silent where the binary in the tarball loads', () => {
    expect(install(installedPackage())).toMatchObject(quiet)
  })

  test('is not misled by NAPI_RS_NATIVE_LIBRARY_PATH', () => {
    const env = { NAPI_RS_NATIVE_LIBRARY_PATH: '/no/such.node' }
    expect(install(installedPackage(), { env })).toMatchObject(quiet)
  })

  test('says at an unsupported platform what loading says there', () => {
    const prelude = fakeProcess('platform', 'darwin')
    const { status, stderr } = install(installedPackage(), { prelude })
    expect(status).toBe(1)
    expect(stderr.trim()).toBe(load(root, { prelude }).message)
  })

  test('names both ways out where there is neither a binary nor Rust', () => {
    const { status, stderr } = install(installedPackage({ binary: null }))
    expect(status).toBe(1)
    expect(stderr).toMatch(`brings no binary that loads on ${target()}`)
    expect(stderr).toMatch(`1. Install Rust ${rustVersion} or later`)
    expect(stderr).toMatch('https://rustup.rs')
    expect(stderr).toMatch('2. Install a tarball')
  })

  test('says in a working copy how to get Rust', () => {
    const location = installedPackage()
    fs.mkdirSync(path.join(location, 'node_modules', '@napi-rs', 'cli'), { recursive: true })
    const { status, stderr } = install(location)
    expect(status).toBe(1)
    expect(stderr).toMatch('Rust was not found')
    expect(stderr).toMatch(`takes Rust ${rustVersion} or later`)
    expect(stderr).toMatch('https://rustup.rs')
  })

  test('refuses a Rust that is too old', () => {
    const commands = { cargo: 'echo "cargo 1.9.0 (0000000 2016-05-26)"' }
    const { status, stderr } = install(installedPackage({ binary: null }), { commands })
    expect(status).toBe(1)
    expect(stderr).toMatch('The Rust on this machine is 1.9.0, which is too old')
  })

  // A cargo that has "built" the library somewhere else, as with CARGO_TARGET_DIR.
  const cargo = (version, library) => `
    case $1 in
      --version) echo "cargo ${version} (0000000 2030-01-01)" ;;
      build) echo '{"reason":"compiler-artifact","target":{"kind":["cdylib","rlib"]},"filenames":["${library}"]}' ;;
    esac`

  test('builds where no binary loads and Rust is there, and takes the library from where cargo put it', () => {
    const location = installedPackage({ binary: Buffer.from('not for this machine') })
    const library = directory.file(
      fs.readFileSync(path.join(root, binaryName)),
      'libwasm_hostmap.so'
    )
    expect(install(location, { commands: { cargo: cargo('1.1000.0', library) } })).toMatchObject(
      quiet
    )
    expect(load(location)).toEqual({ exports: Object.keys(hostmap) })
    expect(fs.readdirSync(location).filter(name => name.includes('.node'))).toEqual([binaryName])
  })

  test('fails where the build gives nothing that loads', () => {
    const library = directory.file('no library', 'libbroken.so')
    const commands = { cargo: cargo('1.1000.0', library) }
    const { status, stderr } = install(installedPackage({ binary: null }), { commands })
    expect(status).toBe(1)
    expect(stderr).toMatch('its binary is damaged')
  })

  test('fails where the build fails', () => {
    const commands = {
      cargo: 'if [ $1 = --version ]; then echo "cargo 1.1000.0"; else exit 101; fi'
    }
    const { status, stderr } = install(installedPackage({ binary: null }), { commands })
    expect(status).toBe(1)
    expect(stderr).toMatch('cargo failed')
  })
})
