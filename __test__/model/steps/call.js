'use strict'

// A call into the library, and what the model says to its errors.

const { constants } = require('node:os')
const fc = require('fast-check')
const { Difference, native, same } = require('../world')
const { pick, choose } = require('./arguments')

/**
 * For each call the codes that the documentation names for the time when a system call fails, and
 * the system calls that it makes.
 */
const CALLS = {
  allocate: {
    codes: ['OUT_OF_MEMORY', 'TOO_MANY_FILES'],
    syscalls: ['memfd_create', 'ftruncate', 'fcntl', 'fstat', 'pwrite']
  },
  open: {
    codes: ['OUT_OF_MEMORY', 'TOO_MANY_FILES', 'OPEN_FAILED', 'NOT_A_FILE'],
    syscalls: ['open', 'fstat', 'fstatfs', 'fcntl', 'mmap', 'ioctl']
  },
  load: {
    codes: ['OUT_OF_MEMORY', 'TOO_MANY_FILES', 'OPEN_FAILED', 'READ_FAILED'],
    syscalls: [
      'open',
      'fstat',
      'memfd_create',
      'ftruncate',
      'fcntl',
      'lseek',
      'copy_file_range',
      'sendfile'
    ]
  },
  source: {
    codes: ['OUT_OF_MEMORY', 'TOO_MANY_FILES'],
    syscalls: ['memfd_create', 'ftruncate', 'fcntl', 'fstat', 'pwrite']
  },
  write: {
    codes: ['OUT_OF_MEMORY', 'WRITE_FAILED', 'OPEN_FAILED', 'REGION_READONLY'],
    syscalls: ['fcntl', 'fstat', 'pwrite']
  },
  share: {
    codes: [
      'TOO_MANY_FILES',
      'OPEN_FAILED',
      'OUT_OF_MEMORY',
      'DESCRIPTOR_LOST',
      'REGION_READONLY',
      'SHARE_INVALID',
      'SHARE_CLOSED'
    ],
    syscalls: ['fcntl', 'fstat', 'open']
  },
  publish: {
    codes: [
      'TOO_MANY_FILES',
      'OPEN_FAILED',
      'OUT_OF_MEMORY',
      'DESCRIPTOR_LOST',
      'REGION_READONLY',
      'FOLDER_BUSY'
    ],
    syscalls: ['fcntl', 'fstat', 'open', 'openat', 'flock', 'renameat']
  },
  find: {
    codes: [
      'TOO_MANY_FILES',
      'OPEN_FAILED',
      'OUT_OF_MEMORY',
      'NAME_NOT_FOUND',
      'NAME_INVALID',
      'SHARE_DENIED'
    ],
    syscalls: ['fcntl', 'fstat', 'open', 'openat', 'flock']
  },
  unpublish: { codes: [], syscalls: ['flock', 'openat', 'unlinkat'] },
  view: {
    codes: ['OPEN_FAILED', 'MAP_COUNT', 'OUT_OF_MEMORY', 'MAP_FAILED'],
    syscalls: ['fcntl', 'fstat', 'mmap', 'madvise']
  },
  seal: {
    codes: ['REGION_BUSY', 'REGION_READONLY', 'MAP_COUNT', 'OUT_OF_MEMORY', 'MAP_FAILED'],
    syscalls: ['mmap', 'mremap', 'madvise', 'fcntl']
  },
  close: { codes: [], syscalls: ['mmap', 'mremap', 'fstat'] },
  memory: {
    codes: ['ADDRESS_SPACE', 'OVERCOMMIT', 'MAP_COUNT', 'MEMORY_REFUSED'],
    syscalls: ['ioctl', 'mmap', 'mprotect', 'open']
  },
  from: { codes: ['MEMORY_REFUSED'], syscalls: ['ioctl', 'mprotect'] },
  grow: {
    codes: ['ADDRESS_SPACE', 'OVERCOMMIT', 'MAP_COUNT', 'MEMORY_REFUSED'],
    syscalls: ['mprotect', 'ioctl']
  },
  map: {
    codes: ['FILE_SHRUNK', 'OPEN_FAILED', 'OUT_OF_MEMORY', 'MAP_COUNT', 'MAP_FAILED'],
    syscalls: ['fcntl', 'fstat', 'mmap', 'mremap', 'madvise', 'mprotect']
  },
  adopt: {
    codes: ['OUT_OF_MEMORY', 'MAP_COUNT', 'MAP_FAILED'],
    syscalls: ['mmap', 'mremap_owned', 'mremap_owned', 'madvise', 'mprotect']
  },
  unmap: {
    codes: ['OUT_OF_MEMORY', 'MAP_COUNT', 'MAP_FAILED'],
    syscalls: ['mmap', 'mremap', 'madvise', 'mprotect']
  },
  window: {
    codes: ['OUT_OF_MEMORY', 'MAP_COUNT', 'MAP_FAILED'],
    syscalls: ['mmap', 'mremap', 'mprotect']
  },
  slide: {
    codes: ['OUT_OF_MEMORY', 'MAP_COUNT', 'MAP_FAILED'],
    syscalls: ['mmap', 'mmap', 'mremap', 'mremap', 'madvise', 'mprotect', 'fcntl']
  },
  layout: { codes: [], syscalls: ['mprotect'] },
  faults: { codes: [], syscalls: ['mprotect', 'mmap'] }
}

