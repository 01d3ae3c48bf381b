'use strict'

// Requests: what a piece of work with a unit has begun and may still call back is counted, and
// only that.

const { AsyncResource, asyncWrapProviders } = require('node:async_hooks')
const childProcess = require('node:child_process')
const crypto = require('node:crypto')
const dgram = require('node:dgram')
const { EventEmitter, once } = require('node:events')
const fs = require('node:fs')
const http = require('node:http')
const net = require('node:net')
const { Readable } = require('node:stream')
const timers = require('node:timers/promises')
const vm = require('node:vm')
const { MessageChannel, Worker } = require('node:worker_threads')
const zlib = require('node:zlib')
const { inChild } = require('./support/child')
const { kinds, request } = require('./support/native')
const { assemble } = require('./support/wasm')

const { beginRequest, outside, turn } = request

const unit = () => ({ timeline: undefined, calls: { suspended: 0 } })
const never = new Promise(() => {})

/** What is pending when a function of a request is done, and a turn of the event loop later. */
async function leftBy(fn) {
  const it = beginRequest(unit())
  try {
    await it.run(fn)
    const first = it.pending()
    if (first === undefined) return undefined
    await turn()
    return it.pending()?.kinds
  } finally {
    it.end()
  }
}

describe('what is over is not pending:', () => {
  const cases = {
    nothing: () => {},
    'an async function': async () => {
      await 0
      await null
    },
    'promises that wait for one another': () =>
      Promise.resolve(1)
        .then(it => it)
        .finally(() => {}),
    'a rejected promise that was caught': () => Promise.reject(new Error('no')).catch(() => {}),
    'a promise that nobody waits for': () => void new Promise(() => {}),
    'timers that fired': () => timers.setTimeout(1),
    'timers that were cleared': () => {
      clearTimeout(setTimeout(() => {}, 1))
      clearInterval(setInterval(() => {}, 1))
      clearImmediate(setImmediate(() => {}))
    },
    'an interval that ended itself': () =>
      new Promise(resolve => {
        const interval = setInterval(() => (clearInterval(interval), resolve()), 1)
      }),
    ticks: () => new Promise(resolve => process.nextTick(() => queueMicrotask(resolve))),
    'a file that was read': () => fs.promises.readFile(__filename),
    'a file that was read, by a callback': () =>
      new Promise(resolve => fs.readFile(__filename, resolve)),
    'a stream of a file': async () => {
      for await (const chunk of fs.createReadStream(__filename)) void chunk
    },
    // It calls nothing: what was opened is the business of what restores descriptors.
    'a descriptor that is open': () => fs.closeSync(fs.openSync(__filename)),
    'a stream that was left': async () => {
      const iterator = Readable.from(['a', 'b'])[Symbol.asyncIterator]()
      await iterator.next()
      await iterator.return()
    },
    'a server that was closed': async () => {
      const server = net.createServer(socket => socket.end('all'))
      await once(server.listen(0), 'listening')
      const socket = net.connect(server.address().port)
      await once(socket.resume(), 'close')
      server.close()
    },
    'a request over HTTP': async () => {
      const server = http.createServer((asked, answer) => {
        // Node keeps the time of day for a second, with a timer.
        answer.sendDate = false
        answer.end('all')
      })
      await once(server.listen(0), 'listening')
      const { port } = server.address()
      const [answer] = await once(http.get({ port, agent: false }), 'response')
      for await (const chunk of answer) void chunk
      await new Promise(resolve => server.close(resolve))
    },
    // Node begins that, and gives it up at once.
    'a connection that never was': () =>
      once(net.connect({ host: '255.255.255.255', port: 9 }), 'error'),
    'a socket that was closed': () => dgram.createSocket('udp4').close(),
    'a child process that ended': async () => {
      await once(childProcess.spawn(process.execPath, ['-e', '']), 'close')
    },
    'a worker that ended': () => once(new Worker('', { eval: true }), 'exit'),
    'ports that nobody listens to': () => new MessageChannel(),
    'ports that were closed': () => {
      const { port1, port2 } = new MessageChannel()
      port1.on('message', () => {})
      port2.on('message', () => {})
      port1.close()
      return once(port2, 'close')
    },
    'a watcher that was closed': () => fs.watch(__filename).close(),
    'work of threads': () =>
      Promise.all([
        new Promise(resolve => crypto.randomBytes(8, resolve)),
        new Promise(resolve => zlib.gzip('abc', resolve)),
        crypto.subtle.digest('SHA-256', Buffer.alloc(8))
      ]),
    'a compressor that has nothing to do': () => zlib.createGzip(),
    'a resource of a script': () => new AsyncResource('MINE', { requireManualDestroy: true }),
    'a generator that was left half-way': () => {
      function* generate() {
        yield 1
        yield 2
      }
      generate().next()
    },
    'an async generator that was left at a yield': async () => {
      async function* generate() {
        yield 1
        yield 2
      }
      await generate().next()
    },
    'a module that was imported': () => vm.runInThisContext('1'),
    'what is begun outside': () => outside(() => void never.then(() => {}))
  }
  test.each(Object.keys(cases))('%s', async name => {
    expect(await leftBy(cases[name])).toBe(undefined)
  })
})

