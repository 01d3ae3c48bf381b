'use strict'

// The one door into lib/. Suites use the package's public face. What that can't give them comes
// through here: the native part, to inject failures and to compare addresses, and the names of
// platforms. __test__/05-suites.test.js checks that nothing else reaches into lib/.

const path = require('node:path')

const ROOT = path.join(__dirname, '../..')

/** The path of the native part's module, of the copy of the package in a folder. */
const nativePath = (root = ROOT) => path.join(root, 'lib/platform/binding.js')

module.exports = {
  nativePath,
  /** The native part of this copy. Loads it. */
  get native() {
    return require('../../lib/platform/binding.js')
  },
  /** What is supported, and how files are named. Loads no native part. */
  get platform() {
    return require('../../lib/platform/platform.js')
  }
}
