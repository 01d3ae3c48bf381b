// Runs each script of the documentation as an ES module, as CommonJS and as TypeScript, and checks
// its types: one process for each form, and one of the compiler for each kind of project.
//
//   node __test__/support/snippets/check.mjs [--keep]    prints a JSON object:
//   { forms: { esm: { [name]: { printed, error } }, cjs, ts }, warnings, types: [line ...] }
//
// A snippet that names nothing but what it makes runs as it is printed. One that leaves something
// to its reader (`guarded`, `worker`) is a function that gets a value for it: NAMES in
// ../examples.js. TypeScript's compiler makes the CommonJS form, in which `await` needs a function.

import { spawn } from 'node:child_process'
import fs from 'node:fs'
import { createRequire } from 'node:module'
import os from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { Linter } from 'eslint'

const require = createRequire(import.meta.url)
const { ROOT, scripts, snippets, IMPORT } = require('./pages.js')
const { NAMES, makeFiles } = require('../examples.js')
const { assemble } = require('../wasm.js')
const hostmap = require('../../..')

const TSC = path.join(ROOT, 'node_modules/typescript/bin/tsc')
const EXPORTS = Object.keys(hostmap)
const work = fs.mkdtempSync(path.join(os.tmpdir(), 'wasm-hostmap-snippets-'))

/** What code uses and does not make, apart from what Node.js has. */
function freeNames({ name, code, language }) {
  // Only TypeScript's own blocks have types, and those are complete.
  if (language === 'ts') return []
  const linter = new Linter()
  const options = { languageOptions: { ecmaVersion: 'latest', sourceType: 'module' } }
  const [failure] = linter.verify(code, options).filter(each => each.fatal)
  if (failure) throw new Error(`${name}: ${failure.message} in line ${failure.line}`)
  const { through } = linter.getSourceCode().scopeManager.globalScope
  const names = new Set(through.map(({ identifier }) => identifier.name))
  return [...names].filter(each => !(each in globalThis))
}

/** A snippet in parts: `{ imports, body, given, missing }`. */
function take(snippet) {
  const free = freeNames(snippet)
  const given = free.filter(name => Object.hasOwn(NAMES, name) && name !== 'WebAssembly')
  const missing = free.filter(name => EXPORTS.includes(name))
  const unknown = free.filter(name => !given.includes(name) && !missing.includes(name))
  if (unknown.length > 0)
    throw new Error(`${snippet.name}: nothing says what ${unknown.join(', ')} is`)
  const imports = [...snippet.code.matchAll(IMPORT)].map(([line]) => line)
  if (missing.length > 0) imports.push(`import { ${missing.join(', ')} } from 'wasm-hostmap'`)
  return { imports, body: snippet.code.replace(IMPORT, ''), given, missing }
}

const fileOf = ({ file, name }) =>
  file ? file.replace(/\.\w+$/, '') : name.replace(/[^a-zA-Z0-9]+/g, '-')

/** The forms of one snippet: source texts by extension, and whether each is a function. */
function formsOf(snippet) {
  const { imports, body, given, missing } = take(snippet)
  const isComplete = given.length === 0 && missing.length === 0
  // Without the library `dom` nothing declares it; with it, exports of an instance have no types.
  const declared = snippet.language === 'ts' ? '' : 'declare const WebAssembly: any\n'
  const parameters = `{ ${given.join(', ')} }`
  const types = given.map(name => `${name}: ${NAMES[name]}`).join('; ')
  const typed = `${parameters}: { ${types} }`
  const typeImport = "import type * as hostmap from 'wasm-hostmap'"
  const head = [...imports, typeImport, declared].join('\n')
  // A worker is run by what makes it, and not by us.
  const isWorker =
    isComplete && /\bworkerData\b[^\n]* from 'node:worker_threads'/.test(snippet.code)
  // A block of its own: it may make what others name.
  const wrapped = text => `export default async function example(${text}) {{\n${body}\n}}\n`
  return {
    isComplete,
    isWorker,
    mjs: isComplete ? snippet.code : `${imports.join('\n')}\n${wrapped(parameters)}`,
    mts: isComplete ? `${snippet.code}\n${declared}export {}\n` : `${head}\n${wrapped(typed)}`,
    cts: `${head}\n${wrapped(isComplete ? '' : typed)}${isWorker ? 'void example()\n' : ''}`.replaceAll(
      /'(\.\/\w+)\.mjs'/g,
      "'$1.cjs'"
    )
  }
}

