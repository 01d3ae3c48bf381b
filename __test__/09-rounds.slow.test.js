'use strict'

// The suites that do less in `npm test`, with all of their rounds: see support/rounds.js.

const { execFile } = require('node:child_process')
const fs = require('node:fs')
const path = require('node:path')
const { promisify } = require('node:util')

const suites = fs
  .readdirSync(__dirname)
  .filter(name => /^\d.*(?<![.]slow)[.]test[.]js$/.test(name))
  .filter(name => /support\/rounds'\)/.test(fs.readFileSync(path.join(__dirname, name), 'utf8')))

test('there are such suites', () => {
  expect(suites.length).toBeGreaterThan(3)
})

test.each(suites)('%s', async name => {
  const jest = require.resolve('jest/bin/jest')
  const args = [jest, '--ci', '--runInBand', '--runTestsByPath', path.join(__dirname, name)]
  const env = { ...process.env, HOSTMAP_TEST_ROUNDS: 'all' }
  // What fails is in the message of the error.
  await promisify(execFile)(process.execPath, args, { env, maxBuffer: 2 ** 26 })
})
