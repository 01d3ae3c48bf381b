'use strict'

// Every argument of every public function, wrong in every way that it can be. Each row checks the
// error's class, its code, what its message says, and that nothing was mapped, opened or lost.

const { constants } = require('node:buffer')
const { execFileSync } = require('node:child_process')
const fs = require('node:fs')
const net = require('node:net')
const path = require('node:path')
const { pathToFileURL } = require('node:url')
const { isAnyArrayBuffer } = require('node:util/types')
const {
  GuardedMemory,
  HostRegion,
  Mapping,
  Layout,
  Snapshot,
  Window,
  WindowSource,
  limits
} = require('..')
const {
  expectError,
  expectFailure,
  expectNothingNew,
  possessions,
  thrownBy
} = require('./support/errors')
const { temporaryDirectory, noise } = require('./support/files')
const { fdOf, mappingsNamed } = require('./support/procfs')
const { inChild } = require('./support/child')
const { MiB, WASM_PAGE, test64, hasMemory64 } = require('./support/wasm')
const { skipUnless } = require('./support/skip')

const HOST_PAGE = limits().pageSize
const directory = temporaryDirectory()
const contents = noise(10 * WASM_PAGE)
const file = directory.file(contents, 'good.bin')

// Good arguments, for the calls in which one is bad.
let region, memory, hidden, fd, mapped, kept
beforeAll(() => {
  region = HostRegion.copyFrom(contents)
  memory = new GuardedMemory({ initial: 32, maximum: 64 })
  hidden = GuardedMemory.from(new WebAssembly.Memory({ initial: 32, maximum: 64 }).buffer)
  fd = fs.openSync(file, 'r')
  mapped = memory.map(region, { at: 16 * WASM_PAGE })
  kept = memory.snapshot()
})
afterAll(() => {
  region.close()
  fs.closeSync(fd)
})

// The memory and its mapping are the same after each row, too.
let before
beforeEach(() => (before = picture()))
afterEach(() => expect(picture()).toEqual(before))
function picture() {
  return {
    ranges: memory
      .layout()
      .ranges.map(({ kind, start, end, access }) => [kind, start, end, access]),
    byteLength: memory.byteLength,
    region: [region.byteLength, region.sealed, region.writable, region.closed],
    unmapped: mapped.unmapped,
    same: Buffer.from(memory.buffer, 16 * WASM_PAGE, contents.length).equals(contents)
  }
}

/**
 * How a value is written in a test's title. Not by `util.inspect`, which would run our code on what
 * is not our object.
 */
function named(value) {
  if (typeof value === 'symbol' || typeof value === 'function' || typeof value !== 'object')
    return String(value)
  if (value === null) return 'null'
  if (ArrayBuffer.isView(value) || isAnyArrayBuffer(value))
    return `${tag(value)} of ${value.byteLength} bytes`
  return tag(value) === 'Object' ? `{ ${Object.keys(value).join(', ')} }` : tag(value)
}
const tag = value => Object.prototype.toString.call(value).slice(8, -1)

// Values that are of no type wanted here, and how a message may call them.
const NOT_NUMBERS = ['10', true, null, {}, [], () => 1, Symbol('s'), new Date(0), Object(1)]
const TYPE_ERROR = { code: 'ERR_INVALID_ARG_TYPE' }
const RANGE_ERROR = { code: 'ERR_OUT_OF_RANGE' }
const VALUE_ERROR = { code: ['ERR_INVALID_ARG_VALUE', 'ERR_OUT_OF_RANGE'] }

/**
 * The rows for an integer argument.
 *
 * @param limits.min, limits.max the range: the values beside it are refused
 * @param limits.unaligned values in the range that are no multiple of what they must be a multiple
 *   of
 * @param limits.bigint whether BigInts are taken as well
 * @param limits.required whether undefined is refused
 * @param limits.orPart whether an object is taken as a part
 */
function integerRows(
  name,
  call,
  {
    min,
    max = Number.MAX_SAFE_INTEGER,
    unaligned = [],
    bigint = false,
    required = false,
    orPart = false
  }
) {
  const notNumbers = NOT_NUMBERS.filter(value => !orPart || named(value) !== '{  }')
  const types = [...notNumbers, ...(bigint ? [] : [1n]), ...(required ? [undefined] : [])]
  const ranges = [
    -1,
    min - 1,
    0.5,
    min + 0.5,
    NaN,
    Infinity,
    -Infinity,
    2 ** 53,
    -(2 ** 53),
    1e300,
    max + 1
  ]
  if (bigint) ranges.push(-1n, BigInt(max) + 1n, 2n ** 64n, -(2n ** 70n))
  const says = new RegExp(name)
  return [
    ...types.map(value => [name, value, call, { ...TYPE_ERROR, says }]),
    ...[...new Set(ranges)]
      .filter(
        value =>
          value < min ||
          value > max ||
          Number.isNaN(value) ||
          (typeof value === 'number' && value % 1)
      )
      .map(value => [name, value, call, { ...RANGE_ERROR, says: [says, received(value)] }]),
    ...unaligned.map(value => [
      name,
      value,
      call,
      { ...VALUE_ERROR, says: [says, received(value), String(HOST_PAGE)] }
    ])
  ]
}

/** What was given is in the message. */
const received = value => new RegExp(String(value).replace(/[.+]/g, '\\$&'))

/** The rows for an argument that is one of some words. */
const wordRows = (name, call, words) => [
  ...[1, true, null, {}, [], Symbol('s'), 1n].map(value => [
    name,
    value,
    call,
    { code: ['ERR_INVALID_ARG_TYPE', 'ERR_INVALID_ARG_VALUE'], says: name }
  ]),
  ...['', 'READONLY', 'toString', '__proto__', 'i16'].map(value => [
    name,
    value,
    call,
    { code: 'ERR_INVALID_ARG_VALUE', says: [name, ...words.map(word => new RegExp(word))] }
  ])
]

function detachedBuffer() {
  const buffer = new ArrayBuffer(9)
  structuredClone(buffer, { transfer: [buffer] })
  return buffer
}

/** The rows for a boolean argument. */
const booleanRows = (name, call) =>
  [0, 1, 'true', '', null, {}, [], Symbol('s'), 1n].map(value => [
    name,
    value,
    call,
    { ...TYPE_ERROR, says: name }
  ])

/** The rows for an optional object of options. */
const optionsRows = call =>
  [null, 1, 'x', true, Symbol('s'), 1n, () => {}].map(value => [
    'options',
    value,
    call,
    { ...TYPE_ERROR, says: /options/ }
  ])

/** The rows for a name. */
const nameRows = call => [
  ...[1, null, {}, [], Symbol('s'), true].map(value => [
    'name',
    value,
    call,
    { ...TYPE_ERROR, says: /name/ }
  ]),
  ...['a\0b', '\0', 'x'.repeat(201), 'ζ'.repeat(101), '\u{1F600}'.repeat(51)].map(value => [
    'name',
    value,
    call,
    { code: ['ERR_INVALID_ARG_VALUE', 'ERR_OUT_OF_RANGE'], says: /name/ }
  ])
]

/** The rows for a path, without files of wrong kinds: those are below. */
const pathRows = call => [
  ...[undefined, null, 1, true, {}, [], Symbol('s'), Buffer.from(file), () => file].map(value => [
    'path',
    value,
    call,
    { ...TYPE_ERROR, says: /path/ }
  ]),
  ...[
    'a\0b',
    new URL('http://localhost/x'),
    new URL('file://elsewhere/x'),
    new URL('file:///a%2Fb'),
    new URL('file:///a%00b')
  ].map(value => ['path', value, call, { code: 'ERR_INVALID_ARG_VALUE', says: /path/ }]),
  // The words of Node's own fileURLToPath.
  ...[
    [new URL('file://elsewhere/x'), 'ERR_INVALID_FILE_URL_HOST'],
    [new URL('file:///a%2Fb'), 'ERR_INVALID_FILE_URL_PATH']
  ].map(([value, code]) => ['path', value, call, { code: [code, 'ERR_INVALID_ARG_VALUE'] }])
]

const LARGEST_MEMFD = Number.MAX_SAFE_INTEGER

const notBytes = [null, 1, 'x', true, {}, [1, 2]]