/** Runs a command; gives its status and what it printed. */
function run(command, args, cwd) {
  return new Promise(resolve => {
    const child = spawn(command, args, { cwd, stdio: ['ignore', 'pipe', 'pipe'] })
    let printed = ''
    child.stdout.on('data', data => (printed += data))
    child.stderr.on('data', data => (printed += data))
    child.on('close', status => resolve({ status, printed }))
  })
}

const compilerOptions = {
  module: 'nodenext',
  target: 'es2022',
  types: ['node'],
  strict: true,
  exactOptionalPropertyTypes: true,
  skipLibCheck: true,
  rootDir: '.'
}

/** A project of these files, and what the compiler says about it. */
async function compile(name, files, options) {
  const config = { compilerOptions: { ...compilerOptions, ...options }, files }
  fs.writeFileSync(path.join(work, 'source', `${name}.json`), JSON.stringify(config))
  const args = [TSC, '--project', `${name}.json`, '--pretty', 'false']
  const { printed } = await run(process.execPath, args, path.join(work, 'source'))
  return printed.split('\n').filter(line => line !== '')
}

async function main() {
  const all = scripts()
  // Each folder has the development dependencies, and the one above them this package.
  fs.mkdirSync(path.join(work, 'node_modules'))
  fs.symlinkSync(ROOT, path.join(work, 'node_modules/wasm-hostmap'))
  const link = folder =>
    fs.symlinkSync(path.join(ROOT, 'node_modules'), path.join(work, folder, 'node_modules'))
  const source = path.join(work, 'source')
  fs.mkdirSync(source)
  link('source')
  const list = []
  const files = { js: [], ts: [] }
  const folders = { esm: 'mjs', cjs: 'cjs', ts: 'mjs' }
  for (const form of Object.keys(folders)) {
    const folder = path.join(work, form)
    fs.mkdirSync(folder)
    await makeFiles(folder)
    link(form)
    for (const { file, code, language } of snippets()) {
      if (language === 'wat' && file)
        fs.writeFileSync(path.join(folder, file.replace('.wat', '.wasm')), await assemble(code))
    }
  }
  for (const snippet of all) {
    const forms = formsOf(snippet)
    const file = fileOf(snippet)
    const { isComplete, isWorker } = forms
    list.push({ name: snippet.name, file, isComplete, isWorker })
    if (snippet.language !== 'ts')
      fs.writeFileSync(path.join(work, 'esm', `${file}.mjs`), forms.mjs)
    for (const kind of ['mts', 'cts']) {
      fs.writeFileSync(path.join(source, `${file}.${kind}`), forms[kind])
      files[snippet.language === 'ts' ? 'ts' : 'js'].push(`${file}.${kind}`)
    }
  }
  const types = await Promise.all([
    compile('js', files.js, { lib: ['es2022'], outDir: 'out' }),
    compile('ts', files.ts, { lib: ['es2022', 'dom'], outDir: 'out' })
  ])
  for (const name of fs.readdirSync(path.join(source, 'out'))) {
    const form = name.endsWith('.cjs') ? 'cjs' : 'ts'
    fs.copyFileSync(path.join(source, 'out', name), path.join(work, form, name))
  }
  const results = {}
  await Promise.all(
    Object.entries(folders).map(async ([form, extension]) => {
      const folder = path.join(work, form)
      const mine = list.filter(({ file }) =>
        fs.existsSync(path.join(folder, `${file}.${extension}`))
      )
      fs.writeFileSync(path.join(folder, 'list.json'), JSON.stringify(mine))
      const main = fileURLToPath(new URL('run.mjs', import.meta.url))
      const { status, printed } = await run(process.execPath, [main, extension], folder)
      const file = path.join(folder, 'results.json')
      results[form] = fs.existsSync(file)
        ? JSON.parse(fs.readFileSync(file, 'utf8'))
        : { ended: `status ${status}: ${printed.slice(-2000)}` }
    })
  )
  process.stdout.write(JSON.stringify({ results, types: types.flat() }))
}

try {
  await main()
} finally {
  if (process.argv.includes('--keep')) console.error(work)
  else fs.rmSync(work, { recursive: true, force: true })
}
