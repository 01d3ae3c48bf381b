'use strict'

// Every instruction that touches a linear memory, and the module that has them all.

const { assemble } = require('../support/wasm')
const {
  SOURCE,
  SOURCE_AT,
  SCRATCH_AT,
  MEMORIES,
  MINIMUM,
  MAXIMUM,
  at,
  target,
  edge,
  noise
} = require('./ground')

/**
 * `body` is WAT: what is left on the stack is an i64, by which a load shows what it saw. `ADDRESS`
 * stands for the address, `AT` for its type, `$v` is the value to store.
 *
 * @param rest.memories the kinds of memories that it can be done to, if not all
 * @param rest.where the address, if not the target's
 * @param rest.exact whether it touches the target and nothing before it
 * @param rest.update whether the page must be writable, even where nothing is written in the end
 * @param rest.touches whether it touches the bytes at all
 */
const wasm = (family, name, body, { where = target, ...rest } = {}) => ({
  family,
  name,
  side: 'wasm',
  exists: true,
  body,
  where,
  ...rest
})

const VALUE = '(local.get $v)'
const NOTHING = '(i64.const 0)'
const wide = load => `(local.set $w ${load})
  (i64.add (i64x2.extract_lane 0 (local.get $w)) (i64x2.extract_lane 1 (local.get $w)))`
const vector = `(i64x2.splat ${VALUE})`
const extended = (type, value) => (type === 'i32' ? `(i64.extend_i32_u ${value})` : value)
const wrapped = (type, value) => (type === 'i32' ? `(i32.wrap_i64 ${value})` : value)

/** The bytes at the target, as a constant of so many bits. */
const expected = (type, bits) =>
  `(${type}.const ${BigInt.asUintN(bits, noise.readBigUInt64LE(target - at))})`
const unexpected = (type, bits) =>
  `(${type}.const ${BigInt.asUintN(bits, ~noise.readBigUInt64LE(target - at))})`

/**
 * In both ways to give an address: as a value, and as a constant below the memory's least size. V8
 * knows that the second one is in bounds, and does not note such an instruction as one that may
 * trap.
 */
const twice = (family, name, body, rest) => [
  wasm(family, name, body, { exact: true, ...rest }),
  wasm(`${family}, constant address`, `${name}, constant address`, body, {
    exact: true,
    constant: true,
    ...rest
  })
]

const loads = [
  ...['i32.load', 'i32.load8_s', 'i32.load8_u', 'i32.load16_s', 'i32.load16_u'].map(name => [
    name,
    extended('i32', `(${name} ADDRESS)`)
  ]),
  ...['', '8_s', '8_u', '16_s', '16_u', '32_s', '32_u'].map(form => [
    `i64.load${form}`,
    `(i64.load${form} ADDRESS)`
  ]),
  ['f32.load', extended('i32', '(i32.reinterpret_f32 (f32.load ADDRESS))')],
  ['f64.load', '(i64.reinterpret_f64 (f64.load ADDRESS))']
]

const stores = [
  ...['i32.store', 'i32.store8', 'i32.store16'].map(name => [name, wrapped('i32', VALUE)]),
  ...['i64.store', 'i64.store8', 'i64.store16', 'i64.store32'].map(name => [name, VALUE]),
  ['f32.store', `(f32.reinterpret_i32 ${wrapped('i32', VALUE)})`],
  ['f64.store', `(f64.reinterpret_i64 ${VALUE})`]
]

const VECTOR_LOADS = ['8x8_s', '8x8_u', '16x4_s', '16x4_u', '32x2_s', '32x2_u']
const VECTOR_SPLATS = ['8_splat', '16_splat', '32_splat', '64_splat', '32_zero', '64_zero']

const LANES = [
  [8, 3],
  [16, 2],
  [32, 1],
  [64, 1]
]

// The instruction without its sign, in each width that there is.
const ATOMIC_WIDTHS = [
  ['i32', 32, '', ''],
  ['i32', 8, '8', '_u'],
  ['i32', 16, '16', '_u'],
  ['i64', 64, '', ''],
  ['i64', 8, '8', '_u'],
  ['i64', 16, '16', '_u'],
  ['i64', 32, '32', '_u']
]

