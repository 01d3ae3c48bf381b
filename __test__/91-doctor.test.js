'use strict'

// `wasm-hostmap doctor` on this machine, and what it makes of what another kernel would answer.

const { spawnSync } = require('node:child_process')
const fs = require('node:fs')
const path = require('node:path')
const manifest = require('../package.json')
const { examine } = require('../cli/doctor/examine.js')
const { gather } = require('../cli/doctor/facts.js')
const { textOf } = require('../cli/doctor/report.js')
const { memoryGroup, text } = require('../cli/doctor/sources.js')
const { temporaryDirectory } = require('./support/files')
const { doctorIn } = require('./support/doctor')
const { skipUnless } = require('./support/skip')

const root = path.join(__dirname, '..')
const MAIN = path.join(root, manifest.bin['wasm-hostmap'])
const major = Number(process.versions.node.split('.')[0])
const directory = temporaryDirectory()

const { run, doctor } = doctorIn(directory)

let facts
beforeAll(async () => {
  facts = await gather()
})

describe('the command', () => {
  test.each([
    [['--version'], `${manifest.version}\n`],
    [['doctor', '--help'], 'Exit status']
  ])('%j prints what was asked for', async (args, expected) => {
    const { status, stdout, stderr } = await run(args)
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
    expect(stdout).toContain(expected)
  })

  test.each([
    [['diagnose'], "no command 'diagnose'"],
    [['doctor', '--verbose'], "'--verbose'"]
  ])('%j ends with 2, and says what there is', async (args, expected) => {
    const { status, stdout, stderr } = await run(args)
    expect({ status, stdout }).toEqual({ status: 2, stdout: '' })
    expect(stderr).toContain(expected)
    expect(stderr).toContain('Usage: npx wasm-hostmap')
  })
})

const hasFull = fs.existsSync('/dev/full')

