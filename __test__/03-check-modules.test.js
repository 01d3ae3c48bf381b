'use strict'

const { spawnSync } = require('node:child_process')
const fs = require('node:fs')
const path = require('node:path')
const { temporaryDirectory } = require('./support/files')

const SCRIPT = path.join(__dirname, '../scripts/check-modules.mjs')
const directory = temporaryDirectory()
let count = 0

const EMPTY = `# Architecture

<!-- What uses what: written by \`npm run check:modules -- --write\` -->
<!-- /What uses what -->
`

/** What the script says of a repository with these files, given as paths and contents. */
function check(files, ...options) {
  const root = path.join(directory.path, `${++count}`)
  const all = { 'ARCHITECTURE.md': EMPTY, 'src/lib.rs': '', 'lib/support/a.js': '', ...files }
  for (const [name, source] of Object.entries(all)) {
    fs.mkdirSync(path.dirname(path.join(root, name)), { recursive: true })
    fs.writeFileSync(path.join(root, name), source)
  }
  const run = (...more) => {
    const { stdout, stderr, status } = spawnSync(
      process.execPath,
      [SCRIPT, '--root', root, ...more],
      { encoding: 'utf8' }
    )
    expect(stderr).toBe('')
    return { stdout, status, document: fs.readFileSync(path.join(root, 'ARCHITECTURE.md'), 'utf8') }
  }
  return { ...run(...options), again: run }
}

