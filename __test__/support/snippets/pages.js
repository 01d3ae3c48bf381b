'use strict'

// The code of the documentation: each fenced block of README.md, docs/, guest/README.md and the
// examples in index.d.ts.

const fs = require('node:fs')
const path = require('node:path')

const ROOT = path.join(__dirname, '../../..')

/** The pages for users, as paths from the root. */
const PAGES = [
  'README.md',
  'guest/README.md',
  'examples/README.md',
  ...fs
    .readdirSync(path.join(ROOT, 'docs'))
    .filter(name => name.endsWith('.md'))
    .sort()
    .map(name => `docs/${name}`)
]

// Pages whose code needs the real engines or bundlers, and what runs it.
const ELSEWHERE = {
  'docs/engines.md': 'engines/test/docs.test.mjs',
  'docs/pools.md': 'engines/test/docs.test.mjs',
  'docs/bundlers.md': 'e2e/bundlers'
}

const manifest = name => JSON.parse(fs.readFileSync(path.join(ROOT, name), 'utf8'))
const HERE = new Set(['wasm-hostmap', ...Object.keys(manifest('package.json').devDependencies)])
const ENGINES = new Set(Object.keys(manifest('engines/package.json').dependencies))

const IMPORT = /^import (?:[^'"]*? from )?'([^']+)'$/gm

/** The packages that code imports, without subpaths and without those of Node.js. */
function packagesOf(code) {
  const names = [...code.matchAll(IMPORT)].map(([, from]) => from)
  return names
    .filter(name => !name.startsWith('node:') && !name.startsWith('.'))
    .map(name => /^(@[^/]+\/)?[^/]+/.exec(name)[0])
}

/** What runs a snippet: '' for the tests here. */
function runnerOf({ page, code, language, info }) {
  if (ELSEWHERE[page]) return ELSEWHERE[page]
  // The block says it itself.
  const [, named] = /\brun=(\S+)/.exec(info) ?? []
  if (named !== undefined) return named
  if (language === 'sh') return ''
  const strangers = packagesOf(code).filter(name => !HERE.has(name))
  if (strangers.length === 0) return ''
  const unknown = strangers.filter(name => !ENGINES.has(name))
  if (unknown.length > 0)
    throw new Error(`${page}: nothing runs code that imports ${unknown.join(', ')}`)
  return 'engines/test/docs.test.mjs'
}

/**
 * Each fenced block of a page: `{ name, page, line, language, info, code, file }`. `file` is what
 * its first line calls it (`// worker.mjs`), or undefined.
 */
function blocksOf(page) {
  const lines = fs.readFileSync(path.join(ROOT, page), 'utf8').split('\n')
  const blocks = []
  let block
  lines.forEach((line, index) => {
    const text = page.endsWith('.ts') ? line.replace(/^ *\* ?/, '') : line
    const [, info] = /^ *```(\S.*)$/.exec(text) ?? []
    if (!block && info !== undefined) {
      block = { page, line: index + 1, info, language: info.split(' ')[0], lines: [] }
    } else if (block && text.trim() === '```') {
      blocks.push(block)
      block = undefined
    } else block?.lines.push(text)
  })
  return blocks.map(({ lines, ...rest }) => {
    const code = lines.join('\n')
    const [, file] = /^(?:\/\/|;;) ([\w.-]+\.\w+)$/.exec(lines[0] ?? '') ?? []
    return { name: `${page}:${rest.line}`, ...rest, code, file }
  })
}

/** The snippets of all pages and of index.d.ts. */
function snippets() {
  return [...PAGES, 'index.d.ts']
    .flatMap(blocksOf)
    .map(block => ({ ...block, runner: runnerOf(block) }))
}

const SCRIPTS = new Set(['js', 'mjs', 'ts'])

// Pages whose output is about the whole process come before others have left anything in it.
const FIRST = ['docs/monitoring.md']

/** Those that are scripts and run here. AssemblyScript is none of TypeScript's. */
function scripts() {
  const ours = snippets().filter(
    each => SCRIPTS.has(each.language) && each.runner === '' && !each.file?.endsWith('.as.ts')
  )
  const isFirst = ({ page }) => FIRST.includes(page)
  return [...ours.filter(isFirst), ...ours.filter(each => !isFirst(each))]
}

/**
 * What a snippet says that it prints, line by line: the comments after `console.log(...)`, but for
 * those that leave something out.
 */
const printedBy = ({ code }) =>
  [...code.matchAll(/console\.log\(.*\) \/\/ (.*)$/gm)]
    .map(([, text]) => text)
    .filter(text => !text.includes('...'))

module.exports = { ROOT, PAGES, blocksOf, snippets, scripts, packagesOf, printedBy, IMPORT }
