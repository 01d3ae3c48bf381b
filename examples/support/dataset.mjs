// Files that the examples make on their first run and find again later, in examples/data.

import { mkdirSync, renameSync, rmSync, statSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { formatBytes } from './cli.mjs'
import { startProgress } from './progress.mjs'

const directory = new URL('../data/', import.meta.url)

/**
 * The path of a file in examples/data, which is made if it is not there yet.
 *
 * @param name Says all that the content depends on, so that a file is never taken for another.
 * @param make Writes the file at the path it is given, and calls `onProgress` with a share from 0
 *   to 1. The file gets its name when it is whole: a run that was cut short leaves nothing that a
 *   later run would take for it.
 */
export async function dataset(name, make) {
  const path = fileURLToPath(new URL(name, directory))
  if (statSync(path, { throwIfNoEntry: false })?.isFile()) return path

  mkdirSync(directory, { recursive: true })
  const unfinished = `${path}.${process.pid}.part`
  const progress = startProgress(`making examples/data/${name}`)
  const removeUnfinished = () => rmSync(unfinished, { force: true })
  const removeAndExit = () => process.exit(130)
  process.once('exit', removeUnfinished)
  process.once('SIGINT', removeAndExit)
  try {
    await make(unfinished, progress.update)
    renameSync(unfinished, path)
  } finally {
    progress.stop()
    removeUnfinished()
    process.off('exit', removeUnfinished)
    process.off('SIGINT', removeAndExit)
  }
  console.error(`made examples/data/${name}, ${formatBytes(statSync(path).size)}`)
  return path
}

/**
 * What `open` makes of such a file, which is gone with the process, however that ends: it has no
 * name any more.
 */
export async function openOnce(name, make, open) {
  const path = await dataset(name, make)
  try {
    return open(path)
  } finally {
    rmSync(path)
  }
}