const atomics = ATOMIC_WIDTHS.flatMap(([type, bits, width, sign]) => {
  const value = wrapped(type, VALUE)
  const load = `${type}.atomic.load${width}${sign}`
  const store = `${type}.atomic.store${width}`
  const name = operation => `${type}.atomic.rmw${width}.${operation}${sign}`
  const rmw = (family, operation, operands) =>
    twice(family, name(operation), extended(type, `(${name(operation)} ADDRESS ${operands})`))
  return [
    ...twice('atomic load', load, extended(type, `(${load} ADDRESS)`)),
    ...twice('atomic store', store, `(${store} ADDRESS ${value}) ${NOTHING}`),
    ...['add', 'sub', 'and', 'or', 'xor'].flatMap(operation =>
      rmw('atomic arithmetic', operation, value)
    ),
    ...rmw('atomic exchange', 'xchg', value),
    ...rmw('atomic exchange', 'cmpxchg', `${expected(type, bits)} ${value}`),
    ...twice(
      'atomic exchange that finds another value',
      `${name('cmpxchg')} that finds another value`,
      extended(type, `(${name('cmpxchg')} ADDRESS ${unexpected(type, bits)} ${value})`),
      { update: true }
    )
  ]
})

const length = count => `(AT.const ${count})`
const THREE_PAGES = 2 * (target - edge)

const bulk = [
  wasm(
    'memory.fill',
    'memory.fill',
    `(memory.fill ADDRESS (i32.const 7) (local.get $n)) ${NOTHING}`
  ),
  wasm(
    'memory.fill',
    'memory.fill of 8 bytes',
    `(memory.fill ADDRESS (i32.const 7) ${length(8)}) ${NOTHING}`,
    {
      constant: true
    }
  ),
  wasm(
    'memory.fill',
    'memory.fill over three pages',
    `(memory.fill ADDRESS (i32.const 7) ${length(THREE_PAGES)}) ${NOTHING}`,
    { where: edge }
  ),
  wasm(
    'memory.init',
    'memory.init',
    `(memory.init $bytes ADDRESS (i32.const 0) (i32.const 64)) ${NOTHING}`
  ),
  wasm(
    'memory.copy into it',
    'memory.copy into it',
    `(memory.copy ADDRESS ${length(SOURCE_AT)} (local.get $n)) ${NOTHING}`
  ),
  wasm(
    'memory.copy into it',
    'memory.copy of 8 bytes into it',
    `(memory.copy ADDRESS ${length(SOURCE_AT)} ${length(8)}) ${NOTHING}`,
    { constant: true }
  ),
  wasm(
    'memory.copy into it',
    'memory.copy over three pages of it',
    `(memory.copy ADDRESS ${length(0)} ${length(THREE_PAGES)}) ${NOTHING}`,
    { where: edge }
  ),
  wasm(
    'memory.copy out of it',
    'memory.copy out of it',
    `(memory.copy ${length(SCRATCH_AT)} ADDRESS (local.get $n)) (i64.load ${length(SCRATCH_AT)})`
  ),
  wasm(
    'memory.copy out of it',
    'memory.copy of 8 bytes out of it',
    `(memory.copy ${length(SCRATCH_AT)} ADDRESS ${length(8)}) (i64.load ${length(SCRATCH_AT)})`,
    { constant: true }
  ),
  wasm(
    'memory.copy inside it',
    'memory.copy inside it',
    `(memory.copy (AT.add ADDRESS ${length(128)}) ADDRESS (local.get $n)) ${NOTHING}`
  )
]

const waiting = [
  ['memory.atomic.wait32', 'i32', 32],
  ['memory.atomic.wait64', 'i64', 64]
].flatMap(([name, type, bits]) => {
  const wait = value => `(i64.extend_i32_u (${name} ADDRESS ${value} (i64.const 0)))`
  return [
    ...twice('atomic wait', name, wait(expected(type, bits)), { memories: ['shared'] }),
    wasm('atomic wait', `${name} that finds another value`, wait(unexpected(type, bits)), {
      memories: ['shared']
    })
  ]
})

