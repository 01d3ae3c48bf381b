'use strict'

// onnxruntime-web over regions: sessions whose model is mapped into the engine's memory, and not
// copied. Of an `.ort` model the weights are used where they are, so sessions, threads and
// processes share one set.
//
// Hooks of the engine (read and tested at 1.30.0):
//
// - `env.wasm.wasmPaths.mjs`, by which this file gets at the Emscripten module: HEAPU8, _malloc and
//   _free. It is set while the engine starts, and is as before then.
// - `InferenceSession.create` takes a Uint8Array of the engine's own heap as it is. It calls the
//   module's `_free` with its address afterwards, whatever happened: on this one module, `_free`
//   passes over the addresses of our mappings.
// - `session.use_ort_model_bytes_directly` and `session.use_ort_model_bytes_for_initializers`.
// - `session.disable_prepacking`: repacked weights would be a copy for each session.
// - `externalData` takes Uint8Arrays, and copies each weight from there.
//
// No global is changed, and no other object of the engine's than that module.

const fs = require('node:fs')
const { createRequire } = require('node:module')
const path = require('node:path')
const { fileURLToPath, pathToFileURL } = require('node:url')

const { GuardedMemory, HostRegion } = require('../index.js')
const { makeError, unsupportedEngine } = require('./support/errors.js')

const PACKAGE = 'onnxruntime-web'
const MODULE = 'ort-wasm-simd-threaded'
// Bundles have no such file, and as ES modules neither of these names.
const OWN_FOLDER = typeof __dirname === 'string' ? __dirname : process.cwd()
const OWN_MODULE = path.join(OWN_FOLDER, 'support', 'onnx-module.mjs')
// An `.ort` file is a flatbuffer with this identifier.
const ORT_IDENTIFIER = 'ORTM'
const IDENTIFIER_AT = 4
// y = Identity(x) of one float, as `.onnx`.
const TINY_MODEL = Buffer.from(
  'CAc6NwoQCgF4EgF5IghJZGVudGl0eRIBZ1oPCgF4EgoKCAgBEgQKAggBYg8KAXkSCgoICAESBAoCCAFCBAoAEA0=',
  'base64'
)

// Runs of the engine, by the `env` that all its faces share.
const runtimes = new WeakMap()

// Who waits for a module: see support/onnx-module.mjs.
const waiting = new Map()
let lastAsked = 0

/** As onnx in onnx.d.ts. */
function onnx(ort, options) {
  const { env, InferenceSession } = ort ?? {}
  if (typeof InferenceSession?.create !== 'function' || typeof env?.wasm !== 'object') {
    throw makeError(
      'ERR_INVALID_ARG_TYPE',
      `ort must be the module ${PACKAGE}, with InferenceSession and env.wasm, as import * as ort ` +
        `from '${PACKAGE}' gives it; received ${kindOf(ort)}`
    )
  }
  const dist = distIn(options)
  let runtime = runtimes.get(env)
  if (runtime === undefined) {
    runtime = new OnnxRuntime(ort)
    runtimes.set(env, runtime)
  }
  runtime.lookIn(dist)
  return runtime
}

function distIn(options = {}) {
  if (typeof options !== 'object' || options === null) {
    throw makeError(
      'ERR_INVALID_ARG_TYPE',
      `options must be an object (with dist); received ${kindOf(options)}`
    )
  }
  const { dist, ...others } = options
  const [other] = Object.keys(others)
  if (other !== undefined) {
    throw makeError('ERR_INVALID_ARG_VALUE', `options.${other} is not an option. It has only dist.`)
  }
  if (dist !== undefined && typeof dist !== 'string' && !(dist instanceof URL)) {
    throw makeError(
      'ERR_INVALID_ARG_TYPE',
      `options.dist must be the path or file: URL of a folder; received ${kindOf(dist)}`
    )
  }
  return dist
}

const kindOf = value => (value === null ? 'null' : typeof value)

class OnnxRuntime {
  #ort
  #dist
  #started
  // One session is made after the other: the engine's heap grows meanwhile.
  #last = Promise.resolve()
  // The Emscripten module of the engine, and its memory.
  #module
  #memory
  #allocator
  // Mappings by region: sessions of one region share one.
  #models = new Map()

  constructor(ort) {
    this.#ort = ort
  }

