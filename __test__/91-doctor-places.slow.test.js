'use strict'

// `wasm-hostmap doctor`, in processes that are as bad off as it says: with limits, flags and
// handlers of their own.

const fs = require('node:fs')
const path = require('node:path')
const manifest = require('../package.json')
const { doctorIn } = require('./support/doctor')
const { temporaryDirectory } = require('./support/files')
const { skipUnless } = require('./support/skip')

const root = path.join(__dirname, '..')
const major = Number(process.versions.node.split('.')[0])
const directory = temporaryDirectory()
const command = doctorIn(directory)
const { run } = command

// V8's builds of Node.js 20 for arm64 have it off.
const hasTrapHandler = process.arch !== 'arm64' || major >= 22
const withTrapHandler = skipUnless("needs V8's trap handler", hasTrapHandler)

// What is bad about this machine, its file systems say, and this Node.js: that is not what the
// tests are about.
let ofThisMachine = []
beforeAll(async () => {
  ofThisMachine = (await command.doctor()).bad
})

async function doctor(options) {
  const found = await command.doctor(options)
  return { ...found, bad: found.bad.filter(id => !ofThisMachine.includes(id)) }
}

describe('the command', () => {
  test.each([
    [['--help'], 'doctor'],
    [[], 'doctor']
  ])('%j prints what was asked for', async (args, expected) => {
    const { status, stdout, stderr } = await run(args)
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
    expect(stdout).toContain(expected)
  })

  test.each([
    [['--verbose'], "no option '--verbose'"],
    [['doctor', 'again'], "'again'"]
  ])('%j ends with 2, and says what there is', async (args, expected) => {
    const { status, stdout, stderr } = await run(args)
    expect({ status, stdout }).toEqual({ status: 2, stdout: '' })
    expect(stderr).toContain(expected)
    expect(stderr).toContain('Usage: npx wasm-hostmap')
  })
})

// What doctor finds in each place. All are asked at once, since each waits for a Node.js to start.
const places = {
  'little address space': { ulimit: '-v 48000000' },
  'no address space': { ulimit: '-v 4000000' },
  'no trap handler': { flags: ['--disable-wasm-trap-handler'] },
  'small files': { ulimit: '-f 100000' },
  'no fault guard': { env: { WASM_HOSTMAP_FAULT_GUARD: 'off' } },
  'no WebAssembly': { flags: ['--jitless'] }
}
const found = new Map()
const inPlace = name => found.get(name)

beforeAll(async () => {
  const names = Object.keys(places)
  const reports = await Promise.all(names.map(name => doctor(places[name])))
  names.forEach((name, index) => found.set(name, reports[index]))
})

describe('where the package works with less', () => {
  withTrapHandler.test(
    'little address space: how many memories are left, and what would mend it',
    () => {
      const { status, find } = inPlace('little address space')
      expect(find('process.address-space')).toMatchObject({
        verdict: 'slower',
        mend: { command: 'ulimit -v unlimited' },
        values: { limitBytes: 48000000 * 1024 }
      })
      expect(find('v8.memories')).toMatchObject({
        verdict: 'slower',
        mend: { command: 'ulimit -v unlimited' }
      })
      expect(find('v8.memories').values.guardedMemoriesLeft).toBeLessThan(6)
      expect(status).toBe(0)
    }
  )

  withTrapHandler.test("without V8's trap handler: by which flag", () => {
    const { status, find, bad } = inPlace('no trap handler')
    expect(bad).toEqual(['v8.trap-handler'])
    expect(find('v8.trap-handler').mend.advice).toContain('without `--disable-wasm-trap-handler`')
    expect(find('v8.fault-guard')).toMatchObject({ verdict: 'good', values: { traps: false } })
    expect(status).toBe(0)
  })

  test('a limit on the size of files', () => {
    const { status, find, bad } = inPlace('small files')
    expect(bad).toEqual(['process.file-size'])
    expect(find('process.file-size').values.limitBytes).toBeGreaterThan(50_000_000)
    expect(status).toBe(0)
  })
})

