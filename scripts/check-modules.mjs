// Checks what uses what, in src/ and lib/:
//
// - no circle between files;
// - a room uses its own files and rooms further down only, in the order of modules/rooms.cjs;
// - nothing but src/sys/ calls the kernel: names `libc` or `nix`, errno apart, or what of std does;
// - no file has more than 450 lines;
// - the drawing in ARCHITECTURE.md is up to date.
//
//   npm run check:modules                 checks, and prints what is wrong
//   npm run check:modules -- --write      writes the drawing
//   npm run check:modules -- --files      prints each arrow between files
//   npm run check:modules -- --unsafe     prints how often each room says `unsafe`, tests apart
//   ... --root DIRECTORY                  another repository
//
// modules/rust.mjs and modules/javascript.mjs say what is not seen.

import fs from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { draw } from './modules/drawing.mjs'
import { circles, shortestCircle } from './modules/graph.mjs'
import { readFolder } from './modules/javascript.mjs'
import rooms from './modules/rooms.cjs'
import { readCrate } from './modules/rust.mjs'

const { values: options } = parseArgs({
  options: {
    write: { type: 'boolean' },
    files: { type: 'boolean' },
    unsafe: { type: 'boolean' },
    root: { type: 'string', default: fileURLToPath(new URL('..', import.meta.url)) }
  }
})

const DOCUMENT = path.join(options.root, 'ARCHITECTURE.md')
const BEGIN = '<!-- What uses what: written by `npm run check:modules -- --write` -->'
const END = '<!-- /What uses what -->'

// What calls the kernel, or reads what it gave the process.
const KERNEL = [
  'libc',
  'nix',
  'std::env',
  'std::fs',
  'std::process',
  'std::thread::Builder',
  'std::thread::sleep',
  'std::thread::spawn',
  'std::thread::yield_now'
]

const MOST_LINES = 450

const relative = file => path.relative(options.root, file)

function checkFolder({ folder, purposes, files, arrows }, problems) {
  const order = purposes.map(([room]) => room)
  const roomOf = file =>
    path
      .relative(folder, file)
      .split(path.sep)[0]
      .replace(/\.\w+$/, '')

  for (const room of new Set(files.map(roomOf))) {
    if (!order.includes(room))
      problems.push(
        `${relative(folder)}/${room} is not in scripts/modules/rooms.cjs: where does it belong?`
      )
  }
  for (const { from, to, line, name } of arrows) {
    const [source, target] = [order.indexOf(roomOf(from)), order.indexOf(roomOf(to))]
    if (source !== -1 && target !== -1 && target > source)
      problems.push(`up: ${relative(from)}:${line} uses ${relative(to)} (${name})`)
  }
  const targetsOf = file => arrows.filter(({ from }) => from === file).map(({ to }) => to)
  for (const group of circles(files, targetsOf)) {
    const way = shortestCircle(group, targetsOf)
    const steps = way.slice(1).map((to, index) => {
      const { line, name } = arrows.find(arrow => arrow.from === way[index] && arrow.to === to)
      return `    ${relative(way[index])}:${line} uses ${relative(to)} (${name})`
    })
    const size =
      group.length === way.length - 1 ? '' : `, the shortest of a knot of ${group.length} files`
    problems.push(`circle${size}:\n${steps.join('\n')}`)
    if (group.length !== way.length - 1)
      problems.push(`    the knot: ${group.map(relative).sort().join(' ')}`)
  }
  return roomOf
}

function checkKernel({ folder, paths }, problems) {
  const told = new Set()
  for (const { file, line, segments } of paths) {
    const room = path.relative(folder, file).split(path.sep)[0]
    const name = segments.join('::')
    const isKernel = KERNEL.some(begin => `${name}::`.startsWith(`${begin}::`))
    const isErrno = `${name}::`.startsWith('nix::errno::')
    if (!isKernel || isErrno || room === 'sys' || told.has(file)) continue
    told.add(file)
    problems.push(`kernel: ${relative(file)}:${line} names ${name}, which only src/sys/ may`)
  }
}

function checkLengths({ files }, problems) {
  for (const file of files) {
    const lines = fs.readFileSync(file, 'utf8').match(/\n/g)?.length ?? 0
    if (lines > MOST_LINES)
      problems.push(
        `long: ${relative(file)} has ${lines} lines of at most ${MOST_LINES}: which two files is it?`
      )
  }
}

function printUnsafe({ folder, unsafe }) {
  const counts = new Map()
  for (const { file, word } of unsafe) {
    const room = path.relative(folder, file).split(path.sep)[0].replace(/\.rs$/, '')
    if (!counts.has(room)) counts.set(room, { blocks: 0, functions: 0, impls: 0 })
    const kind = { '{': 'blocks', impl: 'impls', trait: 'impls' }[word] ?? 'functions'
    counts.get(room)[kind]++
  }
  console.table(Object.fromEntries([...counts].sort()))
}

const rust = { folder: path.join(options.root, 'src'), purposes: rooms.RUST }
Object.assign(rust, readCrate(path.join(rust.folder, 'lib.rs')))
const javascript = { folder: path.join(options.root, 'lib'), purposes: rooms.JAVASCRIPT }
Object.assign(javascript, readFolder(javascript.folder))

const problems = []
for (const part of [rust, javascript]) part.roomOf = checkFolder(part, problems)
checkKernel(rust, problems)
for (const part of [rust, javascript]) checkLengths(part, problems)

if (options.unsafe) printUnsafe(rust)
if (options.files) {
  for (const { arrows } of [rust, javascript])
    for (const { from, to, line, name } of arrows)
      console.log(`${relative(from)}:${line} -> ${relative(to)} (${name})`)
}

// Rooms that use each other in a circle can't be drawn.
if (!problems.some(problem => /^up:|is not in scripts/.test(problem))) {
  const drawn = [rust, javascript].map(({ folder, purposes, files, arrows, roomOf }) => {
    const name = relative(folder)
    return `### ${name}/\n\n${draw(name, purposes, files, arrows, roomOf)}`
  })
  const legend =
    'A drawing leaves out what a longer way says already. The list below it has all arrows between rooms,\n' +
    'with the number of arrows between their files.'
  const section = [BEGIN, legend, ...drawn, END].join('\n\n')
  const document = fs.readFileSync(DOCUMENT, 'utf8')
  const [begin, end] = [document.indexOf(BEGIN), document.indexOf(END)]
  if (begin === -1 || end < begin) {
    problems.push(`ARCHITECTURE.md has no place for the drawing, between\n  ${BEGIN}\n  ${END}`)
  } else {
    const updated = document.slice(0, begin) + section + document.slice(end + END.length)
    if (options.write) fs.writeFileSync(DOCUMENT, updated)
    else if (updated !== document)
      problems.push('The drawing in ARCHITECTURE.md is old: npm run check:modules -- --write')
  }
}

for (const problem of problems) console.log(problem)
const arrowCount = rust.arrows.length + javascript.arrows.length
console.log(
  `${rust.files.length + javascript.files.length} files, ${arrowCount} arrows, ${problems.length} problems`
)
if (problems.length > 0) process.exitCode = 1