  /** Where the engine's files are, if it has not started yet. */
  lookIn(dist) {
    this.#dist = dist ?? this.#dist
  }

  async create(region, options = {}) {
    mustBeRegion(region, 'model')
    const isOrt = holdsOrt(region)
    const given = sessionOptions(options, isOrt)
    this.#started ??= this.#start().catch(error => {
      // What was missing may be there the next time.
      this.#started = undefined
      throw error
    })
    await this.#started
    const made = this.#last.then(() => this.#create(region, given, isOrt))
    this.#last = made.catch(() => {})
    return made
  }

  get memory() {
    return this.#memory
  }

  async #create(region, options, isOrt) {
    const model = this.#take(region)
    try {
      const freed = model.freed
      const session = await this.#ort.InferenceSession.create(
        new HeapBytes(this.#module, model.mapping),
        options
      )
      if (model.freed === freed) {
        await session.release()
        throw this.#unsupported(
          'copied the model, though it is in its heap',
          'use a version that the adapter was tested with'
        )
      }
      // The weights of an `.onnx` model were copied out of it.
      if (!isOrt) this.#giveBack(model)
      else this.#giveBackWith(session, model)
      return session
    } catch (error) {
      this.#giveBack(model)
      throw error
    }
  }

  #take(region) {
    let model = this.#models.get(region)
    if (model === undefined) {
      const mapping = this.#memory.map(region, { allocator: this.#allocator })
      model = { region, mapping, users: 0, freed: 0 }
      this.#models.set(region, model)
    }
    model.users++
    return model
  }

  #giveBack(model) {
    if (--model.users > 0) return
    this.#models.delete(model.region)
    model.mapping.unmap()
  }

  /** The session's own `release` ends its use of the model. */
  #giveBackWith(session, model) {
    const release = session.release
    let isGivenBack = false
    const value = async () => {
      await release.call(session)
      if (isGivenBack) return
      isGivenBack = true
      this.#giveBack(model)
    }
    Object.defineProperty(session, 'release', { value, configurable: true, writable: true })
  }

  async #start() {
    const { env, InferenceSession } = this.#ort
    if (env.wasm.proxy === true) {
      throw this.#unsupported(
        'keeps its memory in another thread (env.wasm.proxy)',
        'leave that off, and make sessions in a worker of your own'
      )
    }
    const files = filesOf(env, this.#dist)
    if (files === undefined) {
      throw this.#unsupported(
        `has its file ${MODULE}.mjs in none of the places where Node.js looks for packages`,
        `pass { dist }, the folder that has it: the one of require.resolve('${PACKAGE}')`
      )
    }
    if (!fs.existsSync(OWN_MODULE)) {
      throw makeError(
        'ERR_HOSTMAP_LOAD_FAILED',
        `wasm-hostmap/onnx is part of a bundle, and its file ${OWN_MODULE} is not there; leave the package out of the bundle: mark wasm-hostmap as external`
      )
    }
    let module
    const asked = ++lastAsked
    waiting.set(asked, async config => {
      const { default: make } = await import(files.mjs)
      return (module = await make(config))
    })
    const { wasmPaths } = env.wasm
    env.wasm.wasmPaths = { mjs: `${pathToFileURL(OWN_MODULE)}?for=${asked}`, wasm: files.wasm }
    try {
      // It starts with the first session.
      const session = await InferenceSession.create(TINY_MODEL, { executionProviders: ['wasm'] })
      await session.release()
    } finally {
      env.wasm.wasmPaths = wasmPaths
      waiting.delete(asked)
    }
    if (module === undefined) {
      throw this.#unsupported(
        'had a session in this thread before, so its memory is out of reach',
        'call onnx(ort).create first of all'
      )
    }
    this.#use(module)
  }

  #use(module) {
    const { _malloc: malloc, _free: free, HEAPU8 } = module
    if (typeof malloc !== 'function' || typeof free !== 'function' || HEAPU8 === undefined) {
      throw this.#unsupported(
        'shows no HEAPU8, _malloc and _free',
        'use a version that the adapter was tested with'
      )
    }
    this.#memory = GuardedMemory.from(() => module.HEAPU8.buffer)
    this.#allocator = { malloc, free }
    this.#module = module
    // The engine frees what it was given. A mapping is inside a block, so nothing else has its
    // address.
    module._free = address => {
      for (const model of this.#models.values()) {
        if (model.mapping.address !== address) continue
        model.freed++
        return
      }
      free(address)
    }
  }

  #unsupported(missing, instead) {
    const version = this.#ort.env.versions?.web
    return unsupportedEngine({ engine: PACKAGE, version, missing, instead })
  }
}