describe('what may call back is pending:', () => {
  const open = []
  const later = stop => open.push(stop)
  afterEach(() => {
    while (open.length > 0) open.pop()()
  })
  const cases = {
    Timeout: [
      () => {
        const timeout = setTimeout(() => {}, 1e6)
        later(() => clearTimeout(timeout))
      },
      { Timeout: 1 }
    ],
    'a timer that keeps no process alive': [
      () => {
        const timeout = setInterval(() => {}, 1e6).unref()
        later(() => clearInterval(timeout))
      },
      { Timeout: 1 }
    ],
    'a timer of a timer': [
      () =>
        new Promise(resolve =>
          setTimeout(() => {
            const timeout = setTimeout(() => {}, 1e6)
            later(() => clearTimeout(timeout))
            resolve()
          }, 1)
        ),
      { Timeout: 1 }
    ],
    'an interval that fired': [
      () =>
        new Promise(resolve => {
          const interval = setInterval(resolve, 1)
          later(() => clearInterval(interval))
        }),
      { Timeout: 1 }
    ],
    'a function that waits for a promise': [() => void never.then(() => {}), { PROMISE: 1 }],
    'an async function that waits': [() => void (async () => await never)(), { PROMISE: 1 }],
    'several of them': [
      () => {
        for (let i = 0; i < 100; i++) never.then(() => {})
      },
      { PROMISE: 100 }
    ],
    'what the other of a race would do': [
      () => Promise.race([new Promise(() => {}), 1]),
      { PROMISE: 1 }
    ],
    'an async generator that waits': [
      () => {
        async function* generate() {
          await never
          yield 1
        }
        generate().next()
      },
      { PROMISE: 1 }
    ],
    'a function in another realm': [
      () => {
        vm.runInNewContext('new Promise(() => {}).then(() => {})')
      },
      { PROMISE: 1 }
    ],
    'a server': [
      () => {
        const server = net.createServer().listen(0)
        later(() => server.close())
      },
      { TCPSERVERWRAP: 1 }
    ],
    'a socket': [
      () => {
        const socket = dgram.createSocket('udp4')
        later(() => socket.close())
      },
      { UDPWRAP: 1 }
    ],
    'a child process': [
      () => {
        const child = childProcess.spawn('sleep', ['1000'], { stdio: 'ignore' })
        later(() => child.kill())
      },
      { PROCESSWRAP: 1 }
    ],
    'a worker, with its ports': [
      () => {
        const worker = new Worker('setInterval(() => {}, 1e6)', { eval: true })
        later(() => worker.terminate())
      },
      { WORKER: 1, MESSAGEPORT: 3 }
    ],
    'a port that somebody listens to': [
      () => {
        const { port1 } = new MessageChannel()
        port1.onmessage = () => {}
        port1.unref()
        later(() => port1.close())
      },
      { MESSAGEPORT: 1 }
    ],
    'a channel to all threads': [
      () => {
        const channel = new BroadcastChannel('here')
        channel.onmessage = () => {}
        later(() => channel.close())
      },
      { MESSAGEPORT: 1 }
    ],
    'a watcher': [
      () => {
        const watcher = fs.watch(__filename)
        later(() => watcher.close())
      },
      { FSEVENTWRAP: 1 }
    ],
    'a file that is looked at now and then': [
      () => {
        fs.watchFile(__filename, () => {})
        later(() => fs.unwatchFile(__filename))
      },
      { STATWATCHER: 1 }
    ]
  }
  test.each(Object.keys(cases))('%s', async name => {
    const [fn, pending] = cases[name]
    expect(await leftBy(fn)).toEqual(pending)
  })

  test('what will be over soon, until it is', async () => {
    const it = beginRequest(unit())
    it.run(() => {
      process.nextTick(() => {})
      queueMicrotask(() => {})
      setImmediate(() => {})
      fs.stat(__filename, () => {})
      crypto.randomBytes(8, () => {})
      zlib.gzip('abc', () => {})
      Promise.resolve().then(() => {})
    })
    const { count, kinds } = it.pending()
    expect(kinds).toEqual({
      TickObject: expect.any(Number),
      Microtask: 1,
      Immediate: 1,
      FSREQCALLBACK: 1,
      RANDOMBYTESREQUEST: 1,
      ZLIB: 1,
      PROMISE: 1
    })
    expect(count).toBe(Object.values(kinds).reduce((sum, n) => sum + n, 0))
    while (it.pending() !== undefined) await turn()
    it.end()
  })

  test('not what crypto has computed at once', async () => {
    expect(
      await leftBy(() => {
        crypto.randomBytes(8)
        crypto.getRandomValues(new Uint8Array(8))
        crypto.scryptSync('word', 'salt', 8)
        crypto.generateKeyPairSync('ed25519')
      })
    ).toBe(undefined)
  })

  test('calls into the unit that are suspended', () => {
    const inside = unit()
    const it = beginRequest(inside)
    inside.calls.suspended = 2
    expect(it.pending()).toEqual({ count: 2, kinds: { SUSPENDED_CALL: 2 } })
    it.end()
  })
})

