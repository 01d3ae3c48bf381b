// What the programs in QuickJS run: a library that each boot evaluates, requests that use it, and
// what a fresh boot shows of itself.

/** Evaluated once in a boot: templates, and an index of 4,000 products. */
export const PRELUDE = `
globalThis.shop = (() => {
  const things = 'chair lamp kettle ladder shelf basket clock brush bowl frame rope'.split(' ')
  const materials = 'oak steel wool glass linen copper paper cork slate wax clay'.split(' ')
  const products = []
  const byWord = new Map()
  for (let id = 0; id < 4000; id++) {
    const words = [materials[(id * 6841) % 11], things[(id * 5903) % 7], 'model-' + (id % 97)]
    products.push({ id, name: words.join(' '), words, cents: 100 + ((id * 3571) % 90000) })
    for (const word of words) {
      if (!byWord.has(word)) byWord.set(word, [])
      byWord.get(word).push(id)
    }
  }
  const render = (text, values) => text.replace(/{(\\w+)}/g, (all, name) => values[name] ?? all)
  return { products, find: word => byWord.get(word) ?? [], render, visits: 0 }
})()`

/** A request's script, by its number: it gives JSON, and leaves much behind. */
export const scriptOf = n => `
(() => {
  const found = shop.find('model-${n % 97}').slice(0, 20).map(id => shop.products[id])
  const cents = found.reduce((sum, it) => sum + it.cents, 0)
  const page = shop.render('<p>{count} products, {cents} cents, visit {visits}</p>', {
    count: found.length, cents, visits: ++shop.visits
  })
  globalThis['leftBy${n}'] = found
  shop.products[${n % 4000}].cents = -1
  Array.prototype.map = () => ['made up']
  Object.prototype.isAdmin = true
  Promise.resolve().then(() => { globalThis.late = ${n} })
  return JSON.stringify({ page, leftovers: Object.keys(globalThis).filter(it => /^left|late/.test(it)) })
})()`

/** The answer of that script, by V8's own arithmetic. */
export function answerOf(n) {
  const ids = Array.from({ length: 4000 }, (_, id) => id).filter(id => id % 97 === n % 97)
  const cents = ids.slice(0, 20).reduce((sum, id) => sum + 100 + ((id * 3571) % 90_000), 0)
  return { page: `<p>20 products, ${cents} cents, visit 1</p>`, leftovers: [`leftBy${n}`] }
}

/** What a boot shows of itself: JSON. It must not depend on what scripts do to the built-ins. */
export const DIGEST = `
JSON.stringify((() => {
  const seen = new Map()
  const walk = (value, depth) => {
    if (typeof value === 'function') return 'function ' + value.name
    if (typeof value !== 'object' || value === null) return String(value)
    if (seen.has(value)) return 'seen ' + seen.get(value)
    seen.set(value, seen.size)
    if (depth > 4) return 'deep'
    const entries = {}
    for (const key of Reflect.ownKeys(value)) {
      const { get, set, value: inside } = Reflect.getOwnPropertyDescriptor(value, key)
      entries[String(key)] = get || set ? 'accessor' : walk(inside, depth + 1)
    }
    return entries
  }
  let sum = 0
  for (const { cents } of shop.products) sum = (sum * 31 + cents) % 1000000007
  const names = walk(globalThis, 0)
  delete names.shop
  delete names.performance // its timeOrigin is the time of the boot
  return { names, visits: shop.visits, products: shop.products.length, sum }
})())`