skipUnless('needs /dev/full', hasFull).test.each([['doctor'], ['--version'], ['--help']])(
  '%s ends with 1 where nothing can be printed, and says why',
  async argument => {
    const shell = ['-c', 'exec "$0" "$@" >/dev/full', process.execPath, MAIN, argument]
    const { status, stderr } = spawnSync('/bin/sh', shell, { encoding: 'utf8' })
    expect({ status, stderr }).toEqual({
      status: 1,
      stderr: expect.stringMatching(/^wasm-hostmap can't print what it has to say: ENOSPC.*\n$/)
    })
  }
)

describe('on this machine', () => {
  let onThisMachine
  beforeAll(async () => {
    onThisMachine = await doctor()
  })

  test('the package works, and the status is 0', () => {
    expect(onThisMachine.find('package.trial')).toMatchObject({ verdict: 'good', breaks: false })
    expect(onThisMachine.report.works).toBe(true)
    expect(onThisMachine.status).toBe(0)
  })

  test('the report has the shape that docs/doctor.md gives', () => {
    const { findings, ...head } = onThisMachine.report
    expect(Object.keys(head)).toEqual([
      'schemaVersion',
      'package',
      'runtime',
      'node',
      'v8',
      'platform',
      'arch',
      'libc',
      'kernel',
      'works',
      'counts'
    ])
    expect(head).toMatchObject({ schemaVersion: 1, package: manifest.version, arch: process.arch })
    const ids = findings.map(({ id }) => id)
    expect(new Set(ids).size).toBe(ids.length)
    const sum = Object.values(head.counts).reduce((total, count) => total + count)
    expect(sum).toBe(findings.length)
    for (const finding of findings) {
      expect(Object.keys(finding)).toEqual([
        'id',
        'group',
        'title',
        'verdict',
        'breaks',
        'found',
        'cost',
        'mend',
        'values'
      ])
      const isBad = finding.verdict === 'missing' || finding.verdict === 'slower'
      expect(finding.cost !== null).toBe(isBad)
      if (isBad) expect(Object.keys(finding.mend)).toEqual(['command', 'advice'])
      else expect(finding.mend).toBeNull()
      expect(finding.breaks && finding.verdict !== 'missing').toBe(false)
    }
  })

  test('the document tells of every check', () => {
    const document = fs.readFileSync(path.join(root, 'docs/doctor.md'), 'utf8')
    const told = [...document.matchAll(/^\| `([\w.-]+\.[\w-]+)` /gm)].map(([, id]) => id)
    expect(told).toEqual(onThisMachine.report.findings.map(({ id }) => id))
  })

  test('what it says of memories is so', () => {
    const i64 = onThisMachine.find('v8.memory64').values.maxPages64
    expect(i64 > 0).toBe(major >= 24)
    expect(onThisMachine.find('memory.page-size').values.pageSize).toBeGreaterThanOrEqual(4096)
    const { used, limit, mappingsLeft } = onThisMachine.find('memory.map-count').values
    expect(mappingsLeft * 2).toBeLessThanOrEqual(limit - used)
  })

  test('nothing is left in the folders that were tried', () => {
    const left = fs.readdirSync(directory.path).filter(name => name.includes('doctor'))
    expect(left).toEqual([])
  })
})

describe('a binary of other sources than those of the clone', () => {
  const lacking = new TypeError('native.mapAt is not a function')
  const internal = Object.assign(new Error('failed'), { code: 'ERR_HOSTMAP_INTERNAL' })
  const command = 'npm run build'

  test.each([
    ['package.trial', { works: lacking }],
    ['package.trial', { works: internal }],
    ['package.native', { loadError: lacking, works: undefined }]
  ])('%s: it is to be built', (id, changed) => {
    const found = examine({ ...facts, ...changed }).findings.find(finding => finding.id === id)
    expect(found).toMatchObject({ verdict: 'missing', mend: { command } })
  })
})

describe('what the kernel answers', () => {
  const reportOf = (answers, more = {}) => {
    const all = new Map([...facts.answers, ...Object.entries(answers)])
    const report = examine({ ...facts, answers: all, ...more })
    return id => report.findings.find(finding => finding.id === id)
  }

  test('a call that an older kernel has not is slower, and takes a newer one', () => {
    const find = reportOf({ PROCMAP_QUERY: 'ENOTTY' }, { release: '5.10.0-41-amd64' })
    expect(find('kernel.procmap-query')).toMatchObject({
      verdict: 'slower',
      found: 'not in this kernel (ENOTTY)',
      mend: { command: null, advice: 'Use Linux 6.11 or later.' }
    })
    expect(find('kernel.map-fixed').verdict).toBe('slower')
  })

  test('a call that the kernel must have is refused by somebody', () => {
    const find = reportOf({ PROCMAP_QUERY: 'ENOTTY', futex_waitv: 'EPERM' }, { release: '6.12.0' })
    for (const id of ['kernel.procmap-query', 'kernel.futex-waitv']) {
      expect(find(id).found).toMatch(/^refused/)
      expect(find(id).mend.advice).toMatch(/seccomp/)
    }
  })

  test('a call that could not be made for want of a descriptor is not called missing', () => {
    const find = reportOf({ memfd_create: 'EMFILE' })
    expect(find('kernel.memfd-create').verdict).toBe('unknown')
  })

  test('a check that fails does not take the others with it', () => {
    const report = examine({ ...facts, rlimits: null })
    const descriptors = report.findings.find(({ id }) => id === 'process.descriptors')
    expect(descriptors.verdict).toBe('unknown')
    expect(descriptors.found).toContain('the check itself failed')
    expect(report.findings).toHaveLength(examine(facts).findings.length)
  })
})

// Files as the kernel shows them, since a test may not make groups.
const hasGroup = /^0::/m.test(text('/proc/self/cgroup') ?? '')

skipUnless('needs /proc/self/cgroup', hasGroup).describe('the control group', () => {
  const MiB = 2 ** 20
  const findingOf = (limit, used) => {
    const point = fs.mkdtempSync(path.join(directory.path, 'cgroup-'))
    fs.writeFileSync(path.join(point, 'memory.max'), `${limit}\n`)
    fs.writeFileSync(path.join(point, 'memory.current'), `${used}\n`)
    fs.writeFileSync(path.join(point, 'memory.swap.max'), '0\n')
    const group = memoryGroup([{ kind: 'cgroup2', root: '/', point, options: [] }])
    const { findings } = examine({ ...facts, group })
    return findings.find(({ id }) => id === 'memory.cgroup')
  }

  test.each([
    ['max', 100 * MiB, 'good', null],
    [1000 * MiB, 100 * MiB, 'good', 1000 * MiB],
    [1000 * MiB, 920 * MiB, 'slower', 1000 * MiB],
    [1000 * MiB, 990 * MiB, 'missing', 1000 * MiB]
  ])('with a limit of %s bytes and %s used it is %s', (limit, used, verdict, limitBytes) => {
    const values = { version: 2, limitBytes, usedBytes: used, swapLimitBytes: 0 }
    expect(findingOf(limit, used)).toMatchObject({ verdict, values })
  })
})

describe('the text', () => {
  // With something of each kind to say.
  const sample = () => {
    const without = [...facts.answers.keys()].map(name => [name, 'ENOSYS'])
    return examine({
      ...facts,
      answers: new Map(without),
      release: '5.4.0',
      works: new Error('no')
    })
  }

  // A path is a word of any length. Titles have a column of their own from 72 columns on.
  test.each([4, 16, 24, 28, 29, 60])(
    'is as wide as the terminal, but for commands and long words: a path of %i',
    length => {
      const { findings, ...rest } = sample()
      const folder = `/${'f'.repeat(length - 1)}`
      const withFolder = findings.map(each =>
        each.id === 'files.current' ? { ...each, found: folder } : each
      )
      expect(withFolder).not.toEqual(findings)
      for (const columns of [40, 60, 80, 100]) {
        const room = columns < 72 ? columns - 12 : columns - 32
        const text = textOf({ ...rest, findings: withFolder }, { columns, colors: false })
        const tooWide = text
          .split('\n')
          .filter(line => line.length > columns)
          .filter(line => !/^ +(> |\d+\. )/.test(line))
          .filter(line => Math.max(...line.split(' ').map(word => word.length)) <= room)
        expect(tooWide).toEqual([])
        expect(text).not.toMatch(/ $/m)
      }
    }
  )

  test('is without colours in a pipe, and ends with what is to be done', async () => {
    const { stdout } = await run(['doctor'], { env: { WASM_HOSTMAP_FAULT_GUARD: 'off' } })
    // eslint-disable-next-line no-control-regex
    expect(stdout).not.toMatch(/\x1b/)
    const [, toDo] = stdout.split('What to do, worst first:')
    expect(toDo).toContain('1. unset WASM_HOSTMAP_FAULT_GUARD')
    // Where the sample of the document leaves out what differs from machine to machine, are dots.
    const document = fs.readFileSync(path.join(root, 'docs/doctor.md'), 'utf8')
    const [, sample] = /^```text\n([^]*?)^```/m.exec(document)
    for (const line of sample.split('\n')) expect(stdout).toContain(line.replace(/ *[.]{3}$/, ''))
  })

  test('names one kernel, the newest, for all that a newer one mends', () => {
    const [, toDo] = textOf(sample(), { columns: 100, colors: false }).split('worst first:')
    expect(toDo.match(/Use Linux [\d.]+ or later/g)).toEqual(['Use Linux 6.12 or later'])
    expect(toDo.replace(/\s+/g, ' ')).toContain('MAP_FIXED, MREMAP_DONTUNMAP')
  })

  test('has colours where they are asked for, and the same words', () => {
    const report = sample()
    const plain = textOf(report, { columns: 80, colors: false })
    const colored = textOf(report, { columns: 80, colors: true })
    // eslint-disable-next-line no-control-regex
    expect(colored.replace(/\x1b\[\d+m/g, '')).toBe(plain)
    expect(colored).not.toBe(plain)
  })
})