describe('whose it is', () => {
  test('code outside, before and meanwhile, is not counted', async () => {
    const it = beginRequest(unit())
    const emitter = new EventEmitter()
    const timeout = setTimeout(() => {}, 1e6)
    never.then(() => {})
    await it.run(async () => {
      // Who emits calls the listeners.
      emitter.on('later', () => {})
      await 0
    })
    never.then(() => {})
    expect(it.pending()).toBe(undefined)
    clearTimeout(timeout)
    it.end()
  })

  test('what waits for the promise of a request is not counted', async () => {
    const it = beginRequest(unit())
    let done
    const promise = it.run(async () => {
      await new Promise(resolve => (done = resolve))
      return 5
    })
    const after = promise.then(value => value + 1)
    expect(it.pending()).toEqual({ count: 1, kinds: { PROMISE: 1 } })
    done()
    expect(await after).toBe(6)
    expect(it.pending()).toBe(undefined)
    it.end()
  })

  test('requests at the same time are counted each by itself', async () => {
    const all = [0, 1, 2, 3].map(() => beginRequest(unit()))
    await Promise.all(
      all.map((it, index) =>
        it.run(async () => {
          for (let i = 0; i < 5; i++) await timers.setTimeout(1)
          for (let i = 0; i < index; i++) never.then(() => {})
        })
      )
    )
    const counts = () => all.map(it => it.pending()?.count)
    expect(counts()).toEqual([undefined, 1, 2, 3])
    all[2].end()
    expect(counts()).toEqual([undefined, 1, undefined, 3])
    all.forEach(it => it.end())
  })

  test('what begins in a request within another is of both', async () => {
    const outer = beginRequest(unit())
    let inner
    outer.run(() => {
      inner = beginRequest(unit())
      inner.run(() => {
        never.then(() => {})
        setImmediate(() => {})
      })
      setImmediate(() => {})
    })
    expect(inner.pending().kinds).toEqual({ PROMISE: 1, Immediate: 1 })
    expect(outer.pending().kinds).toEqual({ PROMISE: 1, Immediate: 2 })
    inner.end()
    expect(outer.pending().kinds).toEqual({ PROMISE: 1, Immediate: 2 })
    await turn()
    expect(outer.pending().kinds).toEqual({ PROMISE: 1 })
    outer.end()
  })

  test('what a request that is over begins is of the one around it', async () => {
    const outer = beginRequest(unit())
    let begin
    const begun = outer.run(() => {
      const inner = beginRequest(unit())
      const done = inner.run(async () => {
        await new Promise(resolve => (begin = resolve))
        never.then(() => {})
      })
      inner.end()
      return done
    })
    begin()
    await begun
    expect(outer.pending().kinds).toEqual({ PROMISE: 1 })
    outer.end()
  })

  test('after the end nothing is counted, and it may end again', async () => {
    const it = beginRequest(unit())
    let begin
    const begun = it.run(async () => {
      await new Promise(resolve => (begin = resolve))
      setImmediate(() => {})
    })
    it.end()
    const other = beginRequest(unit())
    it.end()
    begin()
    await begun
    expect(it.pending()).toBe(undefined)
    expect(other.pending()).toBe(undefined)
    other.run(() => never.then(() => {}))
    expect(other.pending()).toEqual({ count: 1, kinds: { PROMISE: 1 } })
    other.end()
  })

  test('a function that throws has begun what it began', () => {
    const it = beginRequest(unit())
    const fail = () => {
      never.then(() => {})
      throw new Error('no')
    }
    expect(() => it.run(fail)).toThrow('no')
    expect(it.pending()).toEqual({ count: 1, kinds: { PROMISE: 1 } })
    it.end()
  })
})

