'use strict'

// The errors for arguments that can't be used: what was expected, what was received, and what to
// pass instead. Nothing here decides whether an argument is right.

const { makeError } = require('./errors.js')
const { whoseObject } = require('./foreign.js')
const { received, instead } = require('./given.js')

/** `remedy`: what to do instead, if that is known. */
function wrongType(name, expected, value, remedy) {
  return makeError('ERR_INVALID_ARG_TYPE', sentence(name, expected, value, remedy))
}

function outOfRange(name, expected, value, remedy) {
  return makeError('ERR_OUT_OF_RANGE', sentence(name, expected, value, remedy))
}

function wrongValue(name, expected, value, remedy) {
  return makeError('ERR_INVALID_ARG_VALUE', sentence(name, expected, value, remedy))
}

function sentence(name, expected, value, remedy) {
  // Where the object is another copy's, only that helps.
  const whose = whoseObject(value)
  const also = whose !== '' ? whose : remedy === undefined ? '' : `; ${remedy}`
  return `${name} must be ${expected}; received ${received(value)}${also}`
}

function wrongMemory(value, how = 'received') {
  const whose = whoseObject(value)
  const remedy = whose === '' ? instead.memory(value) : undefined
  return makeError(
    'ERR_INVALID_ARG_TYPE',
    `memory must be a WebAssembly.Memory, its buffer, or a function that gives its buffer; ${how}: ${received(value)}${whose}${remedy === undefined ? '' : `; ${remedy}`}`
  )
}

function wrongDescriptor(value) {
  return wrongType(
    'descriptor',
    'an object with initial, in Wasm pages of 64 KiB',
    value,
    value === undefined ? undefined : 'GuardedMemory.from(memory) takes one that exists'
  )
}

const wrongList = (name, value) => wrongType(name, 'an array', value, instead.list(value))

const wrongModule = value =>
  wrongType(
    'module',
    "a WebAssembly.Module, a module's bytes, or options with make",
    value,
    typeof value === 'function'
      ? 'for a pool of what it makes, pass { make: it }'
      : instead.module(value)
  )

const wrongInstance = value =>
  wrongType('instance', 'a WebAssembly.Instance', value, instead.instance(value))

module.exports = {
  wrongType,
  outOfRange,
  wrongValue,
  wrongMemory,
  wrongDescriptor,
  wrongList,
  wrongModule,
  wrongInstance
}
