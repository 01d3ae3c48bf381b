'use strict'

// What `npm run check:deps` checks: lib/ has no circles, and an arrow between its rooms only goes
// to a room that comes before in the list of scripts/modules/rooms.cjs.

const { JAVASCRIPT } = require('./scripts/modules/rooms.cjs')

const ROOMS = JAVASCRIPT.map(([room]) => room)

const upward = ROOMS.map((room, index) => ({
  name: `no-arrow-up-from-${room}`,
  comment: `lib/${room}/ may use itself and the rooms below it: ${ROOMS.slice(0, index).join(', ') || 'none'}`,
  severity: 'error',
  from: { path: `^lib/${room}/` },
  to: { path: '^lib/', pathNot: `^lib/(${ROOMS.slice(0, index + 1).join('|')})/` }
}))

module.exports = {
  forbidden: [
    {
      name: 'no-circles',
      comment: 'also not through a require inside a function',
      severity: 'error',
      from: {},
      to: { circular: true }
    },
    {
      name: 'no-other-rooms',
      comment: 'a new room of lib/ needs a place in scripts/modules/rooms.cjs',
      severity: 'error',
      from: { path: '^lib/', pathNot: `^lib/(${ROOMS.join('|')})/` },
      to: {}
    },
    {
      name: 'no-packages',
      comment: 'the package needs nothing but Node.js at run time',
      severity: 'error',
      from: { path: '^(lib/|index[.]js)' },
      to: { dependencyTypes: ['npm', 'npm-dev', 'npm-no-pkg', 'npm-unknown', 'unknown'] }
    },
    {
      name: 'not-to-nothing',
      severity: 'error',
      from: {},
      to: { couldNotResolve: true, pathNot: '[.]node$' }
    },
    ...upward
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    moduleSystems: ['cjs', 'es6'],
    enhancedResolveOptions: { extensions: ['.js', '.mjs', '.cjs'] }
  }
}
