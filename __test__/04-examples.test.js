'use strict'

// Each script of the documentation runs as it is printed: as an ES module, as CommonJS and as
// strict TypeScript. What it says that it prints, it prints. support/snippets/check.mjs runs them.

const { execFile } = require('node:child_process')
const fs = require('node:fs')
const path = require('node:path')
const { promisify } = require('node:util')
const manifest = require('../package.json')
const { ROOT, PAGES, blocksOf, scripts, snippets, printedBy } = require('./support/snippets/pages')

const FORMS = { esm: 'an ES module', cjs: 'CommonJS', ts: 'TypeScript' }

let checked
beforeAll(async () => {
  const main = path.join(__dirname, 'support/snippets/check.mjs')
  const { stdout } = await promisify(execFile)(process.execPath, [main], { maxBuffer: 2 ** 24 })
  checked = JSON.parse(stdout)
})

const isRunAs = (form, { language }) => form !== 'esm' || language !== 'ts'
const isWorker = ({ file }) => file === 'worker.mjs'

describe.each(Object.entries(FORMS))('%s', (form, name) => {
  test(`${name}: the process ends as it should`, () => {
    expect(checked.results[form].ended).toBeUndefined()
  })

  const ours = scripts().filter(each => isRunAs(form, each) && !isWorker(each))
  test.each(ours)('$name', snippet => {
    const { printed, error } = checked.results[form].scripts[snippet.name]
    expect(error).toBeNull()
    for (const line of printedBy(snippet)) expect(printed).toContain(line)
  })

  test('faults give the warnings that docs/faults.md names, and no others do', () => {
    const codes = checked.results[form].warnings.map(({ code }) => code)
    expect(codes.sort()).toEqual(['HOSTMAP_PAST_END', 'HOSTMAP_STRAY_WRITE'])
  })
})

test('all have types that strict TypeScript accepts, with the library `dom` and without', () => {
  expect(checked.types).toEqual([])
})

test('every script is run by something', () => {
  const runners = new Set(snippets().map(({ runner }) => runner))
  for (const runner of runners) expect(fs.existsSync(path.join(ROOT, runner))).toBe(true)
})

test('commands of the documentation name scripts and files that are there', () => {
  const commands = PAGES.flatMap(blocksOf).filter(({ language }) => language === 'sh')
  expect(commands.length).toBeGreaterThan(5)
  const prose = PAGES.map(page => fs.readFileSync(path.join(ROOT, page), 'utf8')).join('\n')
  for (const [, script] of prose.matchAll(/npm run (\w[\w:-]*)/g))
    expect(manifest.scripts).toHaveProperty([script])
  const files = [...prose.matchAll(/\bnode ((?:examples|engines|bench|demo|scripts)\/[\w./-]+)/g)]
  expect(files.filter(([, file]) => !fs.existsSync(path.join(ROOT, file)))).toEqual([])
})

test("examples/hello.mjs is the README's first example", () => {
  const [first] = blocksOf('README.md').filter(({ language }) => language === 'js')
  const text = fs.readFileSync(path.join(ROOT, 'examples/hello.mjs'), 'utf8')
  expect(text.slice(text.indexOf('\n') + 1).trimEnd()).toBe(first.code)
})

test('The ten main members have an example', () => {
  const text = fs.readFileSync(path.join(ROOT, 'index.d.ts'), 'utf8')
  const members = [
    ...text.matchAll(/@example(?:(?!\*\/)[^])*\*\/\n *(?:export function |static )?(\w+)/g)
  ].map(([, name]) => name)
  expect(members).toEqual(
    expect.arrayContaining(
      ['allocate', 'copyFrom', 'load', 'open', 'receive', 'share', 'new', 'from', 'map'].concat([
        'window',
        'chunks',
        'of',
        'restore',
        'restoreTo',
        'create'
      ])
    )
  )
})
