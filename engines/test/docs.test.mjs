// The code in docs/engines.md and docs/pools.md, and that of other pages which needs an engine,
// runs as it is printed: each ```js block is a module of its own, in a folder that has the files it
// names. Comments after `console.log(...)` say what it prints. What needs no engine is run by
// __test__/04-examples.test.js.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import fs from 'node:fs'
import { createRequire } from 'node:module'
import path from 'node:path'
import { after, before, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { makeFilesFor } from '../support/docs-data.mjs'

const BENCH = fileURLToPath(new URL('..', import.meta.url))
const node = Number(process.versions.node.split('.')[0])
// In .engines-latest, too, the pages are two folders up from here.
const { printedBy, snippets } = createRequire(import.meta.url)(
  '../../__test__/support/snippets/pages.js'
)
const blocks = snippets()
  .filter(({ runner, language }) => runner === 'engines/test/docs.test.mjs' && language === 'js')
  .map(({ info, ...rest }) => ({ ...rest, least: Number(/node>=(\d+)/.exec(info)?.[1] ?? 0) }))

let folder
before(() => {
  fs.mkdirSync(path.join(BENCH, 'data'), { recursive: true })
  folder = fs.mkdtempSync(path.join(BENCH, 'data/docs-'))
})
after(() => fs.rmSync(folder, { recursive: true, force: true }))

for (const page of ['README.md', 'docs/engines.md', 'docs/pools.md'])
  test(`${page} has code`, () => assert.ok(blocks.some(block => block.page === page)))

for (const [index, block] of blocks.entries()) {
  test(block.name, async () => {
    if (node < block.least) return
    const own = path.join(folder, String(index))
    fs.mkdirSync(own)
    await makeFilesFor(block.code, own)
    fs.writeFileSync(path.join(own, 'example.mjs'), block.code)
    const { stdout } = await promisify(execFile)(process.execPath, ['example.mjs'], { cwd: own })
    for (const text of printedBy(block)) assert.ok(stdout.includes(text), `${text}, not ${stdout}`)
  })
}
