'use strict'

// What JavaScript and Node's own C++ do to the bytes of a memory or a view: the calls, each under
// the name by which the table knows it.

const crypto = require('node:crypto')
const fs = require('node:fs')
const v8 = require('node:v8')
const zlib = require('node:zlib')
const { StringDecoder } = require('node:string_decoder')
const { promisify } = require('node:util')
const buffer = require('node:buffer')
const { at, edge, target, LENGTH, noise, SOURCE, VALUE } = require('./ground')

const text = SOURCE.toString('latin1')
const KEY = Buffer.alloc(16, 3)
const encoder = new TextEncoder()
const lastByte = noise[target - at + LENGTH - 1]
const read = promisify(fs.read)
const write = promisify(fs.write)

/**
 * `run` is given what `bytesFor` makes, and what it returns is what it saw.
 *
 * @param rest.exists whether this Node.js has it
 * @param rest.memories the kinds of memories that it can be done to, `none` for views; if not all
 * @param rest.update whether the page must be writable, even where nothing is written in the end
 * @param rest.everywhere whether it touches all of the buffer
 * @param rest.touches whether it touches the bytes at all
 * @param rest.random whether it writes other bytes each time
 * @param rest.later whether it gives a promise: its work is done on another thread
 */
const js = (family, name, run, rest) => ({ family, name, side: 'js', run, exists: true, ...rest })

const has = method => method in Uint8Array.prototype

const TYPES = [
  ...[
    'Int8Array',
    'Uint8Array',
    'Uint8ClampedArray',
    'Int16Array',
    'Uint16Array',
    'Int32Array',
    'Uint32Array'
  ],
  ...['Float16Array', 'Float32Array', 'Float64Array', 'BigInt64Array', 'BigUint64Array']
]

/** All that an access needs of the bytes behind a buffer, where the target is at `where`. */
function bytesFor(arrayBuffer, where) {
  const arrays = {}
  for (const type of TYPES) if (type in globalThis) arrays[type] = new globalThis[type](arrayBuffer)
  const whole = arrays.Uint8Array
  return {
    ...arrays,
    where,
    end: where + LENGTH,
    // Three pages, and bytes before them that are always there.
    from: where - (target - edge),
    to: where + (target - edge),
    low: where - (target - at) + 64,
    whole,
    part: whole.subarray(where, where + LENGTH),
    data: new DataView(arrayBuffer),
    bytes: Buffer.from(arrayBuffer, where, LENGTH)
  }
}

// A function of its own for each type, as scripts have it, so that the optimizing compiler sees one
// type.
const element = (type, code) => new Function('t', 'value', code.replaceAll('ARRAY', `t.${type}`))
const valueOf = type => (/Big/.test(type) ? VALUE : 49)

const elements = TYPES.flatMap(type => {
  const exists = type in globalThis
  const index = `t.where / ${Number(/\d+/.exec(type)) / 8}`
  const value = valueOf(type)
  const getElement = element(type, `return ARRAY[${index}]`)
  const setElement = element(type, `ARRAY[${index}] = value`)
  const addElement = element(type, `ARRAY[${index}] += value`)
  return [
    js('element read', `${type}[i]`, t => getElement(t), { inner: getElement, exists }),
    js('element write', `${type}[i] = x`, t => setElement(t, value), { inner: setElement, exists }),
    js('element write', `${type}[i] += x`, t => addElement(t, value), { inner: addElement, exists })
  ]
})

const VIEWS = [
  'Int8',
  'Uint8',
  'Int16',
  'Uint16',
  'Int32',
  'Uint32',
  'Float16',
  'Float32',
  'Float64',
  'BigInt64',
  'BigUint64'
]
const dataViews = VIEWS.flatMap(type => {
  const exists = `get${type}` in DataView.prototype
  const value = valueOf(type)
  const get = new Function('t', `return t.data.get${type}(t.where, true)`)
  const set = new Function('t', 'value', `t.data.set${type}(t.where, value, true)`)
  return [
    js('DataView get', `DataView get${type}`, t => get(t), { inner: get, exists }),
    js('DataView set', `DataView set${type}`, t => set(t, value), { inner: set, exists })
  ]
})

