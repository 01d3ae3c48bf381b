// PHP as WordPress Playground has it: @php-wasm/universal, and PHP 8.3 of @php-wasm/node-8-3.
//
// @php-wasm/node is not needed, which adds to the same runtime proxies to the network, file locks
// across processes, and mounts of the host's folders.

import assert from 'node:assert/strict'
import { PHP, loadPHPRuntime, __private__dont__use as RUNTIME } from '@php-wasm/universal'
import { phpPending, phpState, preparePhp } from 'wasm-hostmap/php'
import { DIGEST, answerOf, pageOf } from './php-scripts.mjs'

/** The builds that this Node.js can run. Node.js 24 and later have JSPI. */
export const BUILDS =
  typeof WebAssembly.Suspending === 'function' ? ['asyncify', 'jspi'] : ['asyncify']

/** The build that the package itself takes. */
export const BUILD = BUILDS.at(-1)

const packageUrl = import.meta.resolve('@php-wasm/node-8-3')

/** A PHP that has just been loaded. */
export async function makePhp(build = BUILD) {
  const loader = await import(new URL(`./${build}/php_8_3.js`, packageUrl))
  return new PHP(await loadPHPRuntime(loader))
}

/** The Emscripten module of a PHP. */
export const moduleOf = php => php[RUNTIME]

/** Options of a pool of such. */
export const poolOptions = (build = BUILD) => ({
  make: () => makePhp(build),
  init: ({ value: php }) => preparePhp(php),
  state: [({ value: php }) => phpState(php)()],
  pending: phpPending,
  accept: ['grown-memory']
})

/** What PHP shows of itself, parsed. */
export async function digestOf(php) {
  const { text } = await php.run({ code: DIGEST })
  return JSON.parse(text)
}

export const program = {
  name: 'PHP',
  package: '@php-wasm/node-8-3',
  bar: 100,
  nodes: '>=20',
  poolOptions: () => poolOptions(),
  async request({ value: php }, n) {
    const { text } = await php.run({ code: pageOf(n) })
    return JSON.parse(text)
  },
  check({ page, ...answer }, n) {
    assert.match(page, /^[0-9a-f]{32}$/)
    assert.deepEqual(answer, answerOf(n))
  },
  digest: ({ value: php }) => digestOf(php)
}
