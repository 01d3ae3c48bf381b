// A program in C under node:wasi: a catalog that is read from a folder of the host at the start,
// and requests that write reports there and leave them open. engines/fixtures/wasi/catalog.c is it.

import assert from 'node:assert/strict'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { WASI } from 'node:wasi'
import { wasiState } from 'wasm-hostmap/wasi'

const fixture = name => fs.readFileSync(new URL(`../fixtures/wasi/${name}.wasm`, import.meta.url))

/** The program as a reactor, and as a command. */
export const CATALOG = fixture('catalog')
export const COMMAND = fixture('command')

const PRODUCTS = 20_000
const centsOf = id => 100 + ((id * 3571) % 90_000)

// In memory where there is such a place: it is the program that is measured, and no disk.
const PLACE = fs.existsSync('/dev/shm') ? '/dev/shm' : os.tmpdir()

/** A folder with the catalog, which the caller removes. */
export function makeFolder() {
  const folder = fs.mkdtempSync(path.join(PLACE, 'hostmap-wasi-'))
  const lines = Array.from({ length: PRODUCTS }, (_, id) => `chair ${id};${centsOf(id)}\n`)
  fs.writeFileSync(path.join(folder, 'catalog.csv'), lines.join(''))
  return folder
}

/** How many descriptors of this process are open on files in a folder of the host. */
export function openIn(folder) {
  const links = fs.readdirSync('/proc/self/fd').map(fd => {
    try {
      return fs.readlinkSync(`/proc/self/fd/${fd}`)
    } catch {
      return '' // The descriptor of the listing itself.
    }
  })
  return links.filter(target => target.startsWith(folder)).length
}

/** What a request answers: the sum of its 64 products. */
export const sumOf = n =>
  Array.from({ length: 64 }, (_, i) => centsOf((n * 31 + i * 1009) % PRODUCTS)).reduce(
    (sum, cents) => sum + cents
  )

let folder
function sharedFolder() {
  if (folder === undefined) {
    folder = makeFolder()
    process.on('exit', () => fs.rmSync(folder, { recursive: true }))
  }
  return folder
}

/** Boots the program in a folder: `source` is its bytes, or a module. */
export async function bootIn(directory, source = CATALOG) {
  const wasi = new WASI({ version: 'preview1', preopens: { '/data': directory } })
  const state = wasiState(wasi)
  const made = await WebAssembly.instantiate(source, wasi.getImportObject())
  const instance = made.instance ?? made
  wasi.initialize(instance)
  return { wasi, instance, state, c: instance.exports }
}

/** Has it read its catalog. */
export function loadCatalog({ c }) {
  const count = c.load()
  if (count !== PRODUCTS) throw new Error(`the catalog was not read: ${count}`)
}

// A thread compiles it once.
let module

export const program = {
  name: 'a C program under node:wasi',
  nodes: '>=20',
  poolOptions: () => ({
    make: () => bootIn(sharedFolder()),
    init: ({ value }) => loadCatalog(value),
    state: [({ value }) => value.state()],
    destroy: ({ value }) => value.state.close()
  }),
  async boot() {
    module ??= await WebAssembly.compile(CATALOG)
    const value = await bootIn(sharedFolder(), module)
    loadCatalog(value)
    return value
  },
  request: ({ value }, n) => value.c.request(n),
  check: (answer, n) => assert.equal(answer, sumOf(n)),
  digest: ({ value }) => [value.c.digest(), value.c.open_many(1, 0)],
  // node:wasi never closes what its program has open.
  close: value => value.state.close()
}