const ATOMIC_TYPES = [
  'Int8Array',
  'Uint8Array',
  'Int16Array',
  'Uint16Array',
  'Int32Array',
  'Uint32Array',
  'BigInt64Array',
  'BigUint64Array'
]
const atomics = ATOMIC_TYPES.flatMap(type => {
  const bytes = globalThis[type].BYTES_PER_ELEMENT
  const value = valueOf(type)
  const [there] = new globalThis[type](
    Uint8Array.from(noise.subarray(target - at, target - at + bytes)).buffer
  )
  const other = /Big/.test(type) ? there ^ 1n : there ^ 1
  const call = (method, operands = '') =>
    new Function(
      't',
      'x',
      'y',
      `return Atomics.${method}(t.${type}, t.where / ${bytes}${operands})`
    )
  const simple = ['add', 'sub', 'and', 'or', 'xor', 'exchange'].map(method => {
    const run = call(method, ', x')
    return js('Atomics read-modify-write', `Atomics.${method}(${type})`, t => run(t, value), {
      inner: run
    })
  })
  const [load, store, exchange] = [
    call('load'),
    call('store', ', x'),
    call('compareExchange', ', x, y')
  ]
  return [
    js('Atomics.load', `Atomics.load(${type})`, t => load(t), { inner: load }),
    js('Atomics.store', `Atomics.store(${type})`, t => void store(t, value), { inner: store }),
    ...simple,
    js(
      'Atomics read-modify-write',
      `Atomics.compareExchange(${type})`,
      t => exchange(t, there, value),
      {
        inner: exchange
      }
    ),
    js(
      'Atomics exchange that finds another value',
      `Atomics.compareExchange(${type}) that finds another value`,
      t => exchange(t, other, value),
      { update: true }
    )
  ]
})

const word = noise.readInt32LE(target - at)
const longWord = noise.readBigInt64LE(target - at)
const waiting = [
  ...[
    ['Atomics.wait(Int32Array)', t => Atomics.wait(t.Int32Array, t.where / 4, word, 0)],
    ['Atomics.wait(BigInt64Array)', t => Atomics.wait(t.BigInt64Array, t.where / 8, longWord, 0)],
    [
      'Atomics.waitAsync(Int32Array)',
      t => Atomics.waitAsync(t.Int32Array, t.where / 4, word, 0).value
    ]
  ].map(([name, run]) => js('Atomics.wait', name, run, { memories: ['shared'] })),
  js(
    'Atomics.notify',
    'Atomics.notify(Int32Array)',
    t => Atomics.notify(t.Int32Array, t.where / 4, 1),
    {
      touches: false
    }
  )
]

const arrays = [
  js('typed array, reading', 'at', t => t.part.at(5)),
  js('typed array, reading', 'slice', t => t.part.slice()),
  js('typed array, reading', 'indexOf', t => t.part.indexOf(lastByte)),
  js('typed array, reading', 'lastIndexOf', t => t.part.lastIndexOf(lastByte)),
  js('typed array, reading', 'includes', t => t.part.includes(lastByte)),
  js('typed array, reading', 'join', t => t.part.join()),
  js('typed array, reading', 'toString', t => String(t.part)),
  js('typed array, reading', 'reduce', t => t.part.reduce((sum, byte) => sum + byte, 0)),
  js('typed array, reading', 'map', t => t.part.map(byte => byte ^ 1)),
  js('typed array, reading', 'filter', t => t.part.filter(byte => byte > 100)),
  js('typed array, reading', 'every', t => t.part.every(byte => byte === 0)),
  js('typed array, reading', 'for of', t => {
    let sum = 0
    for (const byte of t.part) sum += byte
    return sum
  }),
  js('typed array, reading', 'toSorted', t => t.part.toSorted()),
  js('typed array, reading', 'toReversed', t => t.part.toReversed()),
  js('typed array, reading', 'with', t => t.part.with(0, 1)),
  js('typed array, reading', 'Array.from', t => Array.from(t.part)),
  js('typed array, reading', 'new Uint8Array(of it)', t => new Uint8Array(t.part)),
  js('typed array, reading', 'new Float64Array(of it)', t => new Float64Array(t.part)),
  js('typed array, reading', 'set from it', t => {
    const copy = new Uint8Array(LENGTH)
    copy.set(t.part)
    return copy
  }),
  js('typed array, reading', 'set from it, another type', t => {
    const copy = new Uint32Array(LENGTH)
    copy.set(t.part)
    return copy
  }),
  js('typed array, reading', 'toHex', t => t.part.toHex(), { exists: has('toHex') }),
  js('typed array, reading', 'toBase64', t => t.part.toBase64(), { exists: has('toBase64') }),
  js('typed array, reading', 'structuredClone', t => structuredClone(t.part), { everywhere: true }),
  js('typed array, reading', 'v8.serialize', t => v8.serialize(t.part)),

  js('typed array, writing', 'fill', t => void t.part.fill(7)),
  js('typed array, writing', 'fill over three pages', t => void t.whole.fill(7, t.from, t.to), {
    where: edge
  }),
  js(
    'typed array, writing',
    'fill of Float64Array',
    t => void t.Float64Array.fill(7, t.where / 8, t.end / 8)
  ),
  js('typed array, writing', 'set(Array)', t => t.part.set([...SOURCE])),
  js('typed array, writing', 'set(Uint8Array)', t => t.part.set(SOURCE)),
  js('typed array, writing', 'set(Float64Array)', t => t.part.set(Float64Array.from(SOURCE))),
  js(
    'typed array, writing',
    'copyWithin',
    t => void t.whole.copyWithin(t.where, t.low, t.low + LENGTH)
  ),
  js(
    'typed array, writing',
    'copyWithin, reading and writing',
    t => void t.part.copyWithin(32, 0, 32)
  ),
  js('typed array, writing', 'setFromHex', t => void t.part.setFromHex(SOURCE.toString('hex')), {
    exists: has('setFromHex')
  }),
  js(
    'typed array, writing',
    'setFromBase64',
    t => void t.part.setFromBase64(SOURCE.toString('base64')),
    {
      exists: has('setFromBase64')
    }
  ),
  js('typed array, sorting', 'subarray().sort()', t => void t.part.subarray().sort(), {
    update: true
  }),
  js('typed array, sorting', 'sort(compare)', t => void t.part.sort((a, b) => b - a), {
    update: true
  }),
  js(
    'typed array, sorting',
    'sort of Float64Array',
    t => void t.Float64Array.subarray(t.where / 8, t.end / 8).sort(),
    {
      update: true
    }
  ),
  js('typed array, sorting', 'reverse', t => void t.part.reverse(), { update: true })
]

