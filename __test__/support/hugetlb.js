'use strict'

// The system's pool of huge pages, which only an administrator can fill.

const { execFileSync, spawnSync } = require('node:child_process')
const fs = require('node:fs')
const { fdOf } = require('./procfs.js')

const HUGE = 2 * 2 ** 20
const POOL = '/sys/kernel/mm/hugepages/hugepages-2048kB'

const count = name => Number(fs.readFileSync(`${POOL}/${name}`, 'latin1'))

/** Pages that nobody has and nobody was promised; -1: this system has no such pool. */
const freePages = () =>
  fs.existsSync(POOL) ? count('free_hugepages') - count('resv_hugepages') : -1

/** Whether there is a program that makes holes in files. */
const canPunch = () => spawnSync('fallocate', ['--version']).status === 0

/** Takes pages of a region away, as whoever has its descriptor can. */
function punchHole(region, offset, byteLength) {
  const fd = fs.openSync(`/proc/self/fd/${fdOf(region)}`, 'r+')
  const hole = [
    '--punch-hole',
    '--offset',
    String(offset),
    '--length',
    String(byteLength),
    '/proc/self/fd/3'
  ]
  execFileSync('fallocate', hole, { stdio: ['ignore', 'ignore', 'inherit', fd] })
  fs.closeSync(fd)
}

module.exports = { HUGE, freePages, canPunch, punchHole }
