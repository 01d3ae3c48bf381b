'use strict'

// What requests have begun and is not over, by the hooks that Node.js has for that. They are on
// only while requests run.

const { createHook, executionAsyncId } = require('node:async_hooks')
const { isatty } = require('node:tty')
const { promiseHooks } = require('node:v8')
const { scope } = require('../capture/scope.js')
const { kindOf, mayCall } = require('./kinds.js')
const { requestIn } = require('./scope.js')

// Maps with methods of their own: in a hook, what a script has put in the place of Map's would be
// called for each promise, and make more of them.
const { get, set, delete: remove } = Map.prototype
const ownMap = () => Object.assign(new Map(), { get, set, delete: remove })

// Functions that wait for a promise and have not been called: by the promise that `then` or `await`
// makes of them, the request. Where V8's hooks are not used, by its async id.
const reactions = ownMap()
// What else calls back once, and has not: by the async id, `request`, `type` and `resource`.
const oneShots = ownMap()
// How many requests run.
let running = 0
// How often something could not be noted, for lack of stack: it may be of any request that runs.
let missed = 0
// Made when it is first needed.
let hook
// Undoes what `follow` did.
let stop

function addReaction(key) {
  const request = requestIn(scope())
  if (request === undefined) return
  reactions.set(key, request)
  for (let it = request; it !== undefined; it = it.outer) it.reactions += 1
}

function endReaction(key) {
  if (reactions.size === 0) return
  const request = reactions.get(key)
  if (request === undefined) return
  reactions.delete(key)
  for (let it = request; it !== undefined; it = it.outer) it.reactions -= 1
}

function add(id, type, resource) {
  const kind = kindOf(type)
  if (kind === undefined) return
  const request = requestIn(scope())
  if (request === undefined) return
  if (kind === 'once') {
    oneShots.set(id, { request, type, resource, id })
    for (let it = request; it !== undefined; it = it.outer) it.oneShots += 1
  } else {
    const entry = { id, type, resource }
    for (let it = request; it !== undefined; it = it.outer) watch(it, entry)
  }
}

function watch(request, entry) {
  request.watched[request.watched.length] = entry
  if (request.watched.length < request.most) return
  request.watched = request.watched.filter(it => it === entry || mayCall(it))
  request.most = 64 + 2 * request.watched.length
}

function endOneShot(id) {
  if (oneShots.size === 0) return
  const entry = oneShots.get(id)
  if (entry === undefined) return
  oneShots.delete(id)
  for (let it = entry.request; it !== undefined; it = it.outer) it.oneShots -= 1
}

/**
 * V8's own hooks tell which promise is made for a function that waits for another. On Node.js 20,
 * V8 ends the process where such a hook finds the end of the stack, and async_hooks cost as much.
 */
function followByV8() {
  hook ??= createHook({ init: initResource, before, trackPromises: false })
  hook.enable()
  const stopPromises = promiseHooks.createHook({
    init: initPromise,
    before: settled,
    settled
  })
  return () => {
    stopPromises()
    hook.disable()
  }
}

function followByIds() {
  hook ??= createHook({ init: initAny, before, promiseResolve: settled })
  hook.enable()
  return () => hook.disable()
}

// The hooks. Node ends the process where one throws, and V8 drops what it throws; at the end of the
// stack, anything throws.

function initResource(id, type, trigger, resource) {
  try {
    add(id, type, resource)
  } catch {
    missed += 1
  }
}

function initPromise(promise, parent) {
  if (parent === undefined) return
  try {
    addReaction(promise)
  } catch {
    missed += 1
  }
}

function initAny(id, type, trigger, resource) {
  try {
    if (type !== 'PROMISE') add(id, type, resource)
    // The trigger of a promise is its parent, if that is not what is running.
    else if (trigger !== executionAsyncId()) addReaction(id)
  } catch {
    missed += 1
  }
}

// What something calls is seen by itself, and an error that it throws would hide its end: so it is
// over when it begins to call.
function before(id) {
  try {
    endOneShot(id)
    endReaction(id)
  } catch {
    // Then it counts as pending.
  }
}

function settled(key) {
  try {
    endReaction(key)
  } catch {
    // As above.
  }
}

const hasSafeHooks = () => Number.parseInt(process.versions.v8, 10) >= 12

// The first that prints to a terminal begins to listen for changes of its size, for good. That is
// none of a request's.
function openTerminals() {
  if (isatty(1)) void process.stdout
  if (isatty(2)) void process.stderr
}

function follow(request) {
  if (running === 0 && hook === undefined) openTerminals()
  if (running === 0) stop = hasSafeHooks() ? followByV8() : followByIds()
  running += 1
  request.missed = missed
}

/** Forgets what a request that has ended has begun, unless one around it still counts it. */
function unfollow(request) {
  running -= 1
  if (running === 0) {
    stop()
    reactions.clear()
    oneShots.clear()
  } else {
    if (request.reactions > 0) {
      for (const [key, of] of reactions) if (requestIn(of) === undefined) reactions.delete(key)
    }
    if (request.oneShots > 0) {
      for (const [id, it] of oneShots) if (requestIn(it.request) === undefined) oneShots.delete(id)
    }
  }
  request.watched = []
}

const isOf = (request, outer) => {
  while (request !== undefined && request !== outer) request = request.outer
  return request === outer
}

/** What of a request may still call back: `count` and `kinds`; undefined if nothing. */
function outstanding(request) {
  const kinds = {}
  const note = (kind, count) => {
    if (count > 0) kinds[kind] = (kinds[kind] ?? 0) + count
  }
  note('PROMISE', request.reactions)
  if (request.oneShots > 0) {
    for (const it of oneShots.values()) {
      if (isOf(it.request, request) && mayCall(it)) note(it.type, 1)
    }
  }
  request.watched = request.watched.filter(mayCall)
  for (const { type } of request.watched) note(type, 1)
  note('SUSPENDED_CALL', request.calls.suspended)
  note('STACK_OVERFLOW', missed - request.missed)
  let count = 0
  for (const kind of Object.keys(kinds)) count += kinds[kind]
  return count === 0 ? undefined : { count, kinds }
}

module.exports = { follow, unfollow, outstanding }