/** Errors that the kernel gives. */
const ERRORS = {
  memfd_create: ['ENOMEM', 'EMFILE'],
  ftruncate: ['ENOMEM', 'EIO'],
  fcntl: ['ENOMEM', 'EBUSY', 'EPERM'],
  fstat: ['ENOMEM', 'EIO'],
  fstatfs: ['EIO'],
  open: ['ENOENT', 'EACCES', 'EMFILE'],
  openat: ['ENOSPC', 'EACCES', 'EMFILE'],
  flock: ['ENOLCK'],
  renameat: ['ENOSPC', 'EIO'],
  unlinkat: ['EIO', 'EACCES'],
  pwrite: ['ENOSPC', 'EIO'],
  mmap: ['ENOMEM', 'EACCES', 'ENODEV', 'EAGAIN'],
  mremap: ['ENOMEM', 'EAGAIN'],
  mremap_owned: ['ENOMEM', 'EAGAIN'],
  mprotect: ['ENOMEM', 'EACCES'],
  madvise: ['ENOMEM', 'EIO'],
  ioctl: ['EIO'],
  lseek: ['EIO'],
  copy_file_range: ['EIO', 'ENOSPC'],
  sendfile: ['EIO', 'ENOMEM']
}

/** Which system call is to fail, after how many of its kind that succeed. */
const FAILURE = fc.record({ syscall: pick, errno: pick, before: fc.nat(2) })

function failureOf(documented, failure) {
  if (failure === null) return null
  const syscall = choose(CALLS[documented].syscalls, failure.syscall)
  return { syscall, errno: choose(ERRORS[syscall], failure.errno), before: failure.before }
}

/**
 * A call into the library.
 *
 * @param plan.codes what is wrong with it; nothing: then it must succeed
 * @param plan.documented the codes that it may have if a system call fails
 * @param plan.done tells the model of its success, with what it gave
 * @param plan.failed tells the model of its failure, which should have changed nothing
 * @param plan.memory the memory that it concerns
 */
async function libraryCall(world, name, plan, failing) {
  const {
    text,
    call,
    codes = [],
    documented,
    maybe = [],
    done = () => {},
    failed = () => {},
    memory
  } = plan
  const failure = failureOf(documented, failing)
  if (failure) native.injectFailure(failure.syscall, failure.before, constants.errno[failure.errno])
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
  const expected = [...codes, ...maybe, ...(wentOff ? documentedCodes(documented) : [])]
  if (error && (!expected.includes(error.code) || error.code === undefined)) {
    const wanted = expected.length > 0 ? expected.join(' or ') : 'none'
    throw new Difference(`${text}: the error is ${error.stack}\nand in the model ${wanted}`, {
      cause: error
    })
  }
  if (error && wentOff && error.syscall !== undefined && !codes.includes(error.code)) {
    same(`${text}: syscall of ${error.message}`, error.syscall, failure.syscall)
    same(`${text}: errno of ${error.message}`, error.errno, -constants.errno[failure.errno])
  }
  if (!error && codes.length > 0)
    throw new Difference(`${text}: no error, and in the model ${codes}`)
  await (error ? failed(error, wentOff) : done(value))
  // Whether a call that failed, or whose mprotect failed, has protected what was unprotected, the
  // documentation leaves open.
  if (memory && (error || wentOff)) world.resync(memory)
}

const documentedCodes = documented => CALLS[documented].codes.map(code => `ERR_HOSTMAP_${code}`)

module.exports = { FAILURE, failureOf, libraryCall }
