// Collects what the site is made of into pages/: the Markdown files of the repository, each at its
// own path, the pictures that they show, and a reference that TypeDoc makes of the types.
//
// README.md becomes index.md, which is the page of its folder. All else is as it is in the
// repository: what a link means is decided where it is rendered (.vitepress/links.mjs).

import { execFileSync } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { GROUPS, NOT_LISTED } from './sidebar.mjs'

const SITE = path.dirname(fileURLToPath(import.meta.url))
const REPOSITORY = path.dirname(SITE)
const PAGES = path.join(SITE, 'pages')

const tracked = execFileSync('git', ['ls-files', '-z', '*.md', '*.svg', '*.png'], {
  cwd: REPOSITORY,
  encoding: 'utf8'
})
  .split('\0')
  .filter(file => file !== '' && !/^([.]|(__test__|site)\/)/.test(file))

const listed = [...GROUPS.flatMap(group => group.pages), ...NOT_LISTED]
const unlisted = tracked.filter(file => /^docs\/[^/]+\.md$/.test(file) && !listed.includes(file))
const missing = listed.filter(file => !tracked.includes(file))
if (unlisted.length > 0) throw new Error(`in no group of sidebar.mjs: ${unlisted.join(', ')}`)
if (missing.length > 0) throw new Error(`in sidebar.mjs, and no file: ${missing.join(', ')}`)

fs.rmSync(PAGES, { recursive: true, force: true })
for (const file of tracked) {
  const target = path.join(PAGES, file.replace(/README\.md$/, 'index.md'))
  fs.mkdirSync(path.dirname(target), { recursive: true })
  fs.copyFileSync(path.join(REPOSITORY, file), target)
}

execFileSync(path.join(SITE, 'node_modules', '.bin', 'typedoc'), [], {
  cwd: SITE,
  stdio: 'inherit'
})
