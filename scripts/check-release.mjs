// Checks that a tag is the version that the package, the crate and the changelog name.
//
//   node scripts/check-release.mjs v1.2.3

import fs from 'node:fs'
import { fileURLToPath } from 'node:url'

process.chdir(fileURLToPath(new URL('..', import.meta.url)))
const read = file => fs.readFileSync(file, 'utf8')

const [tag] = process.argv.slice(2)
const version = /^v(\d+\.\d+\.\d+(?:-[\w.]+)?)$/.exec(tag ?? '')?.[1]
if (!version) {
  console.error('Usage: node scripts/check-release.mjs v1.2.3')
  process.exit(2)
}

const found = {
  'package.json': JSON.parse(read('package.json')).version,
  'package-lock.json': JSON.parse(read('package-lock.json')).version,
  'Cargo.toml': /^version = "(.*)"$/m.exec(read('Cargo.toml'))?.[1],
  'Cargo.lock': /^name = "wasm-hostmap"\nversion = "(.*)"$/m.exec(read('Cargo.lock'))?.[1]
}
const problems = Object.entries(found)
  .filter(([, each]) => each !== version)
  .map(([file, each]) => `${file} says ${each}`)
// The newest version comes first, below what is not released yet.
const newest = [
  ...read('CHANGELOG.md').matchAll(/^## \[(?!Unreleased)(.*?)\](?: - \d{4}-\d\d-\d\d)?$/gm)
][0]
if (newest?.[1] !== version) problems.push(`the newest version in CHANGELOG.md is ${newest?.[1]}`)

if (problems.length > 0) {
  console.error(`The tag is ${tag}, but:\n  ${problems.join('\n  ')}`)
  process.exit(1)
}
console.log(`${tag} is what ${Object.keys(found).join(', ')} and CHANGELOG.md say`)
