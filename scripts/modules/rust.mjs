// Which file of a Rust crate uses which, from the tokens of its sources.
//
// An arrow goes from the file that names something to the file that defines it, whatever re-exports
// are on the way. Neither `mod x;` nor a re-export is an arrow of its own; a file that uses a name
// that it re-exports has one. Code under `#[cfg(test)]` has none.
//
// What it does not see:
// - methods: `value.method()` names no file, so an `impl` far from its type is not noticed;
// - names that come by a glob: `use x::*` is one arrow to the file of `x`;
// - what macros expand to, apart from the paths that their arguments name;
// - a local variable or generic parameter that has the name of a re-export counts as a use of it.

import fs from 'node:fs'
import path from 'node:path'

/** The tokens of a source: names, `::`, and single characters; no comments, strings or numbers. */
export function tokensOf(source) {
  const tokens = []
  let line = 1
  let at = 0
  const push = text => tokens.push({ text, line })
  const skip = length => {
    for (const end = at + length; at < end; at++) if (source[at] === '\n') line++
  }
  const rest = pattern => {
    pattern.lastIndex = at
    return pattern.exec(source)?.[0]
  }
  while (at < source.length) {
    let text
    if ((text = rest(/\s+|\/\/[^\n]*/y))) skip(text.length)
    else if (source.startsWith('/*', at)) {
      let depth = 0
      do {
        if (source.startsWith('/*', at)) [depth, at] = [depth + 1, at + 2]
        else if (source.startsWith('*/', at)) [depth, at] = [depth - 1, at + 2]
        else skip(1)
      } while (depth > 0 && at < source.length)
    } else if ((text = rest(/(?:br|cr|r)(#*)"[^]*?"\1(?!#)/y))) skip(text.length)
    else if ((text = rest(/[bc]?"(?:[^"\\]|\\[^])*"/y))) skip(text.length)
    else if ((text = rest(/b?'(?:[^'\\]|\\(?:x..|u\{[^}]*\}|.))'/y))) skip(text.length)
    else if ((text = rest(/'[A-Za-z_]\w*/y))) skip(text.length)
    else if ((text = rest(/\d[\w.]*/y))) skip(text.replace(/\.\..*|\.(?=[a-z_]).*/i, '').length)
    else if ((text = rest(/(?:r#)?[A-Za-z_]\w*|::|=>|->/y))) {
      push(text.replace('r#', ''))
      skip(text.length)
    } else {
      push(source[at])
      skip(1)
    }
  }
  return tokens
}

const CLOSING = { '(': ')', '[': ']', '{': '}' }

/** The index after the group that opens at `at`. */
function afterGroup(tokens, at) {
  const open = tokens[at].text
  const close = CLOSING[open]
  let depth = 0
  for (; at < tokens.length; at++) {
    if (tokens[at].text === open) depth++
    else if (tokens[at].text === close && --depth === 0) return at + 1
  }
  return at
}

const ITEMS = new Set(
  'pub use mod fn unsafe extern const static struct enum union trait type impl async let'.split(' ')
)

/** The index after the item, field, variant or match arm that begins at `at`. */
function afterItem(tokens, at) {
  while (tokens[at]?.text === '#') at = afterGroup(tokens, at + 1)
  const isItem = ITEMS.has(tokens[at]?.text)
  while (at < tokens.length) {
    const { text } = tokens[at]
    if (text === ';' || (text === ',' && !isItem)) return at + 1
    else if (text === '}') return at
    else if (text === '{') return afterGroup(tokens, at)
    else if (text in CLOSING) at = afterGroup(tokens, at)
    else at++
  }
  return at
}

const isName = token => token !== undefined && /^[A-Za-z_]/.test(token.text)
const DEFINES = new Set(['fn', 'struct', 'enum', 'union', 'trait', 'type', 'const', 'static'])
const QUALIFIERS = new Set(['fn', 'unsafe', 'extern', 'mut', 'async'])

/** What a `use` imports: `[path, name]` for each, name `*` for a glob. */
function importsOf(tokens, at, prefix, into) {
  const segments = [...prefix]
  for (;;) {
    const { text } = tokens[at]
    if (text === '{') {
      const end = afterGroup(tokens, at)
      for (at++; at < end - 1; at++) at = importsOf(tokens, at, segments, into)
      return end
    }
    if (text === '*') {
      into.push([segments, '*'])
      return at + 1
    }
    if (text !== '::') segments.push(text)
    at++
    if (tokens[at]?.text === 'as') {
      if (segments.at(-1) === 'self' && segments.length > 1) segments.pop()
      into.push([segments, tokens[at + 1].text])
      return at + 2
    }
    if (tokens[at]?.text !== '::' && text !== '::') {
      // `a::{self}` is `a` itself.
      if (segments.at(-1) === 'self' && segments.length > 1) segments.pop()
      into.push([segments, segments.at(-1)])
      return at
    }
  }
}

class Module {
  children = new Map()
  imports = new Map()
  globs = []
  defined = new Set()
  uses = []
  unsafe = []
  constructor(name, parent, file) {
    Object.assign(this, { name, parent, file })
  }
}

/** Reads `tokens[at..end]` as the body of a module. */
function readModule(module, tokens, at, end, childFile) {
  let depth = 0
  while (at < end) {
    const { text, line } = tokens[at]
    const next = tokens[at + 1]
    if (text === '{') depth++
    else if (text === '}') depth--
    if (
      text === '#' &&
      (next?.text === '[' || (next?.text === '!' && tokens[at + 2].text === '['))
    ) {
      const open = at + (next.text === '!' ? 2 : 1)
      const close = afterGroup(tokens, open)
      const words = tokens
        .slice(open + 1, close - 1)
        .map(token => token.text)
        .join(' ')
      at = /^cfg \( (?:test|all \( test\b.*) /.test(`${words} `) ? afterItem(tokens, close) : close
    } else if (text === 'use') {
      const found = []
      const visible = [')', 'pub'].includes(tokens[at - 1]?.text)
      at = importsOf(tokens, at + 1, [], found)
      for (const [segments, name] of found) {
        if (name === '*') module.globs.push(segments)
        else if (name !== '_') module.imports.set(name, { segments, visible })
        if (name === '*') module.uses.push({ segments: [...segments, '*'], line })
        else if (!visible) module.uses.push({ segments, line })
      }
    } else if (text === 'mod' && isName(next) && [';', '{'].includes(tokens[at + 2]?.text)) {
      const child = new Module(next.text, module, module.file)
      module.children.set(next.text, child)
      if (tokens[at + 2].text === '{') {
        const after = afterGroup(tokens, at + 2)
        readModule(child, tokens, at + 3, after - 1, name => childFile(path.join(next.text, name)))
        at = after
      } else {
        readFile(child, childFile(next.text))
        at += 3
      }
    } else if (depth === 0 && DEFINES.has(text) && isName(next) && !QUALIFIERS.has(next.text)) {
      module.defined.add(next.text)
      at += 2
    } else if (text === 'macro_rules' && next?.text === '!') {
      module.defined.add(tokens[at + 2].text)
      at += 3
    } else if (text === 'unsafe') {
      module.unsafe.push(next.text)
      at++
    } else if (isName(tokens[at])) {
      const isMember = tokens[at - 1]?.text === '.' && tokens[at - 2]?.text !== '.'
      const isGlobal = tokens[at - 1]?.text === '::'
      const segments = [text]
      for (at++; tokens[at]?.text === '::' && isName(tokens[at + 1]); at += 2)
        segments.push(tokens[at + 1].text)
      if (!isMember && !isGlobal) module.uses.push({ segments, line })
    } else {
      at++
    }
  }
}

function readFile(module, file) {
  module.file = file
  const tokens = tokensOf(fs.readFileSync(file, 'utf8'))
  const folder = ['lib.rs', 'main.rs', 'mod.rs'].includes(path.basename(file))
    ? path.dirname(file)
    : file.replace(/\.rs$/, '')
  readModule(module, tokens, 0, tokens.length, name => {
    const alone = path.join(folder, `${name}.rs`)
    return fs.existsSync(alone) ? alone : path.join(folder, name, 'mod.rs')
  })
}

/** The module that a path begins in and its remaining segments, or null for what is not ours. */
function beginning(root, module, segments) {
  const [first, ...rest] = segments
  if (first === 'crate' || first === '$crate') return [root, rest]
  if (first === 'self') return [module, rest]
  if (first === 'super') {
    let up = module.parent
    while (rest[0] === 'super') [up] = [up.parent, rest.shift()]
    return [up, rest]
  }
  return module.children.has(first) || module.imports.has(first) ? [module, segments] : null
}

/** The module that defines the last thing that a path names, or null for what is not ours. */
function resolve(root, module, segments, depth = 0) {
  if (depth > 20) return null
  const start = beginning(root, module, segments)
  if (start === null) return null
  let [at, rest] = start
  for (; rest.length > 0; rest = rest.slice(1)) {
    const child = at.children.get(rest[0])
    if (child) {
      at = child
      continue
    }
    const imported = at.imports.get(rest[0])
    if (imported && !at.defined.has(rest[0])) {
      return resolve(root, at, [...imported.segments, ...rest.slice(1)], depth + 1)
    }
    if (!at.defined.has(rest[0])) {
      for (const glob of at.globs) {
        const from = resolve(root, at, glob, depth + 1)?.module
        if (from && from !== at && (from.defined.has(rest[0]) || from.imports.has(rest[0])))
          return resolve(root, from, ['self', ...rest], depth + 1)
      }
    }
    return { module: at, item: rest[0] }
  }
  return { module: at, item: null }
}

function* modulesIn(module) {
  yield module
  for (const child of module.children.values()) yield* modulesIn(child)
}

/**
 * The crate whose root is `file`: `{ files, arrows, paths, unsafe }`. An arrow has `from`, `to`,
 * and the `line` and `name` of its first use. `paths` are all that the files name, and `unsafe`
 * has, for each `unsafe`, the file and the word after it.
 */
export function readCrate(file) {
  const root = new Module('crate', null, file)
  readFile(root, file)
  const files = new Set()
  const arrows = new Map()
  const paths = []
  const unsafe = []
  for (const module of modulesIn(root)) {
    files.add(module.file)
    for (const word of module.unsafe) unsafe.push({ file: module.file, word })
    for (const { segments, line } of module.uses) {
      if (segments.length > 1) {
        // By its whole name: what is imported from elsewhere has it in the import.
        const { segments: whole } = module.imports.get(segments[0]) ?? {}
        const named = whole ? [...whole, ...segments.slice(1)] : segments
        paths.push({ file: module.file, line, segments: named })
      }
      const found = resolve(root, module, segments)
      // The name of a module alone is no use of it; what is named by way of it is.
      if (found === null || found.item === null) continue
      const key = `${module.file}\n${found.module.file}`
      if (found.module.file === module.file || arrows.has(key)) continue
      arrows.set(key, {
        from: module.file,
        to: found.module.file,
        line,
        name: segments.join('::')
      })
    }
  }
  return { files: [...files].sort(), arrows: [...arrows.values()], paths, unsafe }
}
