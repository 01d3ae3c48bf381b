// Files in examples/data, which the examples make on their first run and reuse later.

import { mkdirSync, renameSync, rmSync, statSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { formatBytes } from './cli.mjs'
import { startProgress } from './progress.mjs'

const directory = new URL('../data/', import.meta.url)

/**
 * Returns the path of a file in examples/data, and makes the file if necessary.
 *
 * @param name Must name all that the content depends on.
 * @param make Writes the file to the given path, and calls `onProgress` with a share from 0 to 1.
 *   The file gets its name once it is complete, so an interrupted run leaves nothing that a later
 *   one would use.
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
 * Makes such a file, opens it with `open`, and removes its name, so that the file goes away with
 * the process, however that ends.
 */
export async function openOnce(name, make, open) {
  const path = await dataset(name, make)
  try {
    return open(path)
  } finally {
    rmSync(path)
  }
}