/** What is none, however much it looks like one. */
function notSnapshots() {
  const alike = { byteLength: 65536, fd: 3, mappings: [], closed: false }
  return [undefined, null, 1, 'x', true, {}, [], alike, Object.create(Snapshot.prototype), Snapshot]
}

const table = {
  'HostRegion.allocate': [
    ...integerRows('byteLength', value => HostRegion.allocate(value), {
      min: 1,
      max: LARGEST_MEMFD,
      required: true
    }),
    ...optionsRows(value => HostRegion.allocate(1, value)),
    ...nameRows(name => HostRegion.allocate(1, { name })),
    ...booleanRows('hugePages', hugePages => HostRegion.allocate(1, { hugePages }))
  ],
  'HostRegion.copyFrom': [
    ...[
      undefined,
      null,
      1,
      'bytes',
      [1, 2],
      {},
      { byteLength: 5, buffer: new ArrayBuffer(5) },
      Symbol('s'),
      new Blob(['x'])
    ].map(value => [
      'source',
      value,
      value => HostRegion.copyFrom(value),
      { ...TYPE_ERROR, says: [/source/, /ArrayBuffer/] }
    ]),
    ...[
      new ArrayBuffer(0),
      new Uint8Array(0),
      new SharedArrayBuffer(0),
      detached(),
      detachedView(),
      new DataView(new ArrayBuffer(1), 1)
    ].map(value => [
      'source',
      value,
      value => HostRegion.copyFrom(value),
      { ...VALUE_ERROR, says: /source/ }
    ]),
    ...optionsRows(value => HostRegion.copyFrom(contents, value)),
    ...nameRows(name => HostRegion.copyFrom(contents, { name })),
    ...booleanRows('hugePages', hugePages => HostRegion.copyFrom(contents, { hugePages }))
  ],
  'HostRegion.from': [
    ...optionsRows(value => HostRegion.from([contents], value)),
    ...nameRows(name => HostRegion.from([contents], { name })),
    ...booleanRows('hugePages', hugePages => HostRegion.from([contents], { hugePages })),
    ...integerRows('byteLength', byteLength => HostRegion.from([contents], { byteLength }), {
      min: 1,
      max: LARGEST_MEMFD
    }),
    ...[1, 'x', null, true, {}, new EventTarget(), { aborted: false }].map(signal => [
      'signal',
      signal,
      signal => HostRegion.from([contents], { signal }),
      { ...TYPE_ERROR, says: [/signal/, /AbortSignal/] }
    ]),
    ...[1, 'x', null, true, {}].map(onProgress => [
      'onProgress',
      onProgress,
      onProgress => HostRegion.from([contents], { onProgress }),
      { ...TYPE_ERROR, says: [/onProgress/, /[Ff]unction/] }
    ])
  ],
  'HostRegion.load': [
    ...pathRows(path => HostRegion.load(path)),
    ...optionsRows(value => HostRegion.load(file, value)),
    ...nameRows(name => HostRegion.load(file, { name })),
    ...booleanRows('hugePages', hugePages => HostRegion.load(file, { hugePages })),
    ...integerRows('byteOffset', byteOffset => HostRegion.load(file, { byteOffset }), {
      min: 0,
      max: contents.length - 1
    }),
    ...integerRows('byteLength', byteLength => HostRegion.load(file, { byteLength }), {
      min: 1,
      max: contents.length
    }),
    [
      'byteLength',
      11,
      byteLength => HostRegion.load(file, { byteOffset: contents.length - 10, byteLength }),
      { ...RANGE_ERROR, says: [/byteLength/, /11/] }
    ],
    ...[1, 'x', null, true, {}, new EventTarget(), { aborted: false }].map(signal => [
      'signal',
      signal,
      signal => HostRegion.load(file, { signal }),
      { ...TYPE_ERROR, says: [/signal/, /AbortSignal/] }
    ]),
    ...[1, 'x', null, true, {}].map(onProgress => [
      'onProgress',
      onProgress,
      onProgress => HostRegion.load(file, { onProgress }),
      { ...TYPE_ERROR, says: [/onProgress/, /[Ff]unction/] }
    ])
  ],
  'HostRegion.open': [
    ...pathRows(path => HostRegion.open(path)),
    ...optionsRows(value => HostRegion.open(file, value)),
    ...integerRows('byteOffset', byteOffset => HostRegion.open(file, { byteOffset }), {
      min: 0,
      max: contents.length - 1,
      unaligned: [1, HOST_PAGE - 1, HOST_PAGE + 512]
    }),
    ...integerRows('byteLength', byteLength => HostRegion.open(file, { byteLength }), {
      min: 1,
      max: contents.length
    }),
    [
      'byteLength',
      contents.length,
      byteLength => HostRegion.open(file, { byteOffset: WASM_PAGE, byteLength }),
      { ...RANGE_ERROR, says: [/byteLength/, received(contents.length)] }
    ],
    ...booleanRows('writable', writable => HostRegion.open(file, { writable }))
  ],
  'HostRegion.fromFd': [
    ...integerRows('fd', value => HostRegion.fromFd(value), {
      min: 0,
      max: 2 ** 31 - 1,
      required: true
    }),
    ...optionsRows(value => HostRegion.fromFd(fd, value)),
    ...integerRows('byteOffset', byteOffset => HostRegion.fromFd(fd, { byteOffset }), {
      min: 0,
      max: contents.length - 1,
      unaligned: [1, 512]
    }),
    ...integerRows('byteLength', byteLength => HostRegion.fromFd(fd, { byteLength }), {
      min: 1,
      max: contents.length
    })
  ],
  'region.view': [
    ...integerRows('byteOffset', value => region.view(value), {
      min: 0,
      max: contents.length - 1,
      orPart: true
    }),
    ...integerRows('byteLength', value => region.view(0, value), { min: 1, max: contents.length }),
    [
      'byteLength',
      2,
      value => region.view(contents.length - 1, value),
      { ...RANGE_ERROR, says: [/byteLength/, /2/] }
    ]
  ],
  'region.bytes': [
    ...optionsRows(value => region.bytes(value)),
    ...integerRows('byteOffset', byteOffset => region.bytes({ byteOffset }), {
      min: 0,
      max: contents.length
    }),
    ...integerRows('byteLength', byteLength => region.bytes({ byteLength }), {
      min: 0,
      max: contents.length
    }),
    ...wordRows('access', access => region.bytes({ access }), ['readonly', 'private', 'shared'])
  ],
  'region.close': [
    ...optionsRows(value => region.close(value)),
    ...wordRows('views', views => region.close({ views }), ['detach', 'keep'])
  ],
  'new GuardedMemory': [
    ...[undefined, null, 1, 'x', true, Symbol('s'), 1n].map(value => [
      'descriptor',
      value,
      value => new GuardedMemory(value),
      { ...TYPE_ERROR, says: /descriptor/ }
    ]),
    ...integerRows('initial', initial => new GuardedMemory({ initial }), {
      min: 0,
      max: 65_536,
      bigint: true,
      required: true
    }),
    ...integerRows('maximum', maximum => new GuardedMemory({ initial: 0, maximum }), {
      min: 0,
      max: 65_536,
      bigint: true
    }),
    [
      'maximum',
      1,
      maximum => new GuardedMemory({ initial: 2, maximum }),
      { ...RANGE_ERROR, says: [/maximum/, /1/, /2/] }
    ],
    [
      'maximum',
      1n,
      maximum => new GuardedMemory({ initial: 2, maximum }),
      { ...RANGE_ERROR, says: [/maximum/, /1/, /2/] }
    ],
    [
      'maximum',
      undefined,
      maximum => new GuardedMemory({ initial: 1, maximum, shared: true }),
      { code: ['ERR_INVALID_ARG_VALUE', 'ERR_INVALID_ARG_TYPE'], says: [/maximum/, /shared/] }
    ],
    ...booleanRows('shared', shared => new GuardedMemory({ initial: 1, maximum: 1, shared })),
    ...wordRows('address', address => new GuardedMemory({ initial: 1, address }), ['i32', 'i64'])
  ],
  'GuardedMemory.from': [
    ...[
      undefined,
      null,
      1,
      'x',
      {},
      [],
      Symbol('s'),
      () => {},
      new Uint8Array(8),
      Buffer.alloc(8),
      new DataView(new ArrayBuffer(8)),
      Object.create(WebAssembly.Memory.prototype),
      { buffer: new ArrayBuffer(WASM_PAGE) }
    ].map(value => [
      'memory',
      value,
      value => GuardedMemory.from(value),
      { ...TYPE_ERROR, says: [/memory/, /WebAssembly\.Memory/] }
    ]),
    ...[null, 1, 'x', true, Symbol('s')].map(value => [
      'options',
      value,
      value => GuardedMemory.from(new WebAssembly.Memory({ initial: 1 }), value),
      { ...TYPE_ERROR, says: /options/ }
    ]),
    ...wordRows(
      'address',
      address => GuardedMemory.from(new WebAssembly.Memory({ initial: 1 }).buffer, { address }),
      ['i32', 'i64']
    )
  ],
  'guarded.grow': integerRows('wasmPages', value => memory.grow(value), {
    min: 0,
    bigint: true,
    required: true
  }).filter(
    // More pages than there can be is a memory that is full, or a value out of range: see below.
    ([, value]) => !(['number', 'bigint'].includes(typeof value) && value > 64)
  ),
  'guarded.map': [
    ...[
      undefined,
      null,
      1,
      'x',
      {},
      [],
      Symbol('s'),
      Buffer.alloc(1),
      new ArrayBuffer(1),
      HostRegion,
      Object.create(HostRegion.prototype)
    ].map(value => [
      'region',
      value,
      value => memory.map(value),
      { ...TYPE_ERROR, says: [/region/, /HostRegion/] }
    ]),
    ...optionsRows(value => memory.map(region, value)),
    ...integerRows('at', at => memory.map(region, { at, byteLength: 1 }), {
      min: 0,
      max: 32 * WASM_PAGE - 1,
      unaligned: [1, HOST_PAGE - 1, HOST_PAGE + 8, 8n],
      bigint: true
    }),
    ...integerRows('byteOffset', byteOffset => memory.map(region, { at: 0, byteOffset }), {
      min: 0,
      max: contents.length - 1,
      unaligned: [1, 512]
    }),
    ...integerRows('byteLength', byteLength => memory.map(region, { at: 0, byteLength }), {
      min: 1,
      max: contents.length
    }),
    [
      'byteLength',
      contents.length,
      byteLength => memory.map(region, { at: 0, byteOffset: HOST_PAGE, byteLength }),
      { ...RANGE_ERROR, says: [/byteLength/, received(contents.length)] }
    ],
    // Ends past the memory's end by one page.
    [
      'at',
      32 * WASM_PAGE - HOST_PAGE,
      at => memory.map(region, { at, byteLength: HOST_PAGE + 1 }),
      { ...RANGE_ERROR, says: [/at\b/, received(32 * WASM_PAGE)] }
    ],
    [
      'at',
      32 * WASM_PAGE,
      at => memory.map(region, { at, byteLength: 1 }),
      { ...RANGE_ERROR, says: [/at\b/, received(32 * WASM_PAGE)] }
    ],
    ...wordRows('access', access => memory.map(region, { at: 0, access }), [
      'readonly',
      'private',
      'shared'
    ]),
    ...booleanRows('populate', populate => memory.map(region, { at: 0, populate })),
    ...booleanRows('hugePages', hugePages => memory.map(region, { at: 0, hugePages })),
    ...[
      1,
      'x',
      null,
      true,
      {},
      { malloc: () => 0 },
      { free() {} },
      { malloc: 1, free: 1 },
      { malloc: () => 0, free: null }
    ].map(allocator => [
      'allocator',
      allocator,
      allocator => memory.map(region, { allocator }),
      { ...TYPE_ERROR, says: /allocator/ }
    ]),
    [
      'at',
      0,
      at => memory.map(region, { at, allocator: { malloc: () => 0, free() {} } }),
      { code: 'ERR_INVALID_ARG_VALUE', says: [/at\b/, /allocator/] }
    ],
    // What is mapped already: each of these touches the ten pages from 16 on.
    ...[
      [16, 1],
      [25, 1],
      [15, WASM_PAGE + 1],
      [8, 10 * WASM_PAGE]
    ].map(([wasmPage, byteLength]) => [
      'at',
      wasmPage * WASM_PAGE,
      at => memory.map(region, { at, byteLength }),
      { code: 'ERR_HOSTMAP_OVERLAP', says: received(wasmPage * WASM_PAGE) }
    ])
  ],
  'GuardedMemory.adopt': [
    ...[undefined, null, 1, 'x', {}, [1, 2], Buffer.alloc(9), new DataView(new ArrayBuffer(9))].map(
      value => ['buffer', value, value => memory.adopt(value), { ...TYPE_ERROR, says: /buffer/ }]
    ),
    ['buffer', HostRegion, value => memory.adopt(value), { ...TYPE_ERROR, says: /ArrayBuffer/ }],
    [
      'buffer',
      new Uint8Array(9),
      value => memory.adopt(value),
      { ...TYPE_ERROR, says: /pass its `buffer`/ }
    ],
    ...['allow', 'never'].flatMap(copy => [
      [
        'buffer',
        new ArrayBuffer(0),
        value => memory.adopt(value, { copy }),
        { ...RANGE_ERROR, says: /buffer\.byteLength must be at least 1/ }
      ],
      [
        'buffer',
        detachedBuffer(),
        value => memory.adopt(value, { copy }),
        { code: 'ERR_INVALID_ARG_VALUE', says: /detached/ }
      ]
    ]),
    [
      'buffer',
      'its own',
      () => memory.adopt(memory.buffer),
      { code: 'ERR_INVALID_ARG_VALUE', says: /own/ }
    ],
    ...optionsRows(value => memory.adopt(new ArrayBuffer(1), value)),
    ...integerRows('at', at => memory.adopt(new ArrayBuffer(1), { at }), {
      min: 0,
      max: 32 * WASM_PAGE - 1,
      unaligned: [1, HOST_PAGE - 1, HOST_PAGE + 8, 8n],
      bigint: true
    }),
    ...wordRows('copy', copy => memory.adopt(new ArrayBuffer(1), { copy }), ['allow', 'never']),
    ...[1, 'x', null, true, {}, { malloc: () => 0 }].map(allocator => [
      'allocator',
      allocator,
      allocator => memory.adopt(new ArrayBuffer(1), { allocator }),
      { ...TYPE_ERROR, says: /allocator/ }
    ]),
    [
      'allocator',
      'of an engine',
      () =>
        memory.adopt(new ArrayBuffer(1), {
          allocator: { malloc: () => 0, free() {}, owner: 'engine' }
        }),
      { code: 'ERR_INVALID_ARG_VALUE', says: /owner/ }
    ],
    [
      'at',
      0,
      at => memory.adopt(new ArrayBuffer(1), { at, allocator: { malloc: () => 0, free() {} } }),
      { code: 'ERR_INVALID_ARG_VALUE', says: [/at\b/, /allocator/] }
    ],
    [
      'at',
      16 * WASM_PAGE,
      at => memory.adopt(new ArrayBuffer(1), { at }),
      { code: 'ERR_HOSTMAP_OVERLAP', says: received(16 * WASM_PAGE) }
    ],
    [
      'buffer',
      new ArrayBuffer(9),
      value => memory.adopt(value, { copy: 'never' }),
      { code: 'ERR_HOSTMAP_BUFFER_NOT_MOVABLE', says: /64 KiB/ }
    ]
  ],
  'GuardedMemory.snapshot': [
    ...optionsRows(value => memory.snapshot(value)),
    ...nameRows(name => memory.snapshot({ name })),
    ...booleanRows('exclusive', exclusive => memory.snapshot({ exclusive })),
    ...booleanRows('hugePages', hugePages => memory.snapshot({ hugePages })),
    ...integerRows(
      'keepResidentBytes',
      keepResidentBytes => memory.snapshot({ keepResidentBytes }),
      {
        min: 0
      }
    ),
    ...notBytes.map(module => [
      'module',
      module,
      module => memory.snapshot({ module }),
      { ...TYPE_ERROR, says: /module/ }
    ]),
    ...[null, 1, 'x', true, Symbol('s')].map(globals => [
      'globals',
      globals,
      globals => memory.snapshot({ globals }),
      { ...TYPE_ERROR, says: /globals/ }
    ])
  ],
  'GuardedMemory.restore': [
    ...notSnapshots().map(value => [
      'snapshot',
      value,
      value => memory.restore(value),
      { ...TYPE_ERROR, says: [/snapshot/, /Snapshot/] }
    ]),
    ...optionsRows(value => memory.restore(kept, value)),
    ...booleanRows('exclusive', exclusive => memory.restore(kept, { exclusive })),
    ...[null, 1, 'x', true, Symbol('s')].map(globals => [
      'globals',
      globals,
      globals => memory.restore(kept, { globals }),
      { ...TYPE_ERROR, says: /globals/ }
    ])
  ],
  'GuardedMemory.reset': [
    ...optionsRows(value => memory.reset(value)),
    ...booleanRows('exclusive', exclusive => memory.reset({ exclusive })),
    ...integerRows('keepResidentBytes', keepResidentBytes => memory.reset({ keepResidentBytes }), {
      min: 0
    })
  ],
  'Snapshot.of': [
    ...[undefined, null, 1, 'x', {}, [], { exports: null }, { exports: 1 }].map(value => [
      'instance',
      value,
      value => Snapshot.of(value),
      { ...TYPE_ERROR, says: [/instance/, /WebAssembly\.Instance/] }
    ]),
    [
      'instance',
      { exports: {} },
      value => Snapshot.of(value),
      { code: 'ERR_HOSTMAP_UNSUITABLE_MODULE', says: /memory/ }
    ],
    ...['x', 1, {}].map(accept => [
      'accept',
      accept,
      accept => Snapshot.of({ exports: { memory: memory.memory } }, { accept }),
      { ...TYPE_ERROR, says: /accept/ }
    ]),
    [
      'accept',
      ['everything'],
      accept => Snapshot.of({ exports: { memory: memory.memory } }, { accept }),
      { ...VALUE_ERROR, says: [/accept/, /v128-globals/] }
    ]
  ],
  'Snapshot.load': [
    ...pathRows(path => Snapshot.load(path)),
    ...optionsRows(value => Snapshot.load(file, value)),
    ...integerRows(
      'keepResidentBytes',
      keepResidentBytes => Snapshot.load(file, { keepResidentBytes }),
      {
        min: 0
      }
    ),
    ...booleanRows('hugePages', hugePages => Snapshot.load(file, { hugePages })),
    ...notBytes.map(module => [
      'module',
      module,
      module => Snapshot.load(file, { module }),
      { ...TYPE_ERROR, says: /module/ }
    ]),
    ...[1, 'x', null, true, {}].map(regions => [
      'regions',
      regions,
      regions => Snapshot.load(file, { regions }),
      { ...TYPE_ERROR, says: [/regions/, /[Ff]unction/] }
    ]),
    ...[1, 'x', null, true, {}, new EventTarget(), { aborted: false }].map(signal => [
      'signal',
      signal,
      signal => Snapshot.load(file, { signal }),
      { ...TYPE_ERROR, says: [/signal/, /AbortSignal/] }
    ]),
    [
      'path',
      file,
      path => Snapshot.load(path),
      { code: 'ERR_HOSTMAP_SNAPSHOT_INVALID', says: [file, /no snapshot/] }
    ]
  ],
  'Snapshot.fromFd': [
    ...integerRows('fd', fd => Snapshot.fromFd(fd), { min: 0, max: 2 ** 31 - 1, required: true }),
    ...optionsRows(value => Snapshot.fromFd(fdOf(kept), value))
  ],
  'Snapshot.prototype.save': [
    ...pathRows(path => kept.save(path)),
    ...optionsRows(value => kept.save(file, value)),
    ...[1, 'x', null, true, {}, { aborted: false }].map(signal => [
      'signal',
      signal,
      signal => kept.save(file, { signal }),
      { ...TYPE_ERROR, says: [/signal/, /AbortSignal/] }
    ])
  ],
  'Snapshot.prototype.restoreTo': [
    ...[undefined, null, 1, 'x', {}, { exports: 5 }].map(value => [
      'instance',
      value,
      value => kept.restoreTo(value),
      { ...TYPE_ERROR, says: /instance/ }
    ]),
    ...booleanRows('exclusive', exclusive =>
      kept.restoreTo({ exports: { memory: memory.memory } }, { exclusive })
    )
  ],
  'Snapshot.prototype.instantiate': [
    ...[undefined, null, 1, 'x', {}].map(value => [
      'module',
      value,
      value => kept.instantiate(value),
      { ...TYPE_ERROR, says: /module/ }
    ])
  ]
}

