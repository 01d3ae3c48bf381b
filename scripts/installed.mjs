// Whether a folder's node_modules is as its lock file says.

import fs from 'node:fs'
import path from 'node:path'
import { isDeepStrictEqual } from 'node:util'

const readJson = (...file) => JSON.parse(fs.readFileSync(path.join(...file), 'utf8'))

/** The packages of a lock file, with their versions: no links, and none that a machine may lack. */
function versionsIn(lock) {
  const packages = Object.entries(lock.packages).filter(
    ([where, { link, optional }]) => where.startsWith('node_modules/') && !link && !optional
  )
  return Object.fromEntries(packages.map(([where, { version }]) => [where, version]).sort())
}

/** npm writes what it has installed when all of it is there. */
export function isInstalled(folder) {
  const installed = path.join(folder, 'node_modules', '.package-lock.json')
  if (!fs.existsSync(installed)) return false
  const [wanted, present] = [readJson(folder, 'package-lock.json'), readJson(installed)]
  return isDeepStrictEqual(versionsIn(wanted), versionsIn(present))
}
