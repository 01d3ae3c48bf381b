// Which file of lib/ requires which. A `require` inside a function counts like one at the head of
// the file. Not seen: paths that are computed, and objects that are handed over at run time.

import fs from 'node:fs'
import path from 'node:path'

/** The source without its comments, line by line as before. Texts and templates stay. */
function withoutComments(source) {
  return source.replace(
    /\/\*[^]*?\*\/|\/\/[^\n]*|'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*"|`(?:[^`\\]|\\[^])*`/g,
    text => (text.startsWith('/') ? text.replace(/[^\n]/g, ' ') : text)
  )
}

/** The folder's files and arrows, as `readCrate` gives those of Rust. */
export function readFolder(folder) {
  const files = fs
    .readdirSync(folder, { recursive: true })
    .filter(name => name.endsWith('.js'))
    .map(name => path.join(folder, name))
    .sort()
  const arrows = new Map()
  for (const file of files) {
    const source = withoutComments(fs.readFileSync(file, 'utf8'))
    for (const match of source.matchAll(/\brequire\(\s*'(\.[^']*)'\s*\)/g)) {
      const to = path.join(path.dirname(file), match[1])
      const key = `${file}\n${to}`
      if (!files.includes(to) || arrows.has(key)) continue
      const line = source.slice(0, match.index).split('\n').length
      arrows.set(key, { from: file, to, line, name: match[1] })
    }
  }
  return { files, arrows: [...arrows.values()] }
}
