'use strict'

// A call into the library, and what the model says to its errors.

const { constants } = require('node:os')
const fc = require('fast-check')
const { Difference, native, same } = require('../world')
const { pick, choose } = require('./arguments')

// Errors that the documentation names for each call, for the time when a system call fails.

const NO_ROOM = [
  'ERR_HOSTMAP_OUT_OF_MEMORY',
  'ERR_HOSTMAP_TOO_MANY_FILES',
  'ERR_HOSTMAP_MAP_COUNT',
  'ERR_HOSTMAP_RLIMIT_AS'
]
const DOCUMENTED = {
  allocate: ['ERR_HOSTMAP_OUT_OF_MEMORY', 'ERR_HOSTMAP_TOO_MANY_FILES'],
  open: [
    ...NO_ROOM,
    'ERR_HOSTMAP_OPEN_FAILED',
    'ERR_HOSTMAP_NOT_A_FILE',
    'ERR_HOSTMAP_EMPTY_FILE',
    'ERR_HOSTMAP_FILE_SHRUNK',
    'ERR_HOSTMAP_READ_FAILED'
  ],
  view: [...NO_ROOM, 'ERR_HOSTMAP_FILE_SHRUNK', 'ERR_HOSTMAP_OPEN_FAILED', 'ERR_HOSTMAP_MAP_FAILED'],
  seal: [...NO_ROOM, 'ERR_HOSTMAP_REGION_BUSY', 'ERR_HOSTMAP_REGION_READONLY', 'ERR_HOSTMAP_MAP_FAILED'],
  memory: [...NO_ROOM, 'ERR_HOSTMAP_ADDRESS_SPACE', 'ERR_HOSTMAP_OVERCOMMIT', 'ERR_HOSTMAP_MEMORY_REFUSED'],
  from: ['ERR_HOSTMAP_NOT_WASM_MEMORY', 'ERR_HOSTMAP_MEMORY_REFUSED'],
  grow: [...NO_ROOM, 'ERR_HOSTMAP_MEMORY_FULL', 'ERR_HOSTMAP_MEMORY_REFUSED'],
  map: [
    ...NO_ROOM,
    'ERR_HOSTMAP_REGION_READONLY',
    'ERR_HOSTMAP_FILE_SHRUNK',
    'ERR_HOSTMAP_OPEN_FAILED',
    'ERR_HOSTMAP_MAP_FAILED',
    'ERR_HOSTMAP_MEMORY_REFUSED'
  ],
  unmap: [
    'ERR_HOSTMAP_OUT_OF_MEMORY',
    'ERR_HOSTMAP_MAP_COUNT',
    'ERR_HOSTMAP_RLIMIT_AS',
    'ERR_HOSTMAP_MAP_FAILED'
  ],
  layout: [],
  close: []
}

/** System calls of src/sys, and errors that the kernel gives for each. */
const FAILURES = {
  memfd_create: ['ENOMEM', 'EMFILE'],
  ftruncate: ['ENOMEM', 'EIO'],
  fcntl: ['ENOMEM', 'EBUSY', 'EPERM'],
  fstat: ['ENOMEM', 'EIO'],
  fstatfs: ['EIO'],
  open: ['ENOENT', 'EACCES', 'EMFILE'],
  pwrite: ['ENOSPC', 'EIO'],
  mmap: ['ENOMEM', 'EACCES', 'ENODEV', 'EAGAIN'],
  mremap: ['ENOMEM', 'EAGAIN'],
  mprotect: ['ENOMEM', 'EACCES'],
  madvise: ['ENOMEM', 'EIO'],
  ioctl: ['EIO'],
  lseek: ['EIO'],
  copy_file_range: ['EIO', 'ENOSPC'],
  sendfile: ['EIO', 'ENOMEM']
}
const { errno: ERRNO } = require('node:os').constants

const FAILURE = fc
  .tuple(fc.constantFrom(...Object.keys(FAILURES)), pick, fc.nat(3))
  .map(([syscall, which, before]) => ({ syscall, errno: choose(FAILURES[syscall], which), before }))

/**
 * A call into the library.
 *
 * @param plan.codes what is wrong with it; nothing: then it must succeed
 * @param plan.documented the codes that it may have if a system call fails
 * @param plan.done tells the model of its success, with what it gave
 * @param plan.failed tells the model of its failure, which should have changed nothing
 * @param plan.memory the memory that it concerns
 */
async function libraryCall(world, name, plan, failure) {
  const { text, call, codes = [], documented, maybe = [], done = () => {}, failed = () => {}, memory } = plan
  if (failure) native.injectFailure(failure.syscall, failure.before, ERRNO[failure.errno])
  let error = null
  let value
  let wentOff = false
  try {
    value = call()
    if (typeof value?.then === 'function') value = await value
  } catch (caught) {
    error = caught
  } finally {
    if (failure) wentOff = !native.forgetFailures()
  }
  if (wentOff) world.count(`${failure.syscall} fails: ${error ? 'thrown' : 'passed over'}`)
  world.count(`${name}: ${error ? 'refused' : 'done'}`)
  const expected = [...codes, ...maybe, ...(wentOff ? DOCUMENTED[documented] : [])]
  if (error && (!expected.includes(error.code) || error.code === undefined)) {
    const wanted = expected.length > 0 ? expected.join(' or ') : 'none'
    throw new Difference(`${text}: the error is ${error.stack}\nand in the model ${wanted}`, { cause: error })
  }
  if (error && wentOff && error.syscall !== undefined && !codes.includes(error.code)) {
    same(`${text}: syscall of ${error.message}`, error.syscall, failure.syscall)
    same(`${text}: errno of ${error.message}`, error.errno, -ERRNO[failure.errno])
  }
  if (!error && codes.length > 0) throw new Difference(`${text}: no error, and in the model ${codes}`)
  await (error ? failed(error, wentOff) : done(value))
  // Whether a call that failed, or whose mprotect failed, has protected what was laid bare, the documentation leaves open.
  if (memory && (error || wentOff)) world.resync(memory)
}

module.exports = { FAILURE, libraryCall }
