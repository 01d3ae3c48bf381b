'use strict'

// The options by which regions are made, read and checked, and what views may have.

const { constants } = require('node:buffer')
const check = require('../support/arguments.js')
const { outOfRange } = require('../support/wrong.js')
const read = require('../support/options.js')

function optionsOfAllocate(options) {
  const { name = 'region', hugePages = false } = read.allocate(options)
  check.regionName(name, 'options.name')
  check.boolean(hugePages, 'options.hugePages')
  return { name, hugePages }
}

function optionsOfOpen(options) {
  const { byteOffset = 0, byteLength, writable = false } = read.open(options)
  check.wholeNumber(byteOffset, 'options.byteOffset')
  check.optional(byteLength, check.wholeNumber, 'options.byteLength', 1)
  check.boolean(writable, 'options.writable')
  return { byteOffset, byteLength, writable }
}

function optionsOfFd(options) {
  const { byteOffset = 0, byteLength } = read.fromFd(options)
  check.wholeNumber(byteOffset, 'options.byteOffset')
  check.optional(byteLength, check.wholeNumber, 'options.byteLength', 1)
  return { byteOffset, byteLength }
}

/** Of a region that may be a paged one. */
function userfaultfdOf({ userfaultfd }) {
  return check.optional(userfaultfd, check.boolean, 'options.userfaultfd')
}

/** A view or Buffer of that many bytes. */
function mustFitBuffer(byteLength, name) {
  if (byteLength <= constants.MAX_LENGTH) return
  throw outOfRange(
    name,
    `at most ${constants.MAX_LENGTH}, the largest buffer of this Node.js`,
    byteLength
  )
}

module.exports = { mustFitBuffer, optionsOfAllocate, optionsOfOpen, optionsOfFd, userfaultfdOf }
