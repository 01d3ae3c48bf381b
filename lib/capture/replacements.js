'use strict'

// What takes the place of functions of WebAssembly while captures run, and of FinalizationRegistry
// and WebAssembly.promising while captures or requests do, and only so long: engines look them up
// each time. Those of WebAssembly stay as long as tables are watched (tables.js), and so does that
// of Table.prototype.set. This is the one place where the package changes a global object. Code of
// neither gets what it would have got; only the tables that it gives to instances, or writes, are
// noted. What another script has put there is called, and found again afterwards.

const { makeError } = require('../support/errors.js')
const { received } = require('../support/given.js')
const { roomOnStack } = require('../support/stack.js')
const { messageOf, ownOf } = require('../support/thrown.js')
const { lookAtCallers } = require('../platform/callers.js')
const { Uint8Array, getOwnPropertyDescriptor } = require('../platform/intrinsics.js')
const {
  beginTable,
  noteGap,
  noteGiven,
  noteGivenInVain,
  noteGivenLater,
  notingSet
} = require('../instance/table-writes.js')
const { current } = require('./context.js')
const { makeRegistry } = require('./registries.js')
const { follow, scope, unfollow } = require('./scope.js')
const {
  copyOf,
  isBytes,
  exposedBytes,
  exposedBytesLater,
  noteModule,
  refusalOf,
  recordOf
} = require('./exposed.js')

// Taken now, like those of v8.js.
const { apply, construct, defineProperty, deleteProperty } = Reflect
const { Module, Table } = WebAssembly

// The same, of all that ever were, by name and by the function that was there before: it takes a
// while to make them, and a pool may have thousands of requests a second.
const made = { __proto__: null }
// How many captures and requests run, and how many of these are captures.
let running = 0
let capturing = 0
// Whether tables are watched.
let isHeld = false

/**
 * Of each name: what a call does in a capture; `undefined` leaves it to V8. `before`: what was
 * there before, by name.
 */
const FUNCTIONS = {
  compile: (before, context, [bytes, ...options]) =>
    isBytes(bytes) ? compileBytes(before, bytes, options) : undefined,
  compileStreaming: (before, context, [source, ...options]) =>
    streamed(before.compileStreaming, source, options, bytes =>
      compileBytes(before, bytes, options)
    ),
  instantiate: (before, context, [what, ...more]) => {
    if (isBytes(what)) return context.during(() => instantiateBytes(before, context, what, more))
    if (isModule(what)) return context.during(() => instantiateModule(before, context, what, more))
    return undefined
  },
  instantiateStreaming: (before, context, [source, ...more]) =>
    context.during(() =>
      streamed(before.instantiateStreaming, source, more, bytes =>
        instantiateBytes(before, context, bytes, more)
      )
    )
}

/** The same in a capture or request. */
const CALLS = {
  // Where V8 has it: the calls of what it gives are suspended while promises of JavaScript's are
  // pending.
  promising: (before, { calls }, args) =>
    counting(apply(before.promising, WebAssembly, args), calls)
}

/**
 * The same of a call outside of captures, which `call` makes. The tables that an instance is given
 * may be those of a captured one.
 */
const OUTSIDE = {
  instantiate(call, [what, imports]) {
    // Without imports it is given nothing.
    if (imports === undefined) return undefined
    if (isBytes(what)) {
      // The caller may use the buffer for something else meanwhile.
      const copy = copyOf(what)
      return noteGivenLater(imports, call, () => new Module(copy))
    }
    if (isModule(what)) noteGiven(what, imports)
    return undefined
  },
  // What was streamed is gone, so that no module can be made of it.
  instantiateStreaming: (call, [, imports]) =>
    imports === undefined ? undefined : noteGivenLater(imports, call, () => undefined)
}

/** Of each name: what makes an object in a capture, by `make`. */
const CLASSES = {
  Module(before, context, args, make) {
    if (!isBytes(args[0])) return make(args)
    const exposed = exposedBytes(args[0])
    const module = make([exposed.bytes, ...args.slice(1)])
    noteModule(module, exposed)
    return module
  },
  Instance(before, context, args, make) {
    const [module, imports] = args
    if (!isModule(module)) return make(args)
    if (context === undefined) {
      noteGiven(module, imports)
      return make(args)
    }
    let instance
    try {
      instance = make(args)
    } catch (error) {
      noteGiven(module, imports)
      throw error
    }
    note(context, instance, module, imports)
    return instance
  },
  Table(before, context, args, make) {
    const table = make(args)
    // That of a script may give one that others have.
    if (before.Table === Table) beginTable(table)
    return table
  }
}

