'use strict'

// What takes the place of functions of WebAssembly while captures run, and only so long: engines
// look them up each time. This is the one place where the package changes a global object. Code
// outside of a capture gets what it would have got; what another script has put there is called,
// and found again afterwards.

const { makeError } = require('../support/errors.js')
const { Uint8Array, getOwnPropertyDescriptor } = require('../platform/intrinsics.js')
const { current } = require('./context.js')
const {
  isBytes,
  exposedBytes,
  exposedBytesLater,
  noteModule,
  refusalOf,
  recordOf
} = require('./exposed.js')

// Taken now, like those of v8.js.
const { apply, construct, defineProperty, deleteProperty } = Reflect
const { Module } = WebAssembly

// The WebAssembly in which functions are replaced: a script may put another one in its place.
let namespace
// Of each replacement: the name, what was there before, and whether it still counts.
let installed = []

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
    ),
  // Where V8 has it: the calls of what it gives are suspended while promises of JavaScript's are
  // pending.
  promising: (before, { calls }, args) => counting(apply(before.promising, namespace, args), calls)
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
    const [module] = args
    if (!isModule(module)) return make(args)
    const instance = make(args)
    note(context, instance, module)
    return instance
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
function note(context, instance, module) {
  try {
    const refusal = refusalOf(module)
    if (refusal !== undefined) context.refuse(refusal)
    // A function that was made of others has called their replacements, too: then it is known.
    else if (!context.has(instance)) context.add(recordOf(instance, module, context))
  } catch (error) {
    context.refuse(error.code === undefined ? notGenuine(error) : error)
  }
}

const notGenuine = cause =>
  makeError(
    'ERR_HOSTMAP_NOT_CAPTURED',
    `what make got of WebAssembly is no instance that can be captured (${cause.message}): a script has put functions of its own there, which give something else or freeze what they give`,
    { cause }
  )

async function compileBytes({ compile }, bytes, options) {
  const exposed = await exposedBytesLater(bytes)
  const module = await apply(compile, namespace, [exposed.bytes, ...options])
  noteModule(module, exposed)
  return module
}

async function instantiateBytes({ instantiate }, context, bytes, more) {
  const exposed = await exposedBytesLater(bytes)
  const made = await apply(instantiate, namespace, [exposed.bytes, ...more])
  noteModule(made?.module, exposed)
  note(context, made?.instance, made?.module)
  return made
}

async function instantiateModule({ instantiate }, context, module, more) {
  const instance = await apply(instantiate, namespace, [module, ...more])
  note(context, instance, module)
  return instance
}

/** What is no response of a module is left to V8, which says so. */
async function streamed(previous, source, more, then) {
  const response = await source
  if (!isResponse(response)) return apply(previous, namespace, [response, ...more])
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
    return promising(...args).finally(() => {
      calls.suspended -= 1
    })
  }
}

const functionIn = (entry, captured) =>
  new Proxy(entry.previous, {
    apply(target, self, args) {
      const context = entry.counts ? current() : undefined
      const result = context === undefined ? undefined : captured(entry.before, context, args)
      return result === undefined ? apply(target, self, args) : result
    }
  })

function classIn(entry, captured) {
  const replacement = new Proxy(entry.previous, {
    construct(target, args, newTarget) {
      const make = given => construct(target, given, newTarget === replacement ? target : newTarget)
      const context = entry.counts ? current() : undefined
      return context === undefined ? make(args) : captured(entry.before, context, args, make)
    }
  })
  return replacement
}

function install() {
  const wanted = [
    ...Object.entries(FUNCTIONS).map(([name, captured]) => [name, captured, functionIn]),
    ...Object.entries(CLASSES).map(([name, captured]) => [name, captured, classIn])
  ]
  const before = { __proto__: null }
  namespace = WebAssembly
  try {
    for (const [name, captured, replacementIn] of wanted) {
      const descriptor = getOwnPropertyDescriptor(namespace, name)
      const previous = namespace[name]
      if (typeof previous !== 'function') continue
      const entry = { name, descriptor, previous, before, replacement: undefined, counts: true }
      before[name] = previous
      entry.replacement = replacementIn(entry, captured)
      replace(name, descriptor, entry.replacement)
      installed.push(entry)
    }
  } catch (error) {
    uninstall()
    throw error
  }
}

function replace(name, descriptor, value) {
  const { writable = true, enumerable = false, configurable = true } = descriptor ?? {}
  if (defineProperty(namespace, name, { value, writable, enumerable, configurable })) return
  throw makeError(
    'ERR_HOSTMAP_NOT_CAPTURED',
    `WebAssembly.${name} can't be replaced while make runs, since a script has frozen it; capture before that, or compile what exposeState gives and take Snapshot.of the instance`
  )
}

function uninstall() {
  for (const entry of installed) {
    const { name, descriptor, replacement } = entry
    // Code that has kept it, or has wrapped it by now, gets what was there before.
    entry.counts = false
    // Without reading it: by now it may be a getter of another script's.
    if (getOwnPropertyDescriptor(namespace, name)?.value !== replacement) continue
    if (descriptor === undefined) deleteProperty(namespace, name)
    else defineProperty(namespace, name, descriptor)
  }
  installed = []
}

module.exports = { install, uninstall }
