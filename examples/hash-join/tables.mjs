// The customers and orders that the example joins.
//
// Rows follow from their numbers, so the expected result can be calculated. Orders come in rounds.
// In each round, every number below `numbers` has one order, in a scattered sequence. The first
// `customers` of these numbers are customers; orders of the others match nobody.

import { readSync } from 'node:fs'
import { open } from 'node:fs/promises'

export const CUSTOMER_BYTES = 48 // see join.c
export const ORDER_BYTES = 40
export const GROUP_COUNT = 256
const COUNTRIES = 24 // 1 to 24
const ROUNDS = 16
const STRIDE = 2 ** 20

/** How many rows there are if the orders take at most this many bytes. */
export function tablesOf(orderBytes) {
  // Odd, so that steps of STRIDE reach every number once.
  const numbers = (Math.floor(orderBytes / ORDER_BYTES / ROUNDS) - 1) | 1
  return { numbers, customers: numbers - Math.ceil(numbers / 16), orders: numbers * ROUNDS }
}

const idOf = number => Math.imul(number, 0x9e3779b1) >>> 0 // distinct for each number
const countryOf = number => 1 + (number % COUNTRIES)
const centsOf = (number, round) => 100 + (number % 1000) + 7 * round

/** Returns a function for `dataset` that writes the customers. */
export function makeCustomers({ customers }) {
  const row = Buffer.alloc(CUSTOMER_BYTES)
  row.write('somebody, of some street in some town', 8)
  let number = 0
  return makeRows(customers, row, (words, word) => {
    words[word] = idOf(number)
    words[word + 1] = countryOf(number++)
  })
}

/** Returns a function for `dataset` that writes the orders. */
export function makeOrders({ orders, numbers }) {
  const row = Buffer.alloc(ORDER_BYTES)
  row.write('ordered by telephone', 16)
  let order = 0
  let number = 0
  return makeRows(orders, row, (words, word) => {
    words[word] = idOf(number)
    words[word + 1] = centsOf(number, Math.floor(order / numbers))
    words[word + 2] = order++ // seconds
    words[word + 3] = number % 5000 // product
    number = (number + STRIDE) % numbers
  })
}

/** Writes rows. `set` fills in each one, at a word of the buffer. */
function makeRows(count, row, set) {
  return async (path, onProgress) => {
    const bytes = Buffer.alloc(row.length * 2 ** 15, row)
    const words = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4)
    const file = await open(path, 'wx')
    try {
      for (let written = 0; written < count;) {
        const length = Math.min(bytes.length, (count - written) * row.length)
        for (let word = 0; word < length / 4; word += row.length / 4) set(words, word)
        await file.appendFile(bytes.subarray(0, length))
        written += length / row.length
        onProgress(written / count)
      }
    } finally {
      await file.close()
    }
  }
}

const noGroups = () => Array.from({ length: GROUP_COUNT }, () => ({ orders: 0, cents: 0 }))

/** The expected groups. */
export function calculateGroups({ customers }) {
  const groups = noGroups()
  for (let number = 0; number < customers; number++) {
    let cents = 0
    for (let round = 0; round < ROUNDS; round++) cents += centsOf(number, round)
    const group = groups[countryOf(number)]
    group.orders += ROUNDS
    group.cents += cents
  }
  return groups
}

/** The groups according to plain JavaScript, with a Map of all customers. */
export function joinInJavaScript(customersFd, ordersFd, tables, onProgress) {
  const countries = new Map()
  for (const bytes of blocksOf(customersFd, tables.customers * CUSTOMER_BYTES)) {
    for (let row = 0; row < bytes.length; row += CUSTOMER_BYTES) {
      countries.set(bytes.readUInt32LE(row), bytes.readUInt32LE(row + 4))
    }
  }
  const groups = noGroups()
  let doneBytes = 0
  for (const bytes of blocksOf(ordersFd, tables.orders * ORDER_BYTES)) {
    for (let row = 0; row < bytes.length; row += ORDER_BYTES) {
      const country = countries.get(bytes.readUInt32LE(row))
      if (country === undefined) continue
      groups[country].orders++
      groups[country].cents += bytes.readUInt32LE(row + 4)
    }
    doneBytes += bytes.length
    onProgress(doneBytes / (tables.orders * ORDER_BYTES))
  }
  return groups
}

/** Reads a file in blocks of whole rows. */
function* blocksOf(fd, byteLength) {
  const buffer = Buffer.alloc(CUSTOMER_BYTES * ORDER_BYTES * 2 ** 10)
  for (let start = 0; start < byteLength; start += buffer.length) {
    const block = buffer.subarray(0, Math.min(buffer.length, byteLength - start))
    for (let done = 0; done < block.length;) {
      const read = readSync(fd, block, done, block.length - done, start + done)
      if (read === 0) throw new Error('the file became shorter')
      done += read
    }
    yield block
  }
}
