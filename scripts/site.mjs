// Builds the documentation site, and tries it in a browser.
//
//   npm run site           builds site/dist
//   npm run test:site      and runs site/check.test.mjs, where there is a Chromium
//
// The tools have a folder and a lock file of their own, and are installed when the lock file is
// newer than they are.

import { spawnSync } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'

const SITE = fileURLToPath(new URL('../site', import.meta.url))

function npm(...args) {
  const { status } = spawnSync('npm', ['--prefix', SITE, ...args], { stdio: 'inherit' })
  if (status !== 0) process.exit(status ?? 1)
}

const installed = path.join(SITE, 'node_modules', '.package-lock.json')
const wanted = path.join(SITE, 'package-lock.json')
if (!fs.existsSync(installed) || fs.statSync(installed).mtimeMs < fs.statSync(wanted).mtimeMs) {
  npm('ci', '--ignore-scripts')
}
npm('run', 'build')
if (process.argv.includes('--test')) npm('test')