describe('in a process of its own', () => {
  test('the end of the stack ends no process, and counts', async () => {
    const counts = await inChild(
      ({ require }) => {
        const { beginRequest } = require('./native').request
        const never = new Promise(() => {})
        const begin = {
          reaction: () => never.then(() => {}),
          'async function': async () => await never,
          tick: () => process.nextTick(() => {}),
          microtask: () => queueMicrotask(() => {})
        }
        const counts = {}
        for (const name of Object.keys(begin)) {
          const deep = () => {
            begin[name]()
            deep()
          }
          // Begins at another depth each time.
          const from = depth => (depth > 0 ? from(depth - 1) : deep())
          const it = beginRequest({ calls: { suspended: 0 } })
          let ends = 0
          it.run(() => {
            for (let depth = 0; depth < 10; depth++) {
              try {
                from(depth)
              } catch (error) {
                if (error instanceof RangeError) ends += 1
              }
            }
          })
          counts[name] = [ends, it.pending().count > 1000]
          it.end()
        }
        return counts
      },
      { flags: ['--stack-size=100'] }
    )
    const right = [10, true]
    expect(counts).toEqual({
      reaction: right,
      'async function': right,
      tick: right,
      microtask: right
    })
  })

  test('at the end of the stack a request begins or does not, and ends or does not', async () => {
    const seen = await inChild(async ({ require, assert }) => {
      const { beginRequest, turn } = require('./native').request
      const V8s = FinalizationRegistry
      const inside = { calls: { suspended: 0 } }
      const atEnd = (padding, fn) => {
        let isDone = false
        const dive = (...rest) => {
          try {
            dive(...rest)
          } catch (error) {
            if (isDone) return
            if (!(error instanceof RangeError)) throw error
            fn()
            isDone = true
          }
        }
        dive(...Array(padding).fill(1))
      }
      for (let padding = 0; padding < 60; padding++) {
        let begun
        atEnd(padding, () => {
          begun ??= beginRequest(inside)
          begun.end()
        })
        assert.equal(begun.pending(), undefined)
        begun.end()
        const request = beginRequest(inside)
        let turned
        atEnd(padding, () => {
          request.pending()
          turned = turn()
        })
        await turned
        request.run(() => void new Promise(() => {}).then(() => {}))
        assert(request.pending().kinds.PROMISE >= 1)
        request.end()
        assert.equal(FinalizationRegistry, V8s)
      }
      return 'as it was'
    })
    expect(seen).toBe('as it was')
  })

  test('what scripts have done to Map, AsyncLocalStorage and Array is not asked', async () => {
    const kinds = await inChild(({ require }) => {
      const { beginRequest } = require('./native').request
      const { AsyncLocalStorage } = require('node:async_hooks')
      const no = () => {
        Promise.resolve().then(() => {})
        throw new Error('no')
      }
      const request = beginRequest({ calls: { suspended: 0 } })
      const changed = []
      for (const { prototype } of [Map, AsyncLocalStorage, Array]) {
        for (const name of ['get', 'set', 'delete', 'run', 'getStore', 'disable', 'push']) {
          if (!Object.hasOwn(prototype, name)) continue
          changed.unshift([prototype, name, prototype[name]])
          prototype[name] = no
        }
      }
      request.run(() => {
        new Promise(() => {}).then(() => {})
        queueMicrotask(() => {})
        setTimeout(() => {}, 0)
      })
      for (const [prototype, name, before] of changed) prototype[name] = before
      const { kinds } = request.pending()
      request.end()
      return kinds
    })
    expect(kinds).toEqual({ PROMISE: 1, Microtask: 1, Timeout: 1 })
  })

  test('a call that waits for a promise of JavaScript, of a function made in the request', async () => {
    const bytes = await assemble(`(module
      (import "env" "wait" (func $wait (result i32)))
      (func (export "call") (result i32) (call $wait)))`)
    const seen = await inChild(
      async ({ require, args }) => {
        if (typeof WebAssembly.Suspending !== 'function') return 'none'
        const { beginRequest } = require('./native').request
        let go
        const wait = new WebAssembly.Suspending(() => new Promise(resolve => (go = resolve)))
        const module = new WebAssembly.Module(new Uint8Array(args))
        const { exports } = new WebAssembly.Instance(module, { env: { wait } })
        const request = beginRequest({ calls: { suspended: 0 } })
        let promise
        request.run(() => {
          promise = WebAssembly.promising(exports.call)()
        })
        const { kinds } = request.pending()
        go(5)
        const answer = await promise
        const after = request.pending() ?? null
        request.end()
        return [kinds.SUSPENDED_CALL, answer, after]
      },
      { args: [...bytes] }
    )
    expect(['none', [1, 5, null]]).toContainEqual(seen)
  })

  test('the output of a process is none of a request, though the first to print opens it', async () => {
    const pending = await inChild(async ({ require }) => {
      const { beginRequest, turn } = require('./native').request
      const request = beginRequest({ calls: { suspended: 0 } })
      request.run(() => console.log('printed'))
      await turn()
      const pending = request.pending() ?? null
      request.end()
      return pending
    })
    expect(pending).toBe(null)
  })
})

