// Checks the words of all tracked files, in prose, comments, messages and names:
//
// - lines of prose and comments have at most 100 columns, but for tables, fenced blocks, lines for
//   tools, and lines that a link or another long word makes long;
// - no phrase that a technical writer would not write;
// - the words of the glossary in ARCHITECTURE.md, and not those that they replace.
//
//   npm run check:words
//   npm run check:words -- PATH...     only files whose paths begin so
//   npm run check:words -- --count     how many of each, and where most of them are

import { execFileSync } from 'node:child_process'
import fs from 'node:fs'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'

const COLUMNS = 100

const EVERYWHERE = () => true
const OF_THE_CODE = file =>
  /^(src|lib|tests|adapters|cli)\/|^(index\.d\.ts|ARCHITECTURE\.md)$/.test(file)

/** A pattern for a word, also as a part of a snake_case or camelCase name. */
const word = pattern => new RegExp(`(?<![A-Za-z])(?:${pattern})(?![a-z])`, 'gi')

// What may not be said, what to say, and in which files.
const FORBIDDEN = [
  [word('st(?:ands?|ood|anding) (?:in|at|there|over)'), 'is in, is at, is mapped', EVERYWHERE],
  [word('lies?|lying'), 'is at, is in', EVERYWHERE],
  [word('seen to'), 'is handled, is done', EVERYWHERE],
  [word('(?:what )?comes? of (?:it|this|that)|what comes of'), 'the result', EVERYWHERE],
  [word('as far as'), 'where, if, up to', EVERYWHERE],
  [word('in the midst'), 'while, during', EVERYWHERE],
  [word('la(?:id|ys?|ying)(?! out)'), 'map, put, write; image for a snapshot in place', EVERYWHERE],
  [word('whoever'), 'name who: the caller, a thread that', EVERYWHERE],
  [word('of ours'), 'our', EVERYWHERE],
  [word('and nothing else'), 'only', EVERYWHERE],
  [word('head[ _]room'), 'headroom', EVERYWHERE],
  [word('areas?'), 'VMA', OF_THE_CODE],
  [word('(?:laid|lay|lays|is|are)[ _]bare'), 'unprotected', OF_THE_CODE],
  [word('stages?'), 'mirror', OF_THE_CODE],
  [word('stands(?! for)'), 'is_mapped, is in the place of, means', OF_THE_CODE]
]

// Where a forbidden phrase is right: the file, the phrase, why.
const ALLOWED = []

// Files whose words are not ours, or which are made by a program.
const LEFT_OUT = /^(scripts\/check-words\.mjs|LICENSE|.*\.lock|package-lock\.json)$/
const TEXT = /\.(md|rs|[cm]?js|[cm]?ts|[ch]|sh|toml|yml|wat)$|^\.ci\/run$/
const HASH_COMMENTS = /\.(sh|toml|yml)$|^\.ci\/run$/

const { values: options, positionals: prefixes } = parseArgs({
  options: { count: { type: 'boolean' } },
  allowPositionals: true
})
const ROOT = fileURLToPath(new URL('..', import.meta.url))
process.chdir(ROOT)

const files = execFileSync('git', ['ls-files', '-z'], { encoding: 'utf8' })
  .split('\0')
  .filter(file => TEXT.test(file) && !LEFT_OUT.test(file) && fs.existsSync(file))
  .filter(file => prefixes.length === 0 || prefixes.some(prefix => file.startsWith(prefix)))

/** What a line says, without the marks of a comment, and whether it is prose or a comment. */
function contents(file, line) {
  const trimmed = line.trim()
  if (file.endsWith('.md')) return { text: trimmed.replace(/^> ?/, ''), isProse: true }
  if (HASH_COMMENTS.test(file))
    return { text: trimmed.replace(/^#+ ?/, ''), isProse: trimmed.startsWith('#') }
  const comment = /^(?:\/\/[/!]?|\/?\*+|;;)(?: |$)/
  const isProse = comment.test(trimmed) || /\s\/\/ /.test(line)
  return { text: trimmed.replace(comment, ''), isProse }
}

const problems = []

function check(file) {
  const lines = fs.readFileSync(file, 'utf8').split('\n')
  const said = lines.map(line => contents(file, line))
  let inFence = false
  lines.forEach((line, index) => {
    const report = (what, instead) => problems.push({ file, line: index + 1, what, instead })
    const { text, isProse } = said[index]
    if (isProse && text.startsWith('```')) inFence = !inFence
    const isExempt = inFence || text.startsWith('|') || /^(?:global|eslint)/.test(text)
    const isTooLong = isProse && !isExempt && [...line].length > COLUMNS
    const longestWord = Math.max(...text.split(/\s+/).map(each => each.length))
    if (isTooLong && longestWord < 60 && !text.includes(']('))
      report(`${[...line].length} columns`, `at most ${COLUMNS}`)

    // A phrase may go on in the next line.
    const both = `${text} ${said[index + 1]?.text ?? ''}`
    for (const [pattern, instead, isFor] of FORBIDDEN) {
      if (!isFor(file)) continue
      for (const match of both.matchAll(pattern)) {
        if (match.index >= text.length) continue
        const isAllowed = ALLOWED.some(
          ([where, phrase]) => file.startsWith(where) && both.slice(match.index).startsWith(phrase)
        )
        if (!isAllowed) report(`"${match[0]}"`, instead)
      }
    }
  })
}

files.forEach(check)

if (options.count) {
  const counts = new Map()
  for (const { file, what } of problems) {
    const name = what.toLowerCase().replace(/^\d+ columns/, 'columns')
    if (!counts.has(name)) counts.set(name, new Map())
    const rooms = counts.get(name)
    const room = file.split('/').slice(0, 2).join('/')
    rooms.set(room, (rooms.get(room) ?? 0) + 1)
  }
  for (const [name, rooms] of counts) {
    const most = [...rooms].sort((a, b) => b[1] - a[1])
    const sum = most.reduce((total, [, count]) => total + count, 0)
    console.log(
      `${String(sum).padStart(5)} ${name}: ${most
        .slice(0, 6)
        .map(pair => pair.join(' '))
        .join(', ')}`
    )
  }
} else {
  for (const { file, line, what, instead } of problems)
    console.log(`${file}:${line}: ${what}; instead: ${instead}`)
}
console.log(`${files.length} files, ${problems.length} problems`)
if (problems.length > 0) process.exitCode = 1