const ENCODINGS = ['latin1', 'utf8', 'utf16le', 'hex', 'base64', 'ascii']
const buffers = [
  ...ENCODINGS.map(encoding =>
    js('Buffer, reading', `Buffer toString ${encoding}`, t => t.bytes.toString(encoding))
  ),
  js('Buffer, reading', 'Buffer readUInt32LE', t => t.bytes.readUInt32LE(0)),
  js('Buffer, reading', 'Buffer readDoubleBE', t => t.bytes.readDoubleBE(0)),
  js('Buffer, reading', 'Buffer readBigInt64LE', t => t.bytes.readBigInt64LE(0)),
  js('Buffer, reading', 'Buffer compare', t => t.bytes.compare(SOURCE)),
  js('Buffer, reading', 'Buffer equals', t =>
    t.bytes.equals(noise.subarray(target - at, target - at + LENGTH))
  ),
  js('Buffer, reading', 'Buffer indexOf(byte)', t => t.bytes.indexOf(lastByte)),
  js('Buffer, reading', 'Buffer indexOf(Buffer)', t =>
    t.bytes.indexOf(noise.subarray(target - at + 40, target - at + 48))
  ),
  js('Buffer, reading', 'Buffer copy out of it', t => {
    const copy = Buffer.alloc(LENGTH)
    t.bytes.copy(copy)
    return copy
  }),
  js('Buffer, reading', 'Buffer.from', t => Buffer.from(t.part)),
  js('Buffer, reading', 'Buffer.concat', t => Buffer.concat([t.part, t.part])),
  js('Buffer, reading', 'isUtf8', t => buffer.isUtf8(t.part)),
  js('Buffer, reading', 'transcode', t => buffer.transcode(t.part, 'latin1', 'utf8')),

  js('Buffer, writing', 'Buffer write latin1', t => void t.bytes.write(text, 'latin1')),
  js('Buffer, writing', 'Buffer write utf8', t => void t.bytes.write(text, 'utf8')),
  js('Buffer, writing', 'Buffer write utf16le', t => void t.bytes.write(text.slice(32), 'utf16le')),
  js('Buffer, writing', 'Buffer write hex', t => void t.bytes.write(SOURCE.toString('hex'), 'hex')),
  js(
    'Buffer, writing',
    'Buffer write base64',
    t => void t.bytes.write(SOURCE.toString('base64'), 'base64')
  ),
  js('Buffer, writing', 'Buffer fill(byte)', t => void t.bytes.fill(7)),
  js('Buffer, writing', 'Buffer fill(text)', t => void t.bytes.fill('ab')),
  js('Buffer, writing', 'Buffer writeUInt32LE', t => void t.bytes.writeUInt32LE(0x31726354)),
  js('Buffer, writing', 'Buffer writeDoubleBE', t => void t.bytes.writeDoubleBE(Math.PI)),
  js('Buffer, writing', 'Buffer copy into it', t => void SOURCE.copy(t.bytes)),
  js('Buffer, writing', 'Buffer swap16', t => void t.bytes.swap16(), { update: true }),
  js('Buffer, writing', 'Buffer swap64', t => void t.bytes.swap64(), { update: true })
]

