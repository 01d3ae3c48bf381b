'use strict'

// Each example of the documentation runs as it is printed. `npm run test:types` checks their types.

const fs = require('node:fs')
const hostmap = require('..')
const { temporaryDirectory } = require('./support/files')
const { collectWarnings } = require('./support/warnings')
const { examples, makeFiles, scope } = require('./support/examples')

const directory = temporaryDirectory()
const warnings = collectWarnings()
const AsyncFunction = (async () => {}).constructor

let before
beforeAll(async () => {
  await makeFiles(directory.path)
  before = process.cwd()
  process.chdir(directory.path)
})
afterAll(() => process.chdir(before))

/** What a block does, with `import` statements as `require`. Gives what it prints. */
async function run(code) {
  const body = code.replace(
    /^import ({[^}]*}|\w+) from '([^']+)'/gm,
    (_, names, from) => `const ${names.replaceAll(' as ', ': ')} = modules('${from}')`
  )
  const printed = []
  const print = (...values) => printed.push(values.map(String).join(' '))
  const names = {
    ...hostmap,
    ...(await scope(hostmap)),
    console: { log: print, warn: print },
    fs,
    modules: name => (name === 'wasm-hostmap' ? hostmap : require(name))
  }
  // A block of its own: an example may make what others name.
  await new AsyncFunction(...Object.keys(names), `{${body}\n}`)(...Object.values(names))
  return printed
}

test.each(examples())('$name', async ({ code }) => {
  await run(code)
})

test('examples of faults give the warnings that docs/faults.md names, and no others do', async () => {
  // Warnings come in later turns of the event loop, in order: this one is the last.
  new Uint8Array(hostmap.HostRegion.copyFrom(Buffer.alloc(1), { name: 'end' }).seal().view())[0] = 1
  const isLast = ({ message }) => message.includes('"end"')
  while (!warnings.some(isLast)) await new Promise(resolve => setImmediate(resolve))
  const codes = new Set(warnings.map(({ code }) => code))
  expect([...codes].sort()).toEqual(['HOSTMAP_PAST_END', 'HOSTMAP_STRAY_WRITE'])
})

test("the README's first example prints what its comments say", async () => {
  const [{ code }] = examples()
  expect((await run(code))[0]).toBe('ELF')
})

test("examples/hello.mjs is the README's first example", () => {
  const text = fs.readFileSync(require.resolve('../examples/hello.mjs'), 'utf8')
  expect(text.slice(text.indexOf('\n') + 1).trimEnd()).toBe(examples()[0].code)
})

test('The ten main members have an example', () => {
  const text = fs.readFileSync(require.resolve('../index.d.ts'), 'utf8')
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