function isModule(value) {
  try {
    Module.imports(value)
    return true
  } catch {
    return false
  }
}

/**
 * Notes a new instance. One that can't be captured is made all the same: glue may have nobody who
 * waits for its failure, which would end the process. The capture fails in the end.
 */
function note(context, instance, module, imports) {
  try {
    const refusal = refusalOf(module)
    if (refusal !== undefined) refuse(refusal)
    // A function that was made of others has called their replacements, too: then it is known.
    else if (!context.has(instance)) context.add(recordOf(instance, module, context))
  } catch (error) {
    refuse(ownOf(error, 'code') === undefined ? notGenuine(error) : error)
  }

  function refuse(error) {
    noteGiven(module, imports)
    context.refuse(error)
  }
}

const notGenuine = cause =>
  makeError(
    'ERR_HOSTMAP_NOT_CAPTURED',
    `what make got of WebAssembly is no instance that can be captured (${messageOf(cause) || received(cause)}): a script has put functions of its own there, which give something else or freeze what they give`,
    { cause }
  )

async function compileBytes({ compile }, bytes, options) {
  const exposed = await exposedBytesLater(bytes)
  const module = await apply(compile, WebAssembly, [exposed.bytes, ...options])
  noteModule(module, exposed)
  return module
}

async function instantiateBytes({ instantiate }, context, bytes, more) {
  const exposed = await exposedBytesLater(bytes)
  const [imports] = more
  let made
  try {
    made = await apply(instantiate, WebAssembly, [exposed.bytes, ...more])
  } catch (error) {
    noteGivenInVain(imports, () => new Module(exposed.bytes))
    throw error
  }
  noteModule(made?.module, exposed)
  note(context, made?.instance, made?.module, imports)
  return made
}

async function instantiateModule({ instantiate }, context, module, more) {
  const [imports] = more
  let instance
  try {
    instance = await apply(instantiate, WebAssembly, [module, ...more])
  } catch (error) {
    noteGiven(module, imports)
    throw error
  }
  note(context, instance, module, imports)
  return instance
}

/** What is no response of a module is left to V8, which says so. */
async function streamed(previous, source, more, then) {
  const response = await source
  if (!isResponse(response)) return apply(previous, WebAssembly, [response, ...more])
  return then(new Uint8Array(await response.arrayBuffer()))
}

const isResponse = value =>
  typeof value?.arrayBuffer === 'function' &&
  value.ok === true &&
  value.bodyUsed === false &&
  value.headers?.get?.('content-type') === 'application/wasm'

function counting(promising, calls) {
  return (...args) => {
    calls.suspended += 1
    const isOver = () => {
      calls.suspended -= 1
    }
    try {
      return promising(...args).finally(isOver)
    } catch (error) {
      isOver()
      throw error
    }
  }
}

function functionIn(entry, captured) {
  const called = (target, self, args) => {
    const call = () => apply(target, self, args)
    if (!entry.counts) return call()
    const context = contextOf(entry, called)
    const result =
      context === undefined
        ? OUTSIDE[entry.name]?.(call, args)
        : captured(entry.before, context, args)
    return result === undefined ? call() : result
  }
  return new Proxy(entry.previous, { apply: called })
}

function classIn(entry, captured) {
  const constructed = (target, args, newTarget) => {
    const make = given => construct(target, given, newTarget === replacement ? target : newTarget)
    const context = contextOf(entry, constructed)
    const isLeft = context === undefined && (!entry.counts || entry.name !== 'Instance')
    return isLeft ? make(args) : captured(entry.before, context, args, make)
  }
  const replacement = new Proxy(entry.previous, { construct: constructed })
  return replacement
}

/**
 * The context of a call, if it counts. What the programs within Node.js make is the process's: its
 * `fetch` parses HTTP with an instance that it makes when it is first called.
 */
function contextOf(entry, called) {
  const context = entry.counts ? entry.contextOf() : undefined
  return context === undefined || lookAtCallers(called, 1, isNodes) ? undefined : context
}

const isNodes = ([site]) => site?.getFileName?.()?.startsWith('node:internal/deps/') ?? false

// What its code has begun may make registries after a capture or request is over, too.
const registry = ({ FinalizationRegistry }, { timeline }, args, make) =>
  timeline === undefined ? make(args) : makeRegistry(FinalizationRegistry, timeline, args, make)

