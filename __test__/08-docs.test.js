'use strict'

// The documentation as a whole: every link leads somewhere, and every page is found.

const fs = require('node:fs')
const path = require('node:path')
const { ROOT, PAGES } = require('./support/snippets/pages')

const read = page => fs.readFileSync(path.join(ROOT, page), 'utf8')
const DOCUMENTS = [
  ...PAGES,
  'ARCHITECTURE.md',
  'BENCHMARKS.md',
  'CHANGELOG.md',
  'CONTRIBUTING.md',
  'SECURITY.md',
  'bench/README.md',
  'bench/results/README.md'
]

/** The files of a folder and of those in it. */
const filesBelow = folder =>
  fs
    .readdirSync(path.join(ROOT, folder), { recursive: true, withFileTypes: true })
    .filter(entry => entry.isFile() && /\.(rs|[cm]?js|d\.ts)$/.test(entry.name))
    .map(entry => path.relative(ROOT, path.join(entry.parentPath ?? entry.path, entry.name)))

/** A document without its code. */
const prose = text => text.replace(/^ *```[^]*?^ *```/gm, '').replace(/`[^`\n]*`/g, '')

/** The anchors that GitHub makes of a document's headings. */
function anchorsOf(page) {
  const counts = new Map()
  const headings = read(page)
    .replace(/^ *```[^]*?^ *```/gm, '')
    .matchAll(/^#{1,6} +(.*)$/gm)
  return [...headings].map(([, heading]) => {
    const text = heading.replace(/\[([^\]]*)\]\([^)]*\)/g, '$1').toLowerCase()
    const slug = text.replace(/[^\p{L}\p{N}\p{M}_ -]/gu, '').replace(/ /g, '-')
    const count = counts.get(slug) ?? 0
    counts.set(slug, count + 1)
    return count === 0 ? slug : `${slug}-${count}`
  })
}

/** The links of a document, as `[text, target]`, those of images included. */
const linksOf = page =>
  [...prose(read(page)).matchAll(/\[([^\]]*)\]\(([^)\s]+)\)/g)].map(([, ...link]) => link)

/** What is wrong with a link, or undefined. */
function flawOf(page, target) {
  if (/^(https?|mailto):/.test(target)) return undefined
  const [name, anchor] = target.split('#')
  const file = name === '' ? page : path.join(path.dirname(page), name)
  if (!fs.existsSync(path.join(ROOT, file))) return `${target}: there is no ${file}`
  if (anchor === undefined) return undefined
  if (!file.endsWith('.md')) return `${target}: an anchor of no document`
  if (!anchorsOf(file).includes(anchor)) return `${target}: ${file} has no such heading`
}

test.each(DOCUMENTS)('%s: each link leads to a file and a heading', page => {
  const flaws = linksOf(page).map(([, target]) => flawOf(page, target))
  expect(flaws.filter(Boolean)).toEqual([])
})

test('a link that leads nowhere is found', () => {
  expect(flawOf('docs/README.md', 'nowhere.md')).toMatch('there is no docs/nowhere.md')
  expect(flawOf('docs/README.md', '../README.md#nowhere')).toMatch('has no such heading')
  expect(linksOf('README.md').length).toBeGreaterThan(10)
})

test('docs/README.md leads to every page of docs/', () => {
  const linked = linksOf('docs/README.md').map(([, target]) => `docs/${target}`)
  const pages = PAGES.filter(page => page.startsWith('docs/') && page !== 'docs/README.md')
  expect(pages.filter(page => !linked.includes(page))).toEqual([])
})

test('what index.d.ts and the adapters say about docs/ is there', () => {
  const files = [
    'index.d.ts',
    ...fs.readdirSync(path.join(ROOT, 'adapters')).map(name => `adapters/${name}`)
  ]
  const named = files
    .filter(name => /\.([cm]?js|d\.ts)$/.test(name))
    .flatMap(name => [...read(name).matchAll(/\bdocs\/[\w-]+\.md/g)].map(([page]) => page))
  expect(named.length).toBeGreaterThan(10)
  expect(named.filter(page => !fs.existsSync(path.join(ROOT, page)))).toEqual([])
})

// What somebody reads for a job who begins at the README, as a whole, code included.
const JOBS = [
  ['sums a file of 2 GiB', ['README.md', 'docs/getting-started.md'], null],
  ['shares a dataset among four workers', ['README.md', 'docs/sharing.md'], 'A module'],
  ['reads 20 GiB through a window', ['README.md', 'docs/windows.md'], 'A module'],
  ['runs scripts in a sandbox', ['README.md', 'docs/sandbox.md'], null],
  ['uses an array that exists', ['README.md', 'docs/getting-started.md'], null]
]
/** Words, without the marks of tables. */
const countWords = text => text.split(/\s+/).filter(word => /[\p{L}\p{N}]/u.test(word)).length
const sectionOf = heading =>
  read('docs/getting-started.md').split(`## ${heading}\n`)[1].split('\n## ')[0]