describe('where it does not work', () => {
  // V8 12 and earlier can't make a memory there; later ones make memories without guards.
  withTrapHandler.test(
    'no address space for one memory with guards: one command mends it all',
    () => {
      const { status, find, bad } = inPlace('no address space')
      const works = major >= 24
      const found = ['v8.trap-handler', 'process.address-space']
      expect(bad).toEqual(works ? found : ['package.trial', ...found])
      for (const id of bad) expect(find(id).mend.command).toBe('ulimit -v unlimited')
      expect(find('package.trial').breaks).toBe(!works)
      expect(find('package.trial').values.code).toBe(works ? undefined : 'ERR_HOSTMAP_RLIMIT_AS')
      expect(find('v8.trap-handler').found).toContain('does not fit into 3.8 GiB')
      expect(status).toBe(works ? 0 : 1)
    }
  )

  test('no descriptors: says so, and not that the kernel lacks something', async () => {
    const { status, find, bad } = await withoutDescriptors()
    const [broken] = bad
    expect(['package.native', 'package.trial']).toContain(broken)
    expect(bad).toEqual([broken, 'process.descriptors'])
    expect(find(broken)).toMatchObject({ breaks: true, mend: { command: 'ulimit -n 4096' } })
    expect(find(broken).values.code).toMatch(/^(EMFILE|ERR_HOSTMAP_TOO_MANY_FILES)$/)
    expect(find('process.descriptors').mend.command).toBe('ulimit -n 4096')
    expect(find('kernel.memfd-create').verdict).toBe('unknown')
    expect(status).toBe(1)
  })

  test('the fault guard is switched off', () => {
    const { status, find, bad } = inPlace('no fault guard')
    expect(bad).toEqual(['v8.fault-guard'])
    expect(find('v8.fault-guard')).toMatchObject({
      breaks: true,
      mend: { command: 'unset WASM_HOSTMAP_FAULT_GUARD' },
      values: { handler: 'none' }
    })
    expect(status).toBe(1)
  })

  test('a listener for SIGSEGV gets the faults', async () => {
    const script = write(
      'listener.cjs',
      `require(${JSON.stringify(root)}).limits()
       process.on('SIGSEGV', () => {})`
    )
    const { status, find, bad } = await doctor({ flags: ['--require', script] })
    expect(bad).toEqual(['v8.fault-guard'])
    expect(find('v8.fault-guard')).toMatchObject({ breaks: true, values: { handler: 'covered' } })
    expect(status).toBe(1)
  })

  test('without WebAssembly', () => {
    const { status, find, bad } = inPlace('no WebAssembly')
    expect(bad).toEqual(['package.native', 'node.webassembly'])
    expect(find('node.webassembly').mend.advice).toContain('without `--jitless`')
    expect(status).toBe(1)
  })

  test('addons are not permitted', async () => {
    const flag = major >= 24 ? '--permission' : '--experimental-permission'
    const flags = [flag, '--no-warnings', '--allow-fs-read=*']
    const { status, find, bad } = await doctor({ flags })
    expect(bad).toEqual(['package.native'])
    expect(find('package.native').mend.advice).toMatch(/--allow-addons|--no-addons/)
    // What doctor reads itself is read, and the rest is not guessed.
    expect(find('process.descriptors').verdict).toBe('good')
    expect(find('v8.fault-guard').verdict).toBe('unknown')
    expect(status).toBe(1)
  })

  test('there is no binary: the cause and the ways out are those of the load error', async () => {
    const copy = path.join(directory.path, 'copy')
    for (const name of ['cli', 'lib', 'index.js', 'package.json'])
      fs.cpSync(path.join(root, name), path.join(copy, name), { recursive: true })
    const options = { cwd: copy, env: { WASM_HOSTMAP_BINARY_PATH: '' } }
    const entry = path.join(copy, manifest.bin['wasm-hostmap'])
    const { status, find, bad } = await doctor({ ...options, entry })
    expect(bad).toEqual(['package.native'])

    const required = write(
      'required.cjs',
      `try { require(${JSON.stringify(copy)}) }
      catch (error) { console.log(JSON.stringify([error.code, error.message])) }`
    )
    const { stdout } = await run([], { ...options, entry: required })
    const [code, message] = JSON.parse(stdout)
    const native = find('package.native')
    expect(native).toMatchObject({ breaks: true, values: { code } })
    for (const words of [native.found, native.mend.advice, ...native.values.otherMends])
      expect(message).toContain(words)
    expect(status).toBe(1)
  })
})

/** Doctor with as few descriptors left as it can start with. */
async function withoutDescriptors() {
  const command = path.join(root, 'cli/doctor/command.js')
  const eater = write(
    'eater.cjs',
    `require(${JSON.stringify(command)})
     const fs = require('node:fs')
     const taken = []
     try { for (;;) taken.push(fs.openSync('/dev/null')) } catch { /* all are taken */ }
     for (let i = 0; i < Number(process.env.EATER_LEAVES); i++) fs.closeSync(taken.pop())`
  )
  for (let leaves = 1; ; leaves++) {
    const env = { EATER_LEAVES: String(leaves) }
    const ran = await doctor({ env, flags: ['--require', eater], ulimit: '-n 64' }).catch(
      error => error
    )
    if (!(ran instanceof Error)) return ran
    if (leaves === 8) throw ran
  }
}

function write(name, text) {
  const file = path.join(directory.path, name)
  fs.writeFileSync(file, text)
  return file
}
