'use strict'

const { execFileSync } = require('node:child_process')
const fs = require('node:fs')
const path = require('node:path')

const root = path.join(__dirname, '..')
const run = (...args) =>
  execFileSync(process.execPath, args, { cwd: root, encoding: 'utf8', stdio: 'pipe' })

const filesOf = folder =>
  fs
    .readdirSync(path.join(root, folder))
    .map(name => [name, JSON.parse(fs.readFileSync(path.join(root, folder, name), 'utf8'))])
const results = filesOf('e2e/machines/results')
const installs = filesOf('e2e/machines/installs')

test('docs/platforms.md is what the results of the runs give', () => {
  expect(() => run('e2e/machines/run.mjs', '--check')).not.toThrow()
})

test('the smoke script has the modules that are written down for it', () => {
  expect(() => run('e2e/smoke/modules.mjs', '--check')).not.toThrow()
})

test.each(results)('%s names what it was run on, and nothing failed there', (name, result) => {
  const { kernel, arch, libc, runtime, version, pageBytes } = result
  const [release] = /^\d+\.\d+/.exec(kernel)
  const pages = pageBytes > 4096 ? `-${pageBytes / 1024}k` : ''
  const major = runtime === 'node' ? version.split('.')[0] : ''
  expect(name).toBe(`${release}${pages}-${arch}-${libc.split(' ')[0]}-${runtime}${major}.json`)
  expect([...result.failed, ...(result.missing ?? [])]).toEqual([])
  expect(result.passed).toBeGreaterThan(40)
})

test.each(installs)('an install, %s: under ten seconds where nothing is emulated', (_, result) => {
  const { machine, seconds } = result
  for (const name of ['node', 'small', 'install', 'example'])
    expect(seconds[name]).toBeGreaterThan(0)
  if (machine === 'host') expect(seconds.install + seconds.example).toBeLessThan(10)
})
