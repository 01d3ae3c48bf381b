// The engines are those that the manifest pins, and the package under test is this working copy.

import assert from 'node:assert/strict'
import fs from 'node:fs'
import { test } from 'node:test'
import * as hostmap from 'wasm-hostmap'

const BENCH = new URL('../', import.meta.url)
const readJson = url => JSON.parse(fs.readFileSync(url, 'utf8'))
const engines = Object.entries(readJson(new URL('package.json', BENCH)).dependencies).filter(
  ([name]) => name !== 'wasm-hostmap'
)

for (const [name, version] of engines) {
  test(`${name} is ${version}, an exact version`, () => {
    const manifest = readJson(new URL(`node_modules/${name}/package.json`, BENCH))
    assert.match(version, /^\d+\.\d+\.\d+/)
    assert.equal(manifest.version, version)
  })
}

test('wasm-hostmap is the working copy that the bench is in', () => {
  const installed = fs.realpathSync(new URL('node_modules/wasm-hostmap', BENCH))
  assert.equal(installed, fs.realpathSync(new URL('../..', import.meta.url)))
  assert.equal(typeof hostmap.HostRegion.open, 'function')
})
