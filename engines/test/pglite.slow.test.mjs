// A suite of 200 tests on one instance, against new instances and clones: at least 100 times
// sooner, and the contents are the same after each reset.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { measure } from '../support/pg-resets.mjs'

test('200 resets: each at least 100 times sooner than an instance or a clone', async () => {
  const reset = await measure('checkpoint(pg)', 200)
  const fresh = await measure('a new instance', 5)
  const clone = await measure('pg.clone()', 5)
  assert.deepEqual(reset.contents, fresh.contents)
  assert.equal(reset.contents.length, 1)
  // A clone recovers from the log, which moves sequences on: it is the same as other clones.
  assert.equal(clone.contents.length, 1)
  assert.ok(fresh.median >= 100 * reset.median, `${fresh.median} ms and ${reset.median} ms`)
  assert.ok(clone.median >= 100 * reset.median, `${clone.median} ms and ${reset.median} ms`)
})
