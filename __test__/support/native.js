'use strict'

// The one door into lib/. Suites use the package's public face. What that can't give them comes
// through here: the native part, to inject failures and to compare addresses, the names of
// platforms, and requests without a pool. __test__/05-suites.test.js checks that nothing else
// reaches into lib/.

const path = require('node:path')

const ROOT = path.join(__dirname, '../..')

/** The path of the native part's module, of the copy of the package in a folder. */
const nativePath = (root = ROOT) => path.join(root, 'lib/platform/binding.js')

module.exports = {
  nativePath,
  /** The path of what measures how much V8 reserves for a memory, once in each copy of it. */
  reservationPath: path.join(ROOT, 'lib/platform/reservation.js'),
  /** The native part of this copy. Loads it. */
  get native() {
    return require('../../lib/platform/binding.js')
  },
  /** What is supported, and how files are named. Loads no native part. */
  get platform() {
    const { RUST_VERSION } = require('../../lib/platform/load-errors.js')
    const { builtFile } = require('../../lib/platform/place.js')
    return { ...require('../../lib/platform/platform.js'), builtFile, RUST_VERSION }
  },
  /** The events that wait to be told. */
  get events() {
    return require('../../lib/observe/events.js')
  },
  /** Reading the text of a process's map. */
  get processMap() {
    return require('../../lib/process/map.js')
  },
  /** What has begun in a request and is not over, of which a pool shows only that there is such. */
  get request() {
    const { unitInside: insideOf } = require('../../lib/capture/unit.js')
    return { ...require('../../lib/request/request.js'), insideOf }
  },
  /** Which of Node's resources call back. */
  get kinds() {
    return require('../../lib/request/kinds.js')
  }
}
