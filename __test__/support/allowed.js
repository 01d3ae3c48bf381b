'use strict'

// A worker of node:cluster that may be inspected: sends where, and stays until it is ended.
//
//   node allowed.js DIRECTORY

const { allowInspect } = require('../..')

allowInspect({ directory: process.argv[2] }).then(access => process.send(access.path))
