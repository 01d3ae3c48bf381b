// The code in docs/engines.md runs as it is printed: each ```js block is a module of its own, in a
// folder that has the files it names. Comments after `console.log(...)` say what it prints.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { after, before, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { makeFilesFor } from '../support/docs-data.mjs'

const BENCH = fileURLToPath(new URL('..', import.meta.url))
// In .engines-latest, too, the page is two folders up from here.
const PAGE = fileURLToPath(new URL('../../docs/engines.md', import.meta.url))
const node = Number(process.versions.node.split('.')[0])

/** Each block: the heading and the line that it is at, its code, and the Node.js that it needs. */
function blocks() {
  const found = []
  let heading = ''
  let code
  fs.readFileSync(PAGE, 'utf8')
    .split('\n')
    .forEach((line, index) => {
      if (line.startsWith('#')) heading = line.replace(/^#+ /, '')
      const [, least] = /^```js(?: node>=(\d+))?$/.exec(line) ?? []
      if (line.startsWith('```js')) {
        code = []
        found.push({ name: `${heading}, line ${index + 1}`, code, least: Number(least ?? 0) })
      } else if (line === '```') code = undefined
      else code?.push(line)
    })
  return found.map(block => ({ ...block, code: block.code.join('\n') }))
}

let folder
before(() => {
  fs.mkdirSync(path.join(BENCH, 'data'), { recursive: true })
  folder = fs.mkdtempSync(path.join(BENCH, 'data/docs-'))
})
after(() => fs.rmSync(folder, { recursive: true, force: true }))

test('the page has code for the engines that need a line', () => assert.ok(blocks().length > 0))

for (const [index, { name, code, least }] of blocks().entries()) {
  test(name, async () => {
    if (node < least) return
    const own = path.join(folder, String(index))
    fs.mkdirSync(own)
    await makeFilesFor(code, own)
    fs.writeFileSync(path.join(own, 'example.mjs'), code)
    const { stdout } = await promisify(execFile)(process.execPath, ['example.mjs'], { cwd: own })
    const said = [...code.matchAll(/console\.log\(.*\) \/\/ (.*)$/gm)].map(([, text]) => text)
    for (const text of said) assert.ok(stdout.includes(text), `${text}, not ${stdout}`)
  })
}
