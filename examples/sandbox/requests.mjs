// The requests: small untrusted scripts with an input. Each looks for what an earlier one left, and
// leaves something behind.

import { readFileSync } from 'node:fs'
import vm from 'node:vm'

/** The first requests include every kind. */
export const FIRST_REQUESTS = 40
const REQUESTS = 1000

/** The script that is evaluated before all requests. */
export const prelude = readFileSync(new URL('prelude.js', import.meta.url), 'utf8')

// These run in the sandbox and, for comparison, in V8.
const scripts = [
  function order({ lines }) {
    const inStock = lines.every(({ id, count }) => shop.products[id].stock >= count)
    return { cents: shop.total(lines), inStock }
  },
  function search({ words }) {
    return shop.find(words).map(({ id }) => id)
  },
  function stock({ from, to }) {
    const left = {}
    for (const { words, stock } of shop.products.slice(from, to))
      left[words[2]] = (left[words[2]] ?? 0) + stock
    return Object.entries(left).sort()
  },
  function receipt({ lines }) {
    const name = id => shop.products[id].name.replace(/\b[a-z]/g, letter => letter.toUpperCase())
    const total = (shop.total(lines) / 100).toFixed(2)
    return [...lines.map(({ id, count }) => `${count} x ${name(id)}`), `total ${total}`].join('\n')
  },
  function missing() {
    try {
      return shop.products[-1].name
    } catch (error) {
      return error.name
    }
  }
]

// By request number.
const misbehaviour = {
  8: {
    name: 'recursion',
    body: '(function dive(n) { return 1 + dive(n + 1) })(0)',
    // Wasm traps below the interpreter's stack, or V8 throws at the end of its own.
    expected: /out of bounds|call stack/
  },
  16: { name: 'endless loop', body: 'for (;;);', expected: /^too many steps/ },
  24: {
    name: 'hog',
    body: 'const all = []; for (;;) all.push(new Uint8Array(2 ** 18).fill(1))',
    expected: /out of memory/
  },
  32: { name: 'throw', body: 'throw new Error("on purpose")', expected: /on purpose/ }
}

const look = `
  const seen = []
  for (const name in {}) seen[seen.length] = name
  for (const name of Object.keys(globalThis)) if (!['performance', 'shop'].includes(name)) seen[seen.length] = name
  const random = Math.random()`

const leave = i => `
  globalThis.loot = ${i}
  Object.prototype.isAdmin = true
  Array.prototype.map = () => ['made up']
  shop.total = () => 0
  shop.products[${i}].stock = -1
  Promise.resolve().then(() => { globalThis.late = ${i} });`

/**
 * @param random what Math.random() returns in the state that all requests start in
 * @returns `{ name, source, expected }` for each: `expected` is the right answer, or matches the
 *   error's message
 */
export function makeRequests(random) {
  const context = vm.createContext()
  vm.runInContext(prelude, context)
  return Array.from({ length: REQUESTS }, (_, i) => {
    if (misbehaviour[i]) {
      const { name, body, expected } = misbehaviour[i]
      return { name, source: inFunction(`${look}${leave(i)}\n  ${body}`), expected }
    }
    const script = scripts[i % scripts.length]
    const call = `(${script})(${JSON.stringify(makeInput(i, context.shop))})`
    const source = inFunction(`${look}
  const text = JSON.stringify({ seen, random, answer: ${call} })${leave(i)}
  return text`)
    const expected = JSON.stringify({ seen: [], random, answer: vm.runInContext(call, context) })
    return { name: script.name, source, expected }
  })
}

const inFunction = body => `(() => {${body}\n})()`

function makeInput(i, { products }) {
  const id = n => (i * 31 + n * 1009) % products.length
  return {
    lines: Array.from({ length: 3 + (i % 6) }, (_, n) => ({ id: id(n), count: 1 + (n % 4) })),
    words: products[id(0)].words.slice(2),
    from: id(0),
    to: id(0) + 100
  }
}
