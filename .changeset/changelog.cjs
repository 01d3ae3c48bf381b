'use strict'

// What a changeset becomes in CHANGELOG.md: its own words, without the commit that it came with.

module.exports = {
  getReleaseLine: ({ summary }) => Promise.resolve(`- ${summary.trim().split('\n').join('\n  ')}`),
  getDependencyReleaseLine: () => Promise.resolve('')
}