/** A buffer whose bytes went to another. */
function detached(byteLength = 100) {
  const buffer = new ArrayBuffer(byteLength)
  structuredClone(buffer, { transfer: [buffer] })
  return buffer
}

function detachedView() {
  const view = new Uint8Array(100)
  structuredClone(view.buffer, { transfer: [view.buffer] })
  return view
}

for (const [callee, rows] of Object.entries(table)) {
  describe(`${callee} refuses`, () => {
    for (const [name, value, call, expected] of rows) {
      test(`${name}: ${typeof value} ${named(value)}`, () =>
        expectFailure(() => call(value), expected))
    }
  })
}

describe('HostRegion.load', () => {
  test('never throws: it rejects', async () => {
    for (const call of [
      () => HostRegion.load(),
      () => HostRegion.load(1),
      () => HostRegion.load(file, null),
      () => HostRegion.load(file, { byteOffset: -1 })
    ]) {
      const promise = call()
      await expect(promise).rejects.toMatchObject({ code: expect.stringMatching(/^ERR_/) })
    }
  })
})

describe('guarded.grow', () => {
  test.each([33, 65_536, 2 ** 32, 2 ** 52, Number.MAX_SAFE_INTEGER, 33n, 2n ** 40n])(
    'refuses %p pages: more than the maximum',
    async pages => {
      await expectFailure(() => memory.grow(pages), {
        code: ['ERR_HOSTMAP_MEMORY_FULL', 'ERR_OUT_OF_RANGE'],
        says: received(pages)
      })
    }
  )

  test.each([2 ** 53, Infinity, 1e300, 2n ** 53n, 2n ** 64n])(
    'refuses %p pages: no such number',
    async pages => {
      await expectFailure(() => memory.grow(pages), {
        code: ['ERR_OUT_OF_RANGE', 'ERR_HOSTMAP_MEMORY_FULL']
      })
    }
  )
})