/**
 * A mapping as bytes of the engine's heap. `buffer` is the heap's as it is when the engine looks:
 * it may have grown since this was made.
 */
class HeapBytes extends Uint8Array {
  #module
  #mapping

  constructor(module, mapping) {
    super(module.HEAPU8.buffer, mapping.address, mapping.byteLength)
    this.#module = module
    this.#mapping = mapping
  }

  get buffer() {
    return this.#module.HEAPU8.buffer
  }

  get byteOffset() {
    return this.#mapping.address
  }

  get byteLength() {
    return this.#mapping.byteLength
  }
}

function mustBeRegion(region, name) {
  if (region instanceof HostRegion) return
  throw makeError(
    'ERR_INVALID_ARG_TYPE',
    `${name} must be a HostRegion; received ${kindOf(region)}; HostRegion.open(path) maps a file`
  )
}

function holdsOrt(region) {
  const end = IDENTIFIER_AT + ORT_IDENTIFIER.length
  if (region.byteLength < end) return false
  const head = region.bytes({ access: 'readonly', byteLength: end })
  return head.toString('latin1', IDENTIFIER_AT) === ORT_IDENTIFIER
}

/** The caller's, with what a mapped model needs. The engine adds to what it is given: a copy. */
function sessionOptions(options, isOrt) {
  if (typeof options !== 'object' || options === null) {
    throw makeError(
      'ERR_INVALID_ARG_TYPE',
      `options must be an object, as InferenceSession.create takes it; received ${kindOf(options)}`
    )
  }
  const { extra, externalData, ...others } = options
  if (externalData !== undefined && !Array.isArray(externalData)) {
    throw makeError(
      'ERR_INVALID_ARG_TYPE',
      'options.externalData must be an array of { path, data }; received ' + kindOf(externalData)
    )
  }
  const needed = isOrt ? { use_ort_model_bytes_for_initializers: '1', disable_prepacking: '1' } : {}
  const given = { ...others, extra: { ...extra, session: { ...needed, ...extra?.session } } }
  return externalData === undefined
    ? given
    : { ...given, externalData: externalData.map(withRegion) }
}

/** The engine copies what it needs of external data. */
function withRegion(file) {
  const data = file?.data
  return data instanceof HostRegion ? { ...file, data: data.bytes({ access: 'readonly' }) } : file
}

/** Where the engine's module and its Wasm are, as URLs. */
function filesOf({ wasm: { wasmPaths }, versions }, dist) {
  const found = typeof wasmPaths === 'string' ? wasmPaths : folderOf(dist, versions?.web)
  const prefix = found === undefined ? undefined : found.replace(/\/*$/, '/')
  const urlOf = (given, ending) => {
    const file = given?.href ?? given ?? (prefix && `${prefix}${MODULE}.${ending}`)
    return file === undefined || /^[a-z]{2,}:/i.test(file) ? file : pathToFileURL(file).href
  }
  const files = { mjs: urlOf(wasmPaths?.mjs, 'mjs'), wasm: urlOf(wasmPaths?.wasm, 'wasm') }
  return files.mjs === undefined || files.wasm === undefined ? undefined : files
}

/** The folder of this version's files: the caller's, or where Node.js finds the package. */
function folderOf(dist, version) {
  if (dist !== undefined) return dist instanceof URL ? fileURLToPath(dist) : dist
  for (const from of [process.argv[1], path.join(process.cwd(), 'script.js'), OWN_MODULE]) {
    try {
      const folder = path.dirname(createRequire(from).resolve(PACKAGE))
      const text = fs.readFileSync(path.join(folder, '..', 'package.json'), 'utf8')
      if (version === undefined || JSON.parse(text).version === version) return folder
    } catch {
      // Not from there.
    }
  }
  return undefined
}

/** For support/onnx-module.mjs. */
function makeModule(asked, config) {
  return waiting.get(asked)(config)
}

module.exports = { onnx, makeModule }
