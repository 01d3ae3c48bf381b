'use strict'

// Regions that others made: published under a name by one process, and found by others of the same
// user; and tokens that are received. The native part keeps the files; here are the options, and
// what must live as long as a name does.

const fs = require('node:fs')
const path = require('node:path')
const { inspect } = require('node:util')
const native = require('../platform/binding.js')
const { usualDirectory } = require('../platform/user-folder.js')
const check = require('../support/arguments.js')
const read = require('../support/options.js')
const { abortError, callNative, makeError } = require('../support/errors.js')
const { roomOnStack } = require('../support/stack.js')
const { userfaultfdOf } = require('./options.js')
const { REGION, accessToShare, keepHere, readToken } = require('./share.js')

// What is published by this thread: it is there though nobody holds it, as a server that listens.
const published = new Set()

const MAKE = Symbol('make')

/** A file that is left stands for nothing, but is there to be seen. */
function closeAll() {
  for (const publication of published) publication.close()
}

class Publication {
  #native
  #region
  #name
  #directory

  constructor(make, owner, region, name, directory) {
    if (make !== MAKE) {
      throw makeError(
        'ERR_ILLEGAL_CONSTRUCTOR',
        'Publication has no public constructor: use region.publish'
      )
    }
    keepHere(this)
    this.#native = owner
    this.#region = region
    this.#name = name
    this.#directory = directory
    if (published.size === 0) process.on('exit', closeAll)
    published.add(this)
  }

  get name() {
    return this.#name
  }

  get directory() {
    return this.#directory
  }

  get current() {
    return this.#native.isCurrent
  }

  close() {
    callNative(() => this.#native.close())
    if (published.delete(this) && published.size === 0) process.removeListener('exit', closeAll)
    this.#region = undefined
  }

  [Symbol.dispose]() {
    this.close()
  }

  [inspect.custom](depth, options) {
    if (!(#native in this)) return 'Publication {}'
    const { name, directory, current } = this
    return `Publication ${inspect({ name, directory, current }, options)}`
  }

  static closeOf(region) {
    for (const publication of published) {
      if (publication.#region === region) publication.close()
    }
  }

  /** The name is this one's now: others that had it would keep their regions for nobody. */
  static closeReplacedBy(publication) {
    for (const other of published) {
      const isReplaced =
        other !== publication &&
        other.#name === publication.#name &&
        other.#directory === publication.#directory
      if (isReplaced) other.close()
    }
  }
}

/** Takes back the names of a region that is about to be closed. */
const { closeOf: closePublications, closeReplacedBy } = Publication
delete Publication.closeOf
delete Publication.closeReplacedBy

const directoryOf = directory =>
  path.resolve(check.optional(directory, check.path, 'options.directory') ?? usualDirectory())

function publish(region, handle, isWritable, name, options) {
  check.publishedName(name)
  const { access = 'readonly', enforce, replace = false, directory } = read.publish(options)
  check.boolean(replace, 'options.replace')
  const granted = accessToShare(access, enforce, isWritable)
  const folder = directoryOf(directory)
  roomOnStack()
  const owner = callNative(() =>
    native.publishRegion(handle, folder, name, granted.isReadonly, granted.isEnforced, replace)
  )
  const publication = new Publication(MAKE, owner, region, name, folder)
  closeReplacedBy(publication)
  return publication
}

/** What receives a token in the native part. */
function toReceive(token, options) {
  const offer = readToken(token, REGION)
  const userfaultfd = userfaultfdOf(read.receive(options))
  return () => native.receiveRegion(offer, userfaultfd)
}

/** What finds it in the native part. */
function toFind(name, options) {
  check.publishedName(name)
  const given = read.findRegion(options)
  const directory = directoryOf(given.directory)
  const userfaultfd = userfaultfdOf(given)
  roomOnStack()
  return () => native.findRegion(directory, name, undefined, userfaultfd).take()
}

function list(options) {
  const directory = directoryOf(read.find(options).directory)
  const all = callNative(() => native.publishedRegions(directory))
  return all.map(({ name, pid, readonly, byteLength }) => {
    return { name, pid, access: readonly ? 'readonly' : 'shared', byteLength }
  })
}

/**
 * What is published under a name now, and each time something else is. `make` makes a region of
 * what the native part found.
 */
async function* versions(name, { directory, signal, userfaultfd }, make) {
  // The folder is watched before it is looked at, so that nothing is missed. A file that is renamed
  // into it is a change of the folder.
  let watcher
  let isChanged
  let wake
  let failure
  const change = () => {
    isChanged = true
    wake?.()
  }
  const watch = () => {
    watcher?.close()
    callNative(() => native.prepareNames(directory))
    // It keeps the process running while somebody waits, and no longer.
    watcher = fs.watch(directory, { persistent: false }, (_, file) => {
      // Not only this name's: where events were lost, or the folder is gone, there is another or
      // none.
      if (file !== `${name}.region`)
        watcher.isLost ||= file === null || file === path.basename(directory)
      change()
    })
    watcher.on('error', error => {
      failure = error
      change()
    })
  }
  // One who aborts may never ask again.
  const abort = () => {
    watcher?.close()
    change()
  }
  signal?.addEventListener('abort', abort)
  let known
  try {
    if (!signal?.aborted) watch()
    for (;;) {
      if (signal?.aborted) throw abortError(signal, `The watch of "${name}"`)
      if (failure !== undefined) throw failure
      isChanged = false
      const found = findOther(directory, name, known, userfaultfd)
      if (found !== undefined) {
        known = found.nonce
        yield make(found.take())
      }
      if (!isChanged) {
        watcher.ref()
        await new Promise(resolve => (wake = resolve))
        watcher.unref()
      }
      wake = undefined
      if (watcher.isLost && !signal?.aborted) watch()
    }
  } finally {
    watcher?.close()
    signal?.removeEventListener('abort', abort)
  }
}

/** `undefined`: there is none, or the one that is known. */
function findOther(directory, name, known, userfaultfd) {
  roomOnStack()
  try {
    return callNative(() => native.findRegion(directory, name, known, userfaultfd)) ?? undefined
  } catch (error) {
    if (error.code === 'ERR_HOSTMAP_NAME_NOT_FOUND') return undefined
    throw error
  }
}

function watch(name, options, make) {
  check.publishedName(name)
  const { directory, signal, ...given } = read.watch(options)
  check.optional(signal, check.abortSignal, 'options.signal')
  const userfaultfd = userfaultfdOf(given)
  return versions(name, { directory: directoryOf(directory), signal, userfaultfd }, make)
}

module.exports = { Publication, publish, toFind, toReceive, list, watch, closePublications }