describe('64-bit memories', () => {
  test64.each([262_145, 262_145n, 2 ** 32, 2n ** 48n, -1n])(
    'refuse an initial size of %p',
    async initial => {
      await expectFailure(() => new GuardedMemory({ initial, address: 'i64' }), {
        ...RANGE_ERROR,
        says: [/initial/, received(initial)]
      })
      await expectFailure(
        () => new GuardedMemory({ initial: 0, maximum: initial, address: 'i64' }),
        {
          ...RANGE_ERROR,
          says: [/maximum/, received(initial)]
        }
      )
    }
  )

  test64.each([16 * 2 ** 30, 2 ** 52, 2n ** 52n, 2n ** 64n, -4096n, 4097n])(
    'refuse to map at %p',
    async at => {
      const guarded = new GuardedMemory({ initial: 70_000, address: 'i64' })
      await expectFailure(() => guarded.map(region, { at }), {
        ...VALUE_ERROR,
        says: [/at\b/, received(at)]
      })
    }
  )

  const { test: without64 } = skipUnless('needs a V8 without 64-bit memories', !hasMemory64)
  without64('are refused where V8 has none', async () => {
    await expectFailure(() => new GuardedMemory({ initial: 1, address: 'i64' }), {
      code: 'ERR_HOSTMAP_NO_MEMORY64'
    })
  })
})