const decoders = [
  ...['utf-8', 'windows-1252', 'utf-16le'].map(label =>
    js('TextDecoder', `TextDecoder ${label}`, t => new TextDecoder(label).decode(t.part))
  ),
  js('TextDecoder', 'StringDecoder utf8', t => new StringDecoder('utf8').end(t.bytes)),
  js('TextEncoder', 'TextEncoder encodeInto', t => void encoder.encodeInto(text, t.part))
]

// Files by which the kernel itself reads and writes: `t.files` has descriptors of one with the
// source and an empty one.
const written = t => fs.readFileSync(`/proc/self/fd/${t.files.empty}`).subarray(0, LENGTH)
const files = [
  js(
    'system call, reading from it',
    'fs.writeSync',
    t => fs.writeSync(t.files.empty, t.part, 0, LENGTH, 0) && written(t)
  ),
  js(
    'system call, reading from it',
    'fs.writevSync',
    t => fs.writevSync(t.files.empty, [t.part], 0) && written(t)
  ),
  js(
    'system call, reading from it',
    'fs.write, on another thread',
    async t => (await write(t.files.empty, t.part, 0, LENGTH, 0)) && written(t),
    { later: true }
  ),
  js(
    'system call, writing into it',
    'fs.readSync',
    t => void fs.readSync(t.files.source, t.part, 0, LENGTH, 0)
  ),
  js(
    'system call, writing into it',
    'fs.readvSync',
    t => void fs.readvSync(t.files.source, [t.part], 0)
  ),
  js(
    'system call, writing into it',
    'fs.read, on another thread',
    async t => void (await read(t.files.source, t.part, 0, LENGTH, 0)),
    { later: true }
  )
]

const cryptography = [
  js('crypto, reading', 'createHash', t =>
    crypto.createHash('sha256').update(t.part).digest('hex')
  ),
  js('crypto, reading', 'crypto.hash', t => crypto.hash('sha256', t.part), {
    exists: 'hash' in crypto
  }),
  js('crypto, reading', 'createHmac', t =>
    crypto.createHmac('sha256', KEY).update(t.part).digest('hex')
  ),
  js('crypto, reading', 'createCipheriv', t =>
    crypto.createCipheriv('aes-128-ctr', KEY, KEY).update(t.part)
  ),
  js('crypto, reading', 'timingSafeEqual', t =>
    crypto.timingSafeEqual(t.part, noise.subarray(target - at, target - at + LENGTH))
  ),
  js(
    'crypto, reading',
    'subtle.digest',
    async t => Buffer.from(await crypto.subtle.digest('SHA-256', t.part)),
    { later: true, memories: ['i32', 'i64', 'none'] }
  ),
  js('crypto, writing', 'randomFillSync', t => void crypto.randomFillSync(t.part), {
    random: true
  }),
  js('crypto, writing', 'getRandomValues', t => void crypto.getRandomValues(t.part), {
    random: true
  }),
  js(
    'crypto, writing',
    'randomFill, on another thread',
    async t => void (await promisify(crypto.randomFill)(t.part)),
    {
      random: true,
      later: true
    }
  ),
  js('zlib, reading', 'zlib.crc32', t => zlib.crc32(t.part), { exists: 'crc32' in zlib }),
  js('zlib, reading', 'zlib.deflateRawSync', t => zlib.deflateRawSync(t.part)),
  js(
    'zlib, reading',
    'zlib.deflateRaw, on another thread',
    t => promisify(zlib.deflateRaw)(t.part),
    {
      later: true
    }
  )
]

const jsAccesses = [
  ...elements,
  ...dataViews,
  ...arrays,
  ...atomics,
  ...waiting,
  ...buffers,
  ...decoders,
  ...files,
  ...cryptography
]

module.exports = { jsAccesses, bytesFor }
