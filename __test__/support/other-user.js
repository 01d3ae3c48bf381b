'use strict'

// A user who owns nothing, for tests of what other users may do.

const { spawnSync } = require('node:child_process')
const path = require('node:path')

/** Options of a process that such a user runs. */
const NOBODY = Object.freeze({ uid: 65534, gid: 65534 })

/** Whether this process may start one, and the user can read the package. */
const canBeOthers = () =>
  process.geteuid() === 0 &&
  spawnSync(
    process.execPath,
    ['-e', `require(${JSON.stringify(path.join(__dirname, '../..'))})`],
    NOBODY
  ).status === 0

module.exports = { NOBODY, canBeOthers }
