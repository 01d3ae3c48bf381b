'use strict'

// The native part. Requires one file, by its path: no other package's name is ever tried, so that nothing
// can stand in for a binary that is missing.

const path = require('node:path')
const { unsupported, binaryPath, loadFailed } = require('./platform.js')

function load() {
  const refusal = unsupported()
  if (refusal) throw refusal

  // The variable by which napi-rs packages take another build, such as one with the feature `inject`.
  const override = process.env.NAPI_RS_NATIVE_LIBRARY_PATH
  const file = override ? path.resolve(override) : binaryPath()
  try {
    return require(file)
  } catch (error) {
    throw loadFailed(file, error)
  }
}

module.exports = load()