describe('a file that can not be had', () => {
  const bad = {}
  let server
  beforeAll(async () => {
    const at = name => path.join(directory.path, name)
    fs.mkdirSync((bad.directory = at('directory')))
    execFileSync('mkfifo', [(bad.pipe = at('pipe'))])
    server = net.createServer().listen((bad.socket = at('socket')))
    await new Promise(resolve => server.once('listening', resolve))
    bad.device = '/dev/zero'
    bad.empty = directory.file('', 'empty')
    bad.procfs = '/proc/self/status'
    bad.missing = at('missing')
    bad.parent = at('missing/file')
    bad.inFile = path.join(file, 'inside')
    bad.tooLong = at('x'.repeat(300))
    bad.nothing = ''
    fs.symlinkSync('nowhere', (bad.dangling = at('dangling')))
    fs.symlinkSync('loop', (bad.loop = at('loop')))
    fs.symlinkSync(bad.directory, (bad.toDirectory = at('to directory')))
  })
  afterAll(() => new Promise(resolve => server.close(resolve)))

  const OPEN_FAILED = { code: 'ERR_HOSTMAP_OPEN_FAILED', syscall: /open|stat/ }
  const rows = [
    ['directory', { code: 'ERR_HOSTMAP_NOT_A_FILE', says: /directory/ }],
    ['toDirectory', { code: 'ERR_HOSTMAP_NOT_A_FILE', says: /directory/ }],
    ['pipe', { code: 'ERR_HOSTMAP_NOT_A_FILE', says: /pipe|FIFO/i }],
    ['socket', { code: 'ERR_HOSTMAP_NOT_A_FILE', says: /socket/ }],
    ['device', { code: 'ERR_HOSTMAP_NOT_A_FILE', says: /device/ }],
    ['empty', { code: 'ERR_HOSTMAP_EMPTY_FILE', says: /empty|no bytes/ }],
    ['procfs', { code: 'ERR_HOSTMAP_EMPTY_FILE' }],
    ['missing', { ...OPEN_FAILED, errno: -2 }],
    ['parent', { ...OPEN_FAILED, errno: -2 }],
    ['inFile', { ...OPEN_FAILED, errno: -20 }],
    ['tooLong', { ...OPEN_FAILED, errno: -36 }],
    ['dangling', { ...OPEN_FAILED, errno: -2 }],
    ['loop', { ...OPEN_FAILED, errno: -40 }],
    ['nothing', { code: ['ERR_HOSTMAP_OPEN_FAILED', 'ERR_INVALID_ARG_VALUE'] }]
  ]

  describe.each([
    ['load', path => HostRegion.load(path)],
    ['open', path => HostRegion.open(path)],
    ['open for writing', path => HostRegion.open(path, { writable: true })]
  ])('%s', (_, call) => {
    test.each(rows)('%s', async (kind, expected) => {
      const says = [expected.says ?? [], bad[kind]].flat()
      await expectFailure(() => call(bad[kind]), { ...expected, says })
      if (bad[kind])
        await expectFailure(() => call(pathToFileURL(bad[kind])), { ...expected, says })
    })
  })

  test.each([
    ['a directory', () => fs.openSync(bad.directory, 'r'), 'ERR_HOSTMAP_NOT_A_FILE'],
    [
      'a pipe',
      () => fs.openSync(bad.pipe, fs.constants.O_RDONLY | fs.constants.O_NONBLOCK),
      'ERR_HOSTMAP_NOT_A_FILE'
    ],
    ['a device', () => fs.openSync('/dev/zero', 'r'), 'ERR_HOSTMAP_NOT_A_FILE'],
    ['an empty file', () => fs.openSync(bad.empty, 'r'), 'ERR_HOSTMAP_EMPTY_FILE'],
    ['a file for writing only', () => fs.openSync(file, 'a'), 'ERR_HOSTMAP_OPEN_FAILED'],
    // O_PATH: names a file, and can neither read nor map it.
    ['a name of a file', () => fs.openSync(file, 0o10000000), 'ERR_HOSTMAP_OPEN_FAILED']
  ])('fromFd of %s', async (_, open, code) => {
    const fd = open()
    await expectFailure(() => HostRegion.fromFd(fd), { code, says: String(fd) })
    expect(fs.fstatSync(fd).ino).toBeGreaterThan(0)
    fs.closeSync(fd)
  })

  // A file of the kernel's own that can be mapped since 6.16, and never made writable: a growth of
  // its memory would end the process.
  const btf = '/sys/kernel/btf/vmlinux'
  const { test: testBtf } = skipUnless(`needs ${btf}`, fs.existsSync(btf))
  testBtf(
    'a file whose private pages can not be made writable is refused, and can be loaded',
    async () => {
      const says = [btf, /can be mapped for reading only|can't be mapped/]
      await expectFailure(() => HostRegion.open(btf), { code: 'ERR_HOSTMAP_NOT_A_FILE', says })
      const fd = fs.openSync(btf)
      await expectFailure(() => HostRegion.fromFd(fd), {
        code: 'ERR_HOSTMAP_NOT_A_FILE',
        says: says[1]
      })
      fs.closeSync(fd)
      const region = await HostRegion.load(btf)
      expect(region.byteLength).toBe(fs.statSync(btf).size)
      region.close()
    }
  )

  test('fromFd of a socket', async () => {
    const socket = net.connect(bad.socket)
    await new Promise(resolve => socket.once('connect', resolve))
    await expectFailure(() => HostRegion.fromFd(socket._handle.fd), {
      code: 'ERR_HOSTMAP_NOT_A_FILE',
      says: /socket/
    })
    socket.destroy()
  })

  test.each([12_345, 2 ** 31 - 1])('fromFd of a descriptor that is not open: %i', async fd => {
    await expectFailure(() => HostRegion.fromFd(fd), {
      code: 'ERR_HOSTMAP_OPEN_FAILED',
      errno: -9,
      says: String(fd)
    })
  })

  // Files of sysfs have the size of a page, whatever is in them.
  const sysfs = '/sys/kernel/mm/transparent_hugepage/enabled'
  const { test: testSysfs } = skipUnless(`needs ${sysfs}`, fs.existsSync(sysfs))
  testSysfs('a file that says it is longer than it is', async () => {
    const error = await thrownBy(() => HostRegion.load(sysfs))
    expectError(error, {
      code: ['ERR_HOSTMAP_FILE_SHRUNK', 'ERR_HOSTMAP_READ_FAILED'],
      says: sysfs
    })
    expect(mappingsNamed(sysfs)).toEqual([])
  })
})

describe('a file without permission', () => {
  // root may read anything: the child becomes nobody before it tries.
  test('says which one, and what the system said', async () => {
    const closed = directory.file(contents, 'closed')
    const readable = directory.file(contents, 'readable')
    const inside = path.join(directory.path, 'locked', 'inside')
    fs.mkdirSync(path.dirname(inside))
    fs.writeFileSync(inside, contents)
    fs.chmodSync(directory.path, 0o755)
    fs.chmodSync(closed, 0)
    fs.chmodSync(readable, 0o444)
    fs.chmodSync(path.dirname(inside), 0)
    const failures = await inChild(
      async ({ hostmap, failure, openFiles, args: { closed, readable, inside } }) => {
        const { HostRegion } = hostmap
        if (process.getuid() === 0) {
          process.setgroups([])
          process.setgid(65_534)
          process.setuid(65_534)
        }
        const before = Object.keys(openFiles()).length
        const failures = [
          await failure(() => HostRegion.open(closed)),
          await failure(() => HostRegion.load(closed)),
          await failure(() => HostRegion.open(inside)),
          await failure(() => HostRegion.load(inside)),
          await failure(() => HostRegion.open(readable, { writable: true }))
        ]
        if (Object.keys(openFiles()).length !== before) throw new Error('a descriptor was left')
        HostRegion.open(readable).close()
        return failures
      },
      { args: { closed, readable, inside } }
    )
    fs.chmodSync(path.dirname(inside), 0o755)
    const paths = [closed, closed, inside, inside, readable]
    failures.forEach((error, i) => {
      expectError(error, {
        code: 'ERR_HOSTMAP_OPEN_FAILED',
        errno: -13,
        syscall: /open|stat/,
        says: paths[i]
      })
    })
  })
})

describe('an object that is not what it seems', () => {
  const classes = { HostRegion, GuardedMemory, Mapping, Layout }

  test.each(['HostRegion', 'Mapping', 'Layout', 'Snapshot'])('new %s() is refused', async name => {
    const Class = classes[name] ?? Snapshot
    await expectFailure(() => new Class(), {
      code: ['ERR_ILLEGAL_CONSTRUCTOR', 'ERR_INVALID_ARG_TYPE']
    })
    await expectFailure(() => new Class({}, 1, 'x'), {
      code: ['ERR_ILLEGAL_CONSTRUCTOR', 'ERR_INVALID_ARG_TYPE']
    })
  })

  const members = Object.entries(classes).flatMap(([name, { prototype }]) =>
    [...Object.getOwnPropertyNames(prototype), Symbol.dispose, Symbol.iterator]
      .filter(key => key !== 'constructor' && Object.hasOwn(prototype, key))
      .map(key => [name, String(key), prototype, Object.getOwnPropertyDescriptor(prototype, key)])
  )
  test.each(members)(
    '%s.prototype.%s of something else is a TypeError',
    async (_name, key, prototype, { get, value }) => {
      const member = get ?? value
      const others = [region, memory, mapped, memory.layout()].filter(
        object => !(object instanceof prototype.constructor)
      )
      const possessed = possessions()
      for (const self of [undefined, null, 1, {}, prototype, Object.create(prototype), ...others]) {
        const error = await thrownBy(() => member.call(self))
        expect([key, error?.name]).toEqual([key, 'TypeError'])
      }
      expectNothingNew(possessed)
    }
  )

  const ofSnapshots = Object.entries(Object.getOwnPropertyDescriptors(Snapshot.prototype))
  test.each(ofSnapshots.filter(([key]) => key !== 'constructor'))(
    'Snapshot.prototype.%s of something else is a TypeError',
    async (_key, { get, value }) => {
      for (const self of [
        undefined,
        null,
        1,
        {},
        Snapshot.prototype,
        Object.create(kept),
        region,
        memory
      ]) {
        const error = await thrownBy(() => (get ?? value).call(self))
        expect(error?.name).toBe('TypeError')
      }
    }
  )

  test('a Proxy of a region or a memory is not one', async () => {
    await expectFailure(() => memory.map(new Proxy(region, {})), { ...TYPE_ERROR, says: /region/ })
    await expectFailure(() => GuardedMemory.from(new Proxy(memory.memory, {})), {
      ...TYPE_ERROR,
      says: /memory/
    })
  })

  test.each([
    ['an ArrayBuffer', () => new ArrayBuffer(WASM_PAGE)],
    ['a large ArrayBuffer', () => new ArrayBuffer(64 * MiB)],
    ['an empty ArrayBuffer', () => new ArrayBuffer(0)],
    ['a SharedArrayBuffer', () => new SharedArrayBuffer(WASM_PAGE)],
    ["a Buffer's pool", () => Buffer.from('pooled').buffer],
    ['a detached ArrayBuffer', () => detached(WASM_PAGE)],
    // V8 reserves what these may grow into, inaccessible: they look much like a memory.
    [
      'a resizable ArrayBuffer',
      () => new ArrayBuffer(WASM_PAGE, { maxByteLength: Math.min(2 ** 33, constants.MAX_LENGTH) })
    ],
    [
      'a resizable ArrayBuffer at its full size',
      () => new ArrayBuffer(WASM_PAGE, { maxByteLength: WASM_PAGE })
    ],
    [
      'a growable SharedArrayBuffer',
      () => new SharedArrayBuffer(WASM_PAGE, { maxByteLength: 2 ** 32 })
    ],
    ['a view of a region', () => region.view(0, WASM_PAGE)],
    [
      'the old buffer of a memory that grew',
      () => {
        const grown = new WebAssembly.Memory({ initial: 1, maximum: 2 })
        const { buffer } = grown
        grown.grow(1)
        return buffer
      }
    ]
  ])('GuardedMemory.from refuses %s', async (_, make) => {
    const buffer = make()
    await expectFailure(() => GuardedMemory.from(buffer), {
      code: 'ERR_HOSTMAP_NOT_WASM_MEMORY',
      says: /WebAssembly/
    })
  })

  test('a memory whose buffer was replaced by a trick is not fooled', async () => {
    const real = new WebAssembly.Memory({ initial: 1 })
    Object.defineProperty(real, 'buffer', { value: new ArrayBuffer(WASM_PAGE) })
    // Either the real buffer is found all the same, or the memory is refused.
    const error = thrownBy(() => {
      const guarded = GuardedMemory.from(real)
      expect(guarded.guarded).toBe(true)
      guarded.map(region, { at: 0, byteLength: 1 }).unmap()
    })
    if (error) expectError(error, { code: ['ERR_HOSTMAP_NOT_WASM_MEMORY', 'ERR_INVALID_ARG_TYPE'] })
  })

  test('options with getters that answer differently each time can not slip through', async () => {
    const answers = [0, 33 * WASM_PAGE, 33 * WASM_PAGE]
    const options = {
      get at() {
        return answers.shift()
      },
      byteLength: HOST_PAGE
    }
    const mapping = memory.map(region, options)
    expect(mapping.address).toBe(0)
    mapping.unmap()
  })

  test('options with getters that close the region are seen through', async () => {
    const doomed = HostRegion.allocate(WASM_PAGE)
    const options = {
      at: 0,
      get populate() {
        doomed.close()
        return false
      }
    }
    const error = thrownBy(() => memory.map(doomed, options))
    expectError(error, { code: 'ERR_HOSTMAP_REGION_CLOSED' })
  })
})

describe('a region that is closed', () => {
  test.each([
    ['view', region => region.view()],
    ['bytes', region => region.bytes()],
    ['seal', region => region.seal()],
    ['map', region => memory.map(region)],
    ['map at', region => memory.map(region, { at: 0 })],
    [
      'map with an allocator',
      region => memory.map(region, { allocator: { malloc: () => 0, free() {} } })
    ]
  ])('%s says so, with its name', async (_, call) => {
    const closed = HostRegion.allocate(WASM_PAGE, { name: 'long closed' })
    closed.close()
    await expectFailure(() => call(closed), {
      code: 'ERR_HOSTMAP_REGION_CLOSED',
      says: /long closed/
    })
  })
})

describe('a region that can not be written', () => {
  test.each([
    ['sealed', () => HostRegion.allocate(1).seal()],
    ['a file opened for reading', () => HostRegion.open(file)],
    ['a descriptor opened for reading', () => HostRegion.fromFd(fd)]
  ])('can not be mapped shared: %s', async (_, make) => {
    const readonly = make()
    await expectFailure(() => memory.map(readonly, { at: 0, access: 'shared' }), {
      code: 'ERR_HOSTMAP_REGION_READONLY',
      says: /private/
    })
    readonly.close()
  })

  test.each([
    ['a file opened for reading', () => HostRegion.open(file)],
    ['a file opened for writing', () => HostRegion.open(file, { writable: true })]
  ])('can not be sealed: %s', async (_, make) => {
    const readonly = make()
    await expectFailure(() => readonly.seal(), { code: 'ERR_HOSTMAP_REGION_READONLY' })
    readonly.close()
  })
})

describe('a memory of which only the buffer is known', () => {
  test.each([
    ['memory', () => hidden.memory],
    ['grow', () => hidden.grow(1)],
    ['map past the end', () => hidden.map(region)]
  ])('%s says so', async (_, call) => {
    await expectFailure(call, { code: 'ERR_HOSTMAP_MEMORY_HIDDEN' })
  })
})

describe('at a limit of the process', () => {
  test('ulimit -n: no more descriptors', async () => {
    const { failures, left } = await inChild(
      async ({ hostmap, failure, require, args: file }) => {
        const fs = require('node:fs')
        const { HostRegion, GuardedMemory } = hostmap
        const region = HostRegion.copyFrom(Buffer.alloc(65536, 7))
        const duplicate = region.duplicateFd()
        const guarded = new GuardedMemory({ initial: 2, maximum: 2 })
        const held = []
        const fill = () => {
          for (;;) held.push(fs.openSync('/dev/null'))
        }
        const full = await failure(fill)
        if (full.code !== 'EMFILE') throw new Error(full.message)
        const failures = {
          allocate: await failure(() => HostRegion.allocate(1)),
          copyFrom: await failure(() => HostRegion.copyFrom(Buffer.alloc(10))),
          load: await failure(() => HostRegion.load(file)),
          open: await failure(() => HostRegion.open(file)),
          fromFd: await failure(() => HostRegion.fromFd(duplicate)),
          duplicateFd: await failure(() => region.duplicateFd())
        }
        // One is free: not enough for load, which needs the file and a memfd.
        fs.closeSync(held.pop())
        failures['load with one descriptor'] = await failure(() => HostRegion.load(file))
        // It gave back the one that it had.
        const left = held.length
        await failure(fill)
        const still = held.length - left

        // What needs no descriptor goes on.
        const mapping = guarded.map(region, { at: 0 })
        if (new Uint8Array(guarded.buffer)[65535] !== 7 || new Uint8Array(region.view())[0] !== 7) {
          throw new Error('wrong byte')
        }
        mapping.unmap()
        region.close()
        return { failures, left: still }
      },
      { ulimit: '-n 64', args: file }
    )
    expect(left).toBe(1)
    for (const error of Object.values(failures)) {
      expectError(error, { code: 'ERR_HOSTMAP_TOO_MANY_FILES', errno: -24, says: /ulimit -n/ })
    }
  })

  test('ulimit -v: no more address space', async () => {
    const { limited, mapped } = await inChild(
      async ({ hostmap, failure, assert, processMap }) => {
        const { HostRegion, GuardedMemory } = hostmap
        const large = HostRegion.allocate(2 ** 34)
        const guarded = new GuardedMemory({ initial: 1, maximum: 16_384 + 1 })
        // Node 24 and later start V8 without its trap handler here: memories are smaller then, and
        // more of them fit.
        const held = []
        const limited = {
          'new GuardedMemory': await failure(() => {
            for (;;) held.push(new GuardedMemory({ initial: 16_384, maximum: 16_384 }))
          })
        }
        const count = processMap().length
        limited.view = await failure(() => large.view(0, 2 ** 32))
        assert.ok(processMap().length <= count + 5)
        assert.ok(held.length < 13)
        // A mapping takes no new address space: the memory has it already.
        const mapping = guarded.map(large, { byteLength: 2 ** 30 })
        const mapped = new Uint8Array(guarded.buffer)[mapping.address + 2 ** 30 - 1]
        mapping.unmap()
        return { limited, mapped }
      },
      // Node itself, and one memory of 10 GiB or some of 1 GiB.
      { ulimit: `-v ${13 * 2 ** 20}` }
    )
    expectError(limited['new GuardedMemory'], { code: 'ERR_HOSTMAP_RLIMIT_AS', says: /ulimit -v/ })
    expectError(limited.view, {
      code: ['ERR_HOSTMAP_RLIMIT_AS', 'ERR_HOSTMAP_MAP_FAILED'],
      errno: -12
    })
    expect(mapped).toBe(0)
  })

  test('ulimit -f: no region may be so large', async () => {
    const failures = await inChild(
      async ({ hostmap, failure, countOpen, assert, args: file }) => {
        const { HostRegion } = hostmap
        const failures = [
          await failure(() => HostRegion.allocate(2 ** 20, { name: 'too large' })),
          await failure(() => HostRegion.copyFrom(Buffer.alloc(2 ** 20), { name: 'too large' })),
          await failure(() => HostRegion.load(file, { name: 'too large' }))
        ]
        assert.equal(countOpen('too large'), 0)
        assert.equal(countOpen(file), 0)
        HostRegion.allocate(1000).close()
        HostRegion.open(file).close()
        return failures
      },
      // In blocks of 512 bytes.
      { ulimit: '-f 100', args: file }
    )
    for (const error of failures) {
      expectError(error, { code: 'ERR_HOSTMAP_OUT_OF_MEMORY', errno: -27, says: /ulimit -f/ })
    }
  })
})

describe('windows', () => {
  // In a memory of their own: open windows are in its layout.
  let guarded, window, source
  beforeAll(() => {
    guarded = new GuardedMemory({ initial: 32, maximum: 64 })
    guarded.map(region, { at: 16 * WASM_PAGE })
    window = guarded.window({ byteLength: 4 * HOST_PAGE, at: 0 })
    source = window.source(region, { chunk: 100 })
  })

  // And are as they were after each row, too.
  let before
  const picture = () => ({
    ranges: guarded.layout().ranges.map(({ kind, start, end }) => [kind, start, end]),
    window: [window.region, window.byteOffset, window.shownBytes, window.unmapped],
    shown: Buffer.from(guarded.buffer, 0, 100).equals(contents.subarray(0, 100)),
    source: [source.position, source.start, source.pointer],
    byteLength: guarded.byteLength
  })
  beforeEach(() => {
    window.slide(region, 0)
    before = picture()
  })
  afterEach(() => expect(picture()).toEqual(before))

  const ACCESSES = ['readonly', 'private', 'shared']
  const open = options => guarded.window({ byteLength: HOST_PAGE, at: HOST_PAGE * 8, ...options })
  const NOT_REGIONS = [
    undefined,
    1,
    'x',
    {},
    [],
    Symbol('s'),
    Buffer.alloc(1),
    () => HostRegion,
    Object.create(HostRegion.prototype)
  ]
  const regionRows = (call, values = NOT_REGIONS) =>
    values.map(value => ['region', value, call, { ...TYPE_ERROR, says: [/region/, /HostRegion/] }])
  const optionRows = call => optionsRows(call).filter(([, value]) => value !== undefined)

  /** What takes a part of the contents, perhaps an empty one. */
  const partRows = make => [
    ...integerRows('byteOffset', byteOffset => make({ byteOffset }), {
      min: 0,
      max: contents.length
    }),
    ...integerRows('byteLength', byteLength => make({ byteLength }), {
      min: 0,
      max: contents.length
    }),
    [
      'byteLength',
      contents.length - 9,
      byteLength => make({ byteOffset: 10, byteLength }),
      {
        ...RANGE_ERROR,
        says: [/byteLength/, received(contents.length - 9), received(contents.length - 10)]
      }
    ]
  ]

  /** What a source and chunks take alike. */
  const planRows = make => [
    ...regionRows(value => make(value), [...NOT_REGIONS, null]),
    ...optionRows(value => make(region, value)),
    ...integerRows('chunk', chunk => make(region, { chunk }), { min: 1, max: 4 * HOST_PAGE }),
    ...integerRows('overlap', overlap => make(region, { overlap }), {
      min: 0,
      max: 4 * HOST_PAGE - 1
    }),
    ...partRows(part => make(region, part)),
    ['chunk', 101, chunk => make(region, { chunk, overlap: 4 * HOST_PAGE - 100 }), RANGE_ERROR],
    ...wordRows('access', access => make(region, { access }), ACCESSES),
    [
      'access',
      'shared',
      access => make(region, { access }),
      { code: 'ERR_INVALID_ARG_VALUE', says: [/access/, /shared/, /readonly/] }
    ],
    ...booleanRows('readAhead', readAhead => make(region, { readAhead })),
    ...[0, 1, 'true', '', 'AUTO', null, {}, [], Symbol('s'), 1n].map(value => [
      'leaveBehind',
      value,
      leaveBehind => make(region, { leaveBehind }),
      { code: ['ERR_INVALID_ARG_TYPE', 'ERR_INVALID_ARG_VALUE'], says: /leaveBehind/ }
    ])
  ]

  const calls = {
    'guarded.window': [
      ...[undefined, null, 1, 'x', true, Symbol('s'), 1n].map(value => [
        'options',
        value,
        value => guarded.window(value),
        { ...TYPE_ERROR, says: /options/ }
      ]),
      ...integerRows('byteLength', byteLength => open({ byteLength }), {
        min: HOST_PAGE,
        required: true
      }),
      ...integerRows('at', at => open({ at }), {
        min: 0,
        max: 32 * WASM_PAGE - 1,
        unaligned: [1, HOST_PAGE - 1, HOST_PAGE + 8, 8n],
        bigint: true
      }),
      // Larger than the memory, and past its end by a page.
      ...[
        [0, 32 * WASM_PAGE + 1],
        [31 * WASM_PAGE, 2 * WASM_PAGE],
        [32 * WASM_PAGE - HOST_PAGE, HOST_PAGE + 1],
        [32 * WASM_PAGE, HOST_PAGE]
      ].map(([at, byteLength]) => [
        'at',
        at,
        at => guarded.window({ at, byteLength }),
        { ...RANGE_ERROR, says: [/\bat\b/, received(32 * WASM_PAGE)] }
      ]),
      // The window, and the ten pages that are mapped.
      ...[
        [0, HOST_PAGE],
        [3 * HOST_PAGE, 2 * HOST_PAGE],
        [16 * WASM_PAGE, HOST_PAGE],
        [15 * WASM_PAGE, 2 * WASM_PAGE]
      ].map(([at, byteLength]) => [
        'at',
        at,
        at => guarded.window({ at, byteLength }),
        { code: 'ERR_HOSTMAP_OVERLAP', says: received(at) }
      ]),
      ...wordRows('access', access => open({ access }), ACCESSES),
      ...wordRows('rest', rest => open({ rest }), ['trap', 'zeros']),
      ...[1, 'x', null, true, {}, { malloc: () => 0 }, { free() {} }, { malloc: 1, free: 1 }].map(
        allocator => [
          'allocator',
          allocator,
          allocator => guarded.window({ byteLength: HOST_PAGE, allocator }),
          { ...TYPE_ERROR, says: /allocator/ }
        ]
      ),
      [
        'at',
        0,
        at => open({ at, allocator: { malloc: () => 0, free() {} } }),
        { code: 'ERR_INVALID_ARG_VALUE', says: [/\bat\b/, /allocator/] }
      ]
    ],
    'window.slide': [
      ...regionRows(value => window.slide(value)),
      ...integerRows('byteOffset', value => window.slide(region, value), {
        min: 0,
        max: contents.length - 1,
        orPart: true
      }),
      ...optionRows(value => window.slide(region, 0, value)),
      ...integerRows('byteLength', byteLength => window.slide(region, 0, { byteLength }), {
        min: 1,
        max: 4 * HOST_PAGE
      }),
      // A part of the first page is lost, and the region ends.
      [
        'byteLength',
        4 * HOST_PAGE,
        byteLength => window.slide(region, 1, { byteLength }),
        { ...RANGE_ERROR, says: [/byteLength/, received(4 * HOST_PAGE - 1)] }
      ],
      [
        'byteLength',
        11,
        byteLength => window.slide(region, contents.length - 10, { byteLength }),
        { ...RANGE_ERROR, says: [/byteLength/, /10/, /11/] }
      ],
      ...wordRows('access', access => window.slide(region, 0, { access }), ACCESSES),
      ...['private', 'shared'].map(access => [
        'access',
        access,
        access => window.slide(region, 0, { access }),
        { code: 'ERR_INVALID_ARG_VALUE', says: [/access/, received(access), /readonly/] }
      ])
    ],
    'window.source': planRows((...args) => window.source(...args)),
    'window.chunks': [
      ...planRows((...args) => window.chunks(...args)),
      ...[1, 'x', null, true, {}, new EventTarget(), { aborted: false }].map(signal => [
        'signal',
        signal,
        signal => window.chunks(region, { signal }),
        { ...TYPE_ERROR, says: [/signal/, /AbortSignal/] }
      ]),
      ...[1, 'x', null, true, {}].map(onProgress => [
        'onProgress',
        onProgress,
        onProgress => window.chunks(region, { onProgress }),
        { ...TYPE_ERROR, says: [/onProgress/, /[Ff]unction/] }
      ])
    ],
    'source.next': integerRows('keep', value => source.next(value), { min: 0, bigint: true }),
    'source.seek': integerRows('byteOffset', value => source.seek(value), {
      min: 0,
      max: contents.length,
      required: true
    }),
    'mapping.prefetch': [
      ...optionRows(value => mapped.prefetch(value)),
      ...partRows(part => mapped.prefetch(part)),
      ...[1, 'x', {}, null].map(signal => [
        'signal',
        signal,
        signal => mapped.prefetch({ signal }),
        { ...TYPE_ERROR, says: /signal/ }
      ])
    ],
    'region.split': [
      ...integerRows('count', value => region.split(value), {
        min: 1,
        max: 2 ** 20,
        required: true
      }),
      ...optionRows(value => region.split(1, value)),
      ...integerRows('align', align => region.split(1, { align }), { min: 1 }),
      ...partRows(part => region.split(1, part))
    ]
  }
  for (const [callee, rows] of Object.entries(calls)) {
    describe(`${callee} refuses`, () => {
      for (const [name, value, call, expected] of rows) {
        test(`${name}: ${typeof value} ${named(value)}`, () =>
          expectFailure(() => call(value), expected))
      }
    })
  }

  test('larger than the memory may grow are refused as full', async () => {
    await expectFailure(() => guarded.window({ byteLength: 33 * WASM_PAGE }), {
      code: 'ERR_HOSTMAP_MEMORY_FULL',
      says: /64/
    })
  })

  test('past the end of a memory of which only the buffer is known are refused', async () => {
    await expectFailure(() => hidden.window({ byteLength: HOST_PAGE }), {
      code: 'ERR_HOSTMAP_MEMORY_HIDDEN'
    })
  })

  test.each([
    ['no address', 0],
    ['none in the memory', 32 * WASM_PAGE],
    ['half a number', 0.5],
    ['a word', 'x']
  ])('whose allocator gives %s are refused, and nothing is freed', async (_, address) => {
    const free = jest.fn()
    await expectFailure(
      () => guarded.window({ byteLength: HOST_PAGE, allocator: { malloc: () => address, free } }),
      { code: 'ERR_HOSTMAP_ALLOCATOR_FAILED', says: /malloc/ }
    )
    expect(free).not.toHaveBeenCalled()
  })

  test('whose block is taken give it back', async () => {
    const free = jest.fn()
    await expectFailure(
      () =>
        guarded.window({
          byteLength: HOST_PAGE,
          allocator: { malloc: () => 16 * WASM_PAGE, free }
        }),
      { code: 'ERR_HOSTMAP_OVERLAP' }
    )
    expect(free.mock.calls).toEqual([[16 * WASM_PAGE]])
  })

  test.each([
    ['slide', region => window.slide(region)],
    ['source', region => window.source(region)],
    ['chunks', region => window.chunks(region)]
  ])('%s of a closed region says so, with its name', async (_, call) => {
    const closed = HostRegion.allocate(WASM_PAGE, { name: 'long closed' })
    closed.close()
    await expectFailure(() => call(closed), {
      code: 'ERR_HOSTMAP_REGION_CLOSED',
      says: /long closed/
    })
  })

  test.each([
    ['sealed', () => HostRegion.allocate(1).seal()],
    ['a file opened for reading', () => HostRegion.open(file)]
  ])('shared: a region that is %s can not be shown', async (_, make) => {
    const readonly = make()
    const shared = guarded.window({ byteLength: HOST_PAGE, at: 8 * HOST_PAGE, access: 'shared' })
    await expectFailure(() => shared.slide(readonly), {
      code: 'ERR_HOSTMAP_REGION_READONLY',
      says: /private/
    })
    const steps = shared.source(readonly)
    await expectFailure(() => steps.next(), { code: 'ERR_HOSTMAP_REGION_READONLY' })
    expect(steps.position).toBe(0)
    shared.unmap()
    readonly.close()
  })

  test('and sources are made by no constructor', async () => {
    for (const Class of [Window, WindowSource]) {
      for (const args of [[], [{}, 1, 'x'], [undefined, window, region]]) {
        await expectFailure(() => new Class(...args), { code: 'ERR_ILLEGAL_CONSTRUCTOR' })
      }
    }
  })

  const members = [Window, WindowSource, HostRegion].flatMap(({ name, prototype }) =>
    [...Object.getOwnPropertyNames(prototype), Symbol.dispose]
      .filter(key => key !== 'constructor' && Object.hasOwn(prototype, key))
      .map(key => [name, String(key), prototype, Object.getOwnPropertyDescriptor(prototype, key)])
  )
  test.each(members)(
    '%s.prototype.%s of something else is a TypeError',
    (_name, _key, prototype, member) => {
      const others = [region, guarded, window, source].filter(
        object => !(object instanceof prototype.constructor)
      )
      for (const self of [undefined, null, 1, {}, prototype, Object.create(prototype), ...others]) {
        expect(() => (member.get ?? member.value).call(self)).toThrow(
          expect.objectContaining({ name: 'TypeError' })
        )
      }
    }
  )

  test64.each([16 * 2 ** 30, 2 ** 52, 2n ** 52n, 2n ** 64n, -4096n, 4097n])(
    'of a 64-bit memory are refused at %p',
    async at => {
      const large = new GuardedMemory({ initial: 70_000, address: 'i64' })
      await expectFailure(() => large.window({ byteLength: HOST_PAGE, at }), {
        ...VALUE_ERROR,
        says: [/\bat\b/, received(at)]
      })
    }
  )
})