test.each(JOBS)('who %s reads less than 1,500 words', (_, pages, section) => {
  const texts = pages.map(read)
  if (section) texts.push(sectionOf(section))
  expect(texts.map(countWords).reduce((sum, count) => sum + count)).toBeLessThan(1500)
})

describe('docs/errors.md', () => {
  const sections = read('docs/errors.md').split(/^### /m).slice(1)
  const entries = sections.map(section => {
    const [heading, ...lines] = section.split('\n')
    const quoted = lines.filter(line => line.startsWith('> ')).map(line => line.slice(2))
    const rest = lines.filter(line => !line.startsWith('>')).join(' ')
    return { code: heading.trim(), message: quoted.join(' ').replaceAll('\\', ''), rest }
  })
  const files = [
    ...filesBelow('src/error'),
    ...filesBelow('lib'),
    ...filesBelow('adapters'),
    'index.d.ts'
  ].map(read)

  test('has each code of the package, once, and no other', () => {
    const used = files.flatMap(text => text.match(/\bERR_HOSTMAP_[A-Z0-9_]+\b/g) ?? [])
    expect(entries.map(({ code }) => code).sort()).toEqual([...new Set(used)].sort())
  })

  test('every code of the core is of the type HostmapErrorCode', () => {
    const [, union] = /type HostmapErrorCode =([^]*?)\n\n/.exec(read('index.d.ts'))
    const core = [...filesBelow('src/error'), ...filesBelow('lib')].map(read)
    const used = core.flatMap(text => text.match(/\bERR_HOSTMAP_[A-Z0-9_]+\b/g) ?? [])
    expect([...new Set(used)].filter(code => !union.includes(`'${code}'`))).toEqual([])
  })

  // What code says in one message may be in several literals, with values in between.
  const source = files
    .join('\n')
    .replace(/['`"] \+\n? *['`"]/g, '')
    .replace(/\\(['"`])/g, '$1')
    .replace(/\$?\{[^{}\n]*\}/g, '@')
  const wordsOf = text => text.match(/\p{L}+(?:'\p{L}+)*|[^\s\p{L}'`"]/gu)
  const said = wordsOf(source).join(' ')

  test.each(entries)('$code: says why, what to do, and what is said', ({ message, rest }) => {
    expect(rest.trim().split(' ').length).toBeGreaterThan(3)
    // Names, numbers and paths are values of the example.
    const words = wordsOf(message.replace(/"[^"]*"|(?<![\w./])\/[\w./-]+|\d+/g, '@'))
    // Of a system call's failure most words are the kernel's.
    const least = words.length < 16 || /\(E[A-Z]+ from/.test(message) ? 3 : 5
    const starts = words.map((_, start) => start).filter(start => start + least <= words.length)
    const isSaid = start => said.includes(words.slice(start, start + least).join(' '))
    expect({ message, isSaid: starts.some(isSaid) }).toEqual({ message, isSaid: true })
  })
})
