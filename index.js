'use strict'

// The public face. index.d.ts documents every member.

const { HostRegion } = require('./lib/region.js')
const { GuardedMemory, Mapping } = require('./lib/memory.js')
const { Window, WindowSource } = require('./lib/window.js')
const { Layout } = require('./lib/layout.js')
const { limits } = require('./lib/limits.js')

module.exports = { HostRegion, GuardedMemory, Mapping, Window, WindowSource, Layout, limits }
