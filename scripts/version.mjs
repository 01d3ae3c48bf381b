// Sets the version of the next release, by the files in .changeset/, and takes their text to
// CHANGELOG.md. The tool is Changesets, which .changeset/package.json pins. It knows package.json;
// here the version is carried to the files of Rust and npm, and the text to where it belongs.
//
//   npm run version:next                 does it
//   npm run version:next -- --dry-run    in a copy, with a changeset made up, and checks the result

import { execFileSync } from 'node:child_process'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'

const ROOT = fileURLToPath(new URL('..', import.meta.url))
const TOOL = path.join(ROOT, '.changeset/node_modules/@changesets/cli/bin.js')
const FILES = ['package.json', 'package-lock.json', 'Cargo.toml', 'Cargo.lock', 'CHANGELOG.md']

// Changesets' headings, and those of Keep a Changelog.
const HEADINGS = new Map([
  ['Major Changes', 'Changed'],
  ['Minor Changes', 'Added'],
  ['Patch Changes', 'Fixed']
])

const isChangeset = name => name.endsWith('.md') && name !== 'README.md'

function edit(file, change) {
  const before = fs.readFileSync(file, 'utf8')
  const after = change(before)
  if (after === before) throw new Error(`${file} has no version where it is looked for`)
  fs.writeFileSync(file, after)
}

/** The entries below headings of the third level, by heading. */
function entriesOf(text) {
  const parts = text.split(/^### (.+)\n+/m).slice(1)
  const entries = new Map()
  for (let i = 0; i < parts.length; i += 2) entries.set(parts[i], parts[i + 1].trimEnd())
  return entries
}

/** CHANGELOG.md with the section that Changesets has put below its title in our form. */
function arrange(text, version, date) {
  const section = new RegExp(
    `^# Changelog\\n+## ${version.replaceAll('.', '[.]')}\\n([^]*?)\\n(?=This file )`
  )
  const made = section.exec(text)
  if (made === null) throw new Error(`CHANGELOG.md has no section for ${version} below its title`)
  const rest = text.replace(section, '# Changelog\n\n')
  const unreleased = /^## \[Unreleased\]\n([^]*?)(?=^## |$(?![^]))/m
  const entries = entriesOf(unreleased.exec(rest)?.[1] ?? '')
  for (const [heading, lines] of entriesOf(made[1])) {
    const ours = HEADINGS.get(heading) ?? heading
    entries.set(ours, [entries.get(ours), lines].filter(Boolean).join('\n'))
  }
  const body = [...entries].map(([heading, lines]) => `### ${heading}\n\n${lines}\n`).join('\n')
  const released = `## [Unreleased]\n\n## [${version}] - ${date}\n\n${body}\n`
  return unreleased.test(rest)
    ? rest.replace(unreleased, () => released)
    : rest.replace(/^## /m, () => `${released}## `)
}

/** Sets the version in a folder that has the files. Gives it; undefined if nothing has changed. */
function setVersion(root) {
  const manifest = () => JSON.parse(fs.readFileSync(path.join(root, 'package.json'), 'utf8'))
  const before = manifest().version
  execFileSync(process.execPath, [TOOL, 'version'], {
    cwd: root,
    stdio: ['ignore', 'ignore', 'inherit']
  })
  const { version } = manifest()
  if (version === before) return undefined
  edit(path.join(root, 'Cargo.toml'), text =>
    text.replace(/^version = ".*"$/m, `version = "${version}"`)
  )
  edit(path.join(root, 'Cargo.lock'), text =>
    text.replace(/^(name = "wasm-hostmap"\nversion = )".*"$/m, `$1"${version}"`)
  )
  edit(path.join(root, 'package-lock.json'), text => {
    const lock = JSON.parse(text)
    lock.version = version
    lock.packages[''].version = version
    return `${JSON.stringify(lock, undefined, 2)}\n`
  })
  const date = new Date().toISOString().slice(0, 10)
  edit(path.join(root, 'CHANGELOG.md'), text => arrange(text, version, date))
  return version
}

/** Sets a version in a copy of the files that have one, and checks it as a release does. */
function dryRun() {
  const copy = fs.mkdtempSync(path.join(os.tmpdir(), 'wasm-hostmap-version-'))
  try {
    for (const file of [
      ...FILES,
      '.changeset/config.json',
      '.changeset/changelog.cjs',
      'scripts/check-release.mjs'
    ])
      fs.cpSync(path.join(ROOT, file), path.join(copy, file))
    for (const name of fs.readdirSync(path.join(ROOT, '.changeset')).filter(isChangeset))
      fs.cpSync(path.join(ROOT, '.changeset', name), path.join(copy, '.changeset', name))
    const entry = 'An entry that is made up.'
    fs.writeFileSync(
      path.join(copy, '.changeset/made-up.md'),
      `---\n'wasm-hostmap': minor\n---\n\n${entry}\n`
    )
    // Changesets asks git where the project begins.
    execFileSync('git', ['init', '--quiet'], { cwd: copy })
    const version = setVersion(copy)
    const check = path.join(copy, 'scripts/check-release.mjs')
    process.stdout.write(
      execFileSync(process.execPath, [check, `v${version}`], { encoding: 'utf8' })
    )
    const changelog = fs.readFileSync(path.join(copy, 'CHANGELOG.md'), 'utf8')
    const added = changelog.slice(changelog.indexOf(`## [${version}]`)).split(/^## /m)[1]
    if (!/^### Added\n(?:(?!### ).*\n)*- An entry that is made up\.$/m.test(added))
      throw new Error(
        `CHANGELOG.md has no entry below Added in its section for ${version}:\n${added}`
      )
  } finally {
    fs.rmSync(copy, { recursive: true, force: true })
  }
}

const { values: options } = parseArgs({ options: { 'dry-run': { type: 'boolean' } } })
if (!fs.existsSync(TOOL)) {
  const folder = path.join(ROOT, '.changeset')
  execFileSync('npm', ['ci', '--ignore-scripts', '--no-audit', '--no-fund', '--prefix', folder], {
    cwd: folder,
    stdio: ['ignore', 'ignore', 'inherit']
  })
}
if (options['dry-run']) dryRun()
else {
  const version = setVersion(ROOT)
  console.log(version === undefined ? 'There is no changeset.' : `The version is ${version}.`)
}
