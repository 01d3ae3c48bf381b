'use strict'

// Names while processes replace each other, alter files, reuse numbers of descriptors, and are
// killed at any moment.

const { churn } = require('./share/churn')

test('a finder gets what was published under the name or an error, and nothing is left', async () => {
  const { found, wrong, killed, left } = await churn(3000)
  expect({ wrong, left }).toEqual({ wrong: 0, left: [] })
  expect(found).toBeGreaterThan(1000)
  expect(killed).toBeGreaterThan(0)
})