// What is replaced together: names, with what is done in their place, and the replacements that are
// there, the last one first.
const ofWebAssembly = {
  holder: () => WebAssembly,
  contextOf: current,
  wanted: [
    ...Object.entries(FUNCTIONS).map(it => [...it, functionIn]),
    ...Object.entries(CLASSES).map(it => [...it, classIn])
  ],
  installed: []
}
const ofCalls = {
  holder: () => WebAssembly,
  contextOf: scope,
  wanted: Object.entries(CALLS).map(it => [...it, functionIn]),
  installed: []
}
const ofGlobal = {
  holder: () => globalThis,
  contextOf: scope,
  wanted: [['FinalizationRegistry', registry, classIn]],
  installed: []
}
const ofTables = {
  holder: () => WebAssembly.Table?.prototype,
  contextOf: scope,
  wanted: [['set', undefined, ({ previous }) => notingSet(previous)]],
  installed: []
}

/** Replaces what is not replaced: all, or what another script has put there since. */
function install(group) {
  const { contextOf, wanted, installed } = group
  // A script may put another WebAssembly in the place of V8's.
  const holder = group.holder()
  const before = { __proto__: null }
  const added = []
  try {
    for (const [name, captured, replacementIn] of wanted) {
      const descriptor = getOwnPropertyDescriptor(holder, name)
      const there = installed.find(({ replacement }) => replacement === descriptor?.value)
      const previous = there === undefined ? holder[name] : there.previous
      if (typeof previous !== 'function') continue
      before[name] = previous
      if (there !== undefined) continue
      const entry = entryOf(name, previous, captured, replacementIn)
      const isInstalled = installed.includes(entry)
      Object.assign(entry, {
        holder,
        name,
        descriptor,
        before,
        contextOf,
        counts: true
      })
      replace(entry)
      if (!isInstalled) added.unshift(entry)
    }
  } catch (error) {
    added.forEach(putBack)
    throw error
  }
  group.installed = [...added, ...installed]
}

function entryOf(name, previous, captured, replacementIn) {
  made[name] ??= new WeakMap()
  let entry = made[name].get(previous)
  if (entry === undefined) {
    entry = { previous, counts: false }
    entry.replacement = replacementIn(entry, captured)
    made[name].set(previous, entry)
  }
  return entry
}

function replace({ holder, name, descriptor, replacement: value }) {
  const { writable = true, enumerable = false, configurable = true } = descriptor ?? {}
  if (defineProperty(holder, name, { value, writable, enumerable, configurable })) return
  throw makeError(
    'ERR_HOSTMAP_NOT_CAPTURED',
    `${holder === globalThis ? name : `WebAssembly.${name}`} can't be replaced while make or a request runs, since a script has frozen it; capture before that, or compile what exposeState gives and take Snapshot.of the instance`
  )
}

function installOfWebAssembly() {
  if (ofWebAssembly.installed.length === 0) noteGap()
  install(ofWebAssembly)
}

function uninstall(group) {
  group.installed.forEach(putBack)
  group.installed = []
}

function putBack(entry) {
  const { holder, name, descriptor, replacement } = entry
  // Code that has kept it, or has wrapped it by now, gets what was there before.
  entry.counts = false
  // Without reading it: by now it may be a getter of another script's.
  if (getOwnPropertyDescriptor(holder, name)?.value !== replacement) return
  if (descriptor === undefined) deleteProperty(holder, name)
  else defineProperty(holder, name, descriptor)
}

/** To be called when a capture or request begins. */
function begin(isCapture) {
  // What is replaced in part would stay so.
  roomOnStack()
  try {
    if (isCapture ? capturing === 0 : running === 0 && isHeld) installOfWebAssembly()
    if (running === 0) {
      install(ofCalls)
      install(ofGlobal)
    }
  } catch (error) {
    letGo()
    throw error
  }
  running += 1
  if (isCapture) capturing += 1
  follow()
}

/** To be called as often, when it is over. */
function end(isCapture) {
  unfollow()
  running -= 1
  if (isCapture) capturing -= 1
  letGo()
}

/** Puts back what nobody needs any more. */
function letGo() {
  if (running === 0) {
    uninstall(ofGlobal)
    uninstall(ofCalls)
  }
  if (capturing === 0 && !isHeld) uninstall(ofWebAssembly)
}

/** Keeps functions of WebAssembly replaced, and that which writes tables, or lets them go. */
function hold(isWanted) {
  if (isWanted) {
    install(ofTables)
    try {
      installOfWebAssembly()
    } catch (error) {
      uninstall(ofTables)
      throw error
    }
    isHeld = true
  } else {
    isHeld = false
    uninstall(ofTables)
    if (capturing === 0) uninstall(ofWebAssembly)
  }
}

module.exports = { begin, end, hold }
