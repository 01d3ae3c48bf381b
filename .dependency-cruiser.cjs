'use strict'

// What `npm run check:deps` checks: lib/ and adapters/ have no circles; an arrow between rooms of
// lib/ only goes to a room that comes before in the list of scripts/modules/rooms.cjs; adapters/
// uses the public face, cli/ that and the three lowest rooms, and nothing uses adapters/ or cli/.

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
      from: { path: '^(lib/|adapters/|cli/|index[.]js)' },
      to: { dependencyTypes: ['npm', 'npm-dev', 'npm-no-pkg', 'npm-unknown', 'unknown'] }
    },
    {
      name: 'adapters-are-users',
      comment: 'an adapter is a user of the package: it knows index.js and other adapters only',
      severity: 'error',
      from: { path: '^adapters/' },
      to: { path: '^', pathNot: '^(index[.]js$|adapters/)', dependencyTypesNot: ['core'] }
    },
    {
      name: 'nothing-uses-adapters',
      comment: 'engines are the business of adapters/ alone',
      severity: 'error',
      from: { path: '^(lib/|index[.]js)' },
      to: { path: '^adapters/' }
    },
    {
      name: 'cli-is-a-user',
      comment:
        'the command uses the public face, what says where the package runs and why it does not, and what reads /proc',
      severity: 'error',
      from: { path: '^cli/' },
      to: {
        path: '^',
        pathNot: '^(index[.]js$|cli/|lib/(platform|process|support)/|package[.]json$)',
        dependencyTypesNot: ['core']
      }
    },
    {
      name: 'nothing-uses-cli',
      comment: 'a command is the end of the line',
      severity: 'error',
      from: { path: '^(lib/|adapters/|index[.]js)' },
      to: { path: '^cli/' }
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
