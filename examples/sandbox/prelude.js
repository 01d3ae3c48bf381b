// The interpreter evaluates this once. It is the library that all requests use: a shop's products,
// and an index of their words.

globalThis.shop = (() => {
  const qualities = 'small large plain folding light sturdy round quiet spare blue red'.split(' ')
  const materials = 'oak steel wool glass linen copper paper cork slate wax clay'.split(' ')
  const things = 'chair lamp kettle ladder shelf basket clock brush bowl frame rope'.split(' ')
  const makers = 'Abel Berg Castro Duval Eriksen Fischer Gallo Horvat Ito Jansen'.split(' ')
  const count = 16_000
  // Multiplications by primes scatter the words over the products.
  const pick = (words, id, prime) => words[((id * prime) >>> 7) % words.length]

  const products = []
  const idsByWord = new Map()
  for (let id = 0; id < count; id++) {
    const words = [
      pick(qualities, id, 7919),
      pick(materials, id, 6841),
      pick(things, id, 5903),
      pick(makers, id, 4799),
      `model-${id % 977}`
    ]
    products.push({
      id,
      name: words.join(' '),
      words,
      cents: 100 + ((id * 3571) % 90000),
      stock: id % 23
    })
    for (const word of words) {
      const ids = idsByWord.get(word)
      if (ids) ids.push(id)
      else idsByWord.set(word, [id])
    }
  }

  return {
    products,

    /** Returns the products that have all of these words. */
    find(words) {
      const lists = words.map(word => idsByWord.get(word) ?? [])
      const [shortest] = lists.sort((a, b) => a.length - b.length)
      return shortest
        .map(id => products[id])
        .filter(product => words.every(word => product.words.includes(word)))
    },

    total(lines) {
      return lines.reduce((cents, { id, count }) => cents + products[id].cents * count, 0)
    }
  }
})()
