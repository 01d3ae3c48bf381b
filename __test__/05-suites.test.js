'use strict'

// What the suites themselves keep to.

const fs = require('node:fs')
const path = require('node:path')

const files = fs
  .readdirSync(__dirname, { recursive: true })
  .filter(file => /\.[cm]?js$/.test(file))
  .map(file => ({ file, text: fs.readFileSync(path.join(__dirname, file), 'utf8') }))
const where = (pattern, but = []) =>
  files.filter(({ file, text }) => !but.includes(file) && pattern.test(text)).map(it => it.file)

test('only support/native.js reaches into lib/', () => {
  expect(where(/\(['"`][^'"`\n]*\.\.\/lib\//)).toEqual(['support/native.js'])
})

test('only support/skip.js skips, and says why', () => {
  expect(where(/\b(test|it|describe)\.skip\b/, ['05-suites.test.js'])).toEqual([])
})