/** The arrows of a crate with these files. */
const arrowsOf = files => {
  const lines = check(files, '--files').stdout.split('\n')
  return lines.filter(line => line.includes(' -> ')).map(line => line.replace(/ \(.*/, ''))
}

describe('arrows between Rust files', () => {
  test('go where a name is defined, whatever re-exports are on the way', () => {
    expect(
      arrowsOf({
        'src/lib.rs': 'mod sys; mod memory;',
        'src/sys/mod.rs': 'pub mod page; pub mod mmap; pub fn to_u64() {}',
        'src/sys/page.rs': 'pub struct PageSpan;',
        'src/sys/mmap.rs': 'use super::page::PageSpan;\nuse super::to_u64;',
        'src/memory/mod.rs': 'mod table; mod map;\npub use table::{Table, Entry as Row};',
        'src/memory/table.rs': 'pub struct Table; pub enum Entry {}',
        'src/memory/map.rs':
          'use crate::sys::{self, page::{self, PageSpan}};\nuse super::{Row};\nfn f() { sys::mmap::map() }'
      })
    ).toEqual([
      'src/sys/mmap.rs:1 -> src/sys/page.rs',
      'src/sys/mmap.rs:2 -> src/sys/mod.rs',
      'src/memory/map.rs:1 -> src/sys/page.rs',
      'src/memory/map.rs:2 -> src/memory/table.rs',
      'src/memory/map.rs:3 -> src/sys/mmap.rs'
    ])
  })

  test('a re-export is one only for a file that uses the name itself', () => {
    const files = body => ({
      'src/lib.rs': 'mod memory;',
      'src/memory/mod.rs': `mod table;\npub(crate) use table::Table;\n${body}`,
      'src/memory/table.rs': 'pub struct Table;'
    })
    expect(arrowsOf(files('struct Other;'))).toEqual([])
    expect(arrowsOf(files('struct Other(Table);'))).toEqual([
      'src/memory/mod.rs:3 -> src/memory/table.rs'
    ])
  })

  test('comments, texts and tests have none', () => {
    expect(
      arrowsOf({
        'src/lib.rs': 'mod sys; mod memory;',
        'src/sys.rs': 'pub fn call() {}',
        'src/memory.rs': String.raw`
          //! [call](crate::sys::call)
          /* crate::sys::call() /* nested */ crate::sys::call() */
          const A: &str = "crate::sys::call()";
          const B: &str = r#"crate::sys::call() " crate::sys::call()"#;
          const C: char = '"';
          fn f<'a, 'b>(x: &'a str) -> char { '\'' }
          #[cfg(test)]
          fn only_tests<A, B>() { crate::sys::call() }
          #[cfg(all(test, not(loom)))]
          mod tests { use crate::sys::call; }`
      })
    ).toEqual([])
  })

  test('modules inside a file, and what their code names, are those of the file', () => {
    expect(
      arrowsOf({
        'src/lib.rs': 'mod sys; mod memory;',
        'src/sys.rs': 'pub fn call() {}',
        'src/memory.rs':
          'mod inner {\n  fn f() { super::super::sys::call(); super::g() }\n}\nfn g() {}'
      })
    ).toEqual(['src/memory.rs:2 -> src/sys.rs'])
  })
})

describe('check:modules', () => {
  test('names both ends of an arrow up, and each step of a circle', () => {
    const { stdout, status } = check({
      'src/lib.rs': 'mod sys; mod memory;',
      'src/sys.rs': 'pub fn call() { crate::memory::map() }',
      'src/memory.rs': '\npub fn map() { crate::sys::call() }'
    })
    expect(status).toBe(1)
    expect(stdout).toContain('up: src/sys.rs:1 uses src/memory.rs (crate::memory::map)')
    expect(stdout).toContain('circle:\n')
    expect(stdout).toContain('    src/sys.rs:1 uses src/memory.rs (crate::memory::map)')
    expect(stdout).toContain('    src/memory.rs:2 uses src/sys.rs (crate::sys::call)')
  })

  test('finds circles of JavaScript files, by way of late requires too', () => {
    const { stdout, status } = check({
      'lib/support/a.js': "const b = require('./b.js')",
      'lib/support/b.js': "// require('./c.js')\nconst a = () => require('./a.js')"
    })
    expect(status).toBe(1)
    expect(stdout).toContain('    lib/support/a.js:1 uses lib/support/b.js (./b.js)')
    expect(stdout).toContain('    lib/support/b.js:2 uses lib/support/a.js (./a.js)')
    expect(stdout).not.toContain('c.js')
  })

  test('only src/sys/ names libc and nix; errno is for all', () => {
    const source = 'use nix::errno::Errno;\nfn f() { unsafe { libc::getpid() }; }'
    const files = { 'src/lib.rs': 'mod sys; mod memory;', 'src/sys/mod.rs': source }
    const { stdout } = check({ ...files, 'src/memory.rs': source })
    expect(stdout).toContain('kernel: src/memory.rs:2 names libc::getpid')
    expect(stdout).not.toContain('kernel: src/sys')
  })

  test('only src/sys/ calls the kernel through std, under whatever name', () => {
    const crate = source => ({
      'src/lib.rs': 'mod sys; mod share;',
      'src/sys/mod.rs': 'pub mod thread;',
      'src/sys/thread.rs': 'pub fn sleep() { std::thread::sleep(LONG) }',
      'src/share.rs': source
    })
    const problemsOf = source => check(crate(source)).stdout.match(/kernel: .*/g) ?? []
    for (const [source, name] of [
      ['fn f() { std::thread::sleep(LONG) }', 'std::thread::sleep'],
      ['use std::thread;\nfn f() { thread::sleep(LONG) }', 'std::thread::sleep'],
      ['use std::thread::{self as t};\nfn f() { t::sleep(LONG) }', 'std::thread::sleep'],
      ['use std::fs::File;', 'std::fs::File'],
      ['fn f() { std::env::var("HOME") }', 'std::env::var'],
      ['fn f() { std::process::id() }', 'std::process::id']
    ]) {
      expect(problemsOf(source)).toEqual([
        expect.stringMatching(new RegExp(`^kernel: src/share\\.rs:[12] names ${name},`))
      ])
    }
    for (const source of [
      'use crate::sys::thread;\nfn f() { thread::sleep(LONG) }',
      'use std::thread::{self, ThreadId};\nfn f() { thread::current() }'
    ])
      expect(problemsOf(source)).toEqual([])
  })

  test('names a file that is too long', () => {
    const files = lines => ({
      'src/lib.rs': 'mod sys; mod memory;',
      'src/sys.rs': '//\n'.repeat(450),
      'src/memory.rs': '//\n'.repeat(lines),
      'lib/support/a.js': '//\n'.repeat(lines)
    })
    const { stdout, status } = check(files(451))
    expect(status).toBe(1)
    expect(stdout.match(/^long: .*? has \d+ lines/gm)).toEqual([
      'long: src/memory.rs has 451 lines',
      'long: lib/support/a.js has 451 lines'
    ])
    expect(check(files(450)).stdout).not.toContain('long:')
  })

  test('writes the drawing, and tells of one that is old', () => {
    const { stdout, status, again } = check({
      'src/lib.rs': 'mod sys; mod memory;',
      'src/sys.rs': 'pub fn call() {}',
      'src/memory.rs': 'fn map() { crate::sys::call() }'
    })
    expect(status).toBe(1)
    expect(stdout).toContain('npm run check:modules -- --write')

    const { document, status: written } = again('--write')
    expect(written).toBe(0)
    expect(document).toContain('memory_src -->|1| sys_src')
    expect(again().status).toBe(0)
  })
})