test('each of the kinds of resources that Node has is known', () => {
  const { kindOf, OPEN, QUIET } = kinds
  for (const type of OPEN) expect(kindOf(type)).toBe('watched')
  for (const type of QUIET) expect(kindOf(type)).toBe(undefined)
  const rest = Object.keys(asyncWrapProviders).filter(it => !OPEN.has(it) && !QUIET.has(it))
  // What calls back once, as it is: a new kind of Node's has to be looked at.
  const once = rest.filter(it => kindOf(it) === 'once')
  const known =
    /REQ$|REQUEST$|REQWRAP$|CONNECTWRAP$|^(FSREQ(CALLBACK|PROMISE)|HTTP2(PING|SETTINGS)|LOCKS|(QUERY|SHUTDOWN|UDPSEND|WRITE)WRAP|WORKER\w+)$/
  expect(once.filter(it => !known.test(it))).toEqual([])
  expect(rest.filter(it => kindOf(it) !== 'once').sort()).toEqual([
    'MESSAGEPORT',
    'PROMISE',
    'ZLIB'
  ])
  expect(['Timeout', 'Immediate'].map(kindOf)).toEqual(['watched', 'watched'])
  expect(['TickObject', 'Microtask'].map(kindOf)).toEqual(['once', 'once'])
  expect(['MINE', 'toString', '__proto__'].map(kindOf)).toEqual([undefined, undefined, undefined])
})