const wasmAccesses = [
  ...loads.flatMap(([name, body]) => twice('plain load', name, body)),
  wasm('plain load', 'i64.load over the edge of a page', '(i64.load ADDRESS)', { where: edge - 3 }),
  ...stores.flatMap(([name, value]) =>
    twice('plain store', name, `(${name} ADDRESS ${value}) ${NOTHING}`)
  ),
  wasm(
    'plain store',
    'i64.store over the edge of a page',
    `(i64.store ADDRESS ${VALUE}) ${NOTHING}`,
    {
      where: edge - 3
    }
  ),
  ...twice('SIMD load', 'v128.load', wide('(v128.load ADDRESS)')),
  wasm('SIMD load', 'v128.load over the edge of a page', wide('(v128.load ADDRESS)'), {
    where: edge - 3
  }),
  ...[...VECTOR_LOADS, ...VECTOR_SPLATS].flatMap(form =>
    twice(
      'SIMD load that extends or splats',
      `v128.load${form}`,
      wide(`(v128.load${form} ADDRESS)`)
    )
  ),
  ...LANES.flatMap(([bits, lane]) =>
    twice(
      'SIMD load of a lane',
      `v128.load${bits}_lane`,
      wide(`(v128.load${bits}_lane ${lane} ADDRESS ${vector})`)
    )
  ),
  ...twice('SIMD store', 'v128.store', `(v128.store ADDRESS ${vector}) ${NOTHING}`),
  wasm(
    'SIMD store',
    'v128.store over the edge of a page',
    `(v128.store ADDRESS ${vector}) ${NOTHING}`,
    {
      where: edge - 3
    }
  ),
  ...LANES.flatMap(([bits, lane]) =>
    twice(
      'SIMD store of a lane',
      `v128.store${bits}_lane`,
      `(v128.store${bits}_lane ${lane} ADDRESS ${vector}) ${NOTHING}`
    )
  ),
  ...bulk,
  ...atomics,
  ...waiting,
  ...twice(
    'atomic notify',
    'memory.atomic.notify',
    '(i64.extend_i32_u (memory.atomic.notify ADDRESS (i32.const 1)))',
    {
      touches: false
    }
  )
].map((access, index) => ({ ...access, index }))

const hex = bytes => [...bytes].map(byte => `\\${byte.toString(16).padStart(2, '0')}`).join('')

/**
 * `access(i, p, v, n)` does access i. `activate` does it too, and then reads out of bounds in the
 * same activation. `viaHost` calls the import `env.host` instead and then does the same. `stage` is
 * 1 when the access is over, and `seen` is what it gave.
 */
function wat({ address, shared }) {
  const type = `${address === 'i64' ? 'i64 ' : ''}${MINIMUM} ${MAXIMUM}${shared ? ' shared' : ''}`
  const functions = wasmAccesses.map(({ body, constant, where }) => {
    const place = constant ? `(AT.const ${where})` : '(local.get $p)'
    return `(func (type $access) (param $p AT) (param $v i64) (param $n AT) (result i64) (local $w v128)
      ${body.replaceAll('ADDRESS', place)})`
  })
  const text = `(module
    (import "env" "memory" (memory ${type}))
    (import "env" "host" (func $host))
    (type $access (func (param AT i64 AT) (result i64)))
    (table $accesses funcref (elem ${wasmAccesses.map((_, i) => i + 1).join(' ')}))
    (data $bytes "${hex(SOURCE)}")
    (global $stage (export "stage") (mut i32) (i32.const 0))
    (global $seen (export "seen") (mut i64) (i64.const 0))
    ${functions.join('\n')}

    (func $access (export "access") (param $i i32) (param $p AT) (param $v i64) (param $n AT) (result i64)
      (call_indirect $accesses (type $access) (local.get $p) (local.get $v) (local.get $n) (local.get $i)))

    (func $outOfBounds (export "outOfBounds")
      (drop (i32.load (AT.mul (memory.size) (AT.const 65536)))))

    (func (export "activate") (param $i i32) (param $p AT) (param $v i64) (param $n AT)
      (global.set $stage (i32.const 0))
      (global.set $seen (call $access (local.get $i) (local.get $p) (local.get $v) (local.get $n)))
      (global.set $stage (i32.const 1))
      (call $outOfBounds))

    (func (export "viaHost")
      (global.set $stage (i32.const 0))
      (call $host)
      (global.set $stage (i32.const 1))
      (call $outOfBounds))

    (func (export "grow") (drop (memory.grow (AT.const 1))))
    (func (export "store8") (param $p AT) (i32.store8 (local.get $p) (i32.const 1))))`
  return text.replaceAll('AT', address)
}

/** The module for memories of this kind, compiled. */
async function compileAccesses(memory) {
  return new WebAssembly.Module(await assemble(wat(MEMORIES[memory])))
}

module.exports = { wasmAccesses, compileAccesses }
