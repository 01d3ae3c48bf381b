// Packages of other releases of Debian and other processors, by apt, in a folder of our own: the
// system's apt is asked where Debian is, and is not changed.
import fs from 'node:fs'
import path from 'node:path'

import { CACHE, kept, output } from './cache.mjs'

/** There is no apt, or it can't get what is asked for. Nothing is wrong with the package then. */
export class NotToBeHad extends Error {}

/** Where the system's apt gets Debian from: [archive, security]. */
function archives() {
  const format = '$(LABEL)|$(CODENAME)|$(REPO_URI)'
  let lines = []
  try {
    lines = output('apt-get', ['indextargets', '--format', format]).split('\n')
  } catch (error) {
    throw new NotToBeHad('there is no apt here', { cause: error })
  }
  const find = label => lines.map(line => line.split('|')).find(([found]) => found === label)?.[2]
  const archive = find('Debian')
  if (!archive)
    throw new NotToBeHad("the system's apt has no archive of Debian: run apt-get update")
  return [archive, find('Debian-Security')]
}

/**
 * apt's own environment for a release, such as `bookworm`, and a processor, as Debian names it.
 *
 * @param withUpdates Whether it has the release's security updates, too.
 */
function environment(suite, arch, withUpdates = true) {
  const name = `apt/${suite}-${arch}${withUpdates ? '' : '-main'}`
  const home = kept(name, folder => {
    const [archive, security] = archives()
    const final = path.join(CACHE, name)
    for (const sub of [
      'etc/apt.conf.d',
      'etc/preferences.d',
      'etc/trusted.gpg.d',
      'lists/partial',
      'archives/partial'
    ]) {
      fs.mkdirSync(path.join(folder, sub), { recursive: true })
    }
    fs.writeFileSync(path.join(folder, 'status'), '')
    const key = '[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]'
    const isRelease = !suite.includes('-') && suite !== 'sid'
    const sources = [`deb ${key} ${archive} ${suite} main`]
    if (withUpdates && isRelease && security)
      sources.push(`deb ${key} ${security} ${suite}-security main`)
    fs.writeFileSync(path.join(folder, 'etc/sources.list'), `${sources.join('\n')}\n`)
    // Releases that are out of support are no longer signed anew.
    const configuration = at => `APT::Architecture "${arch}";
APT::Architectures { "${arch}"; };
APT::Sandbox::User "root";
Acquire::Check-Valid-Until "false";
Acquire::Languages "none";
Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled "false";
Dir::Etc "${at}/etc";
Dir::Etc::Parts "${at}/etc/apt.conf.d";
Dir::State "${at}";
Dir::State::Lists "${at}/lists";
Dir::State::status "${at}/status";
Dir::Cache "${at}";
`
    const file = path.join(folder, 'update.conf')
    fs.writeFileSync(file, configuration(folder))
    try {
      output('apt-get', ['update', '-q'], { env: { ...process.env, APT_CONFIG: file } })
    } catch (error) {
      throw new NotToBeHad(`apt can't read ${suite} for ${arch}: ${error.stderr}`, { cause: error })
    }
    fs.rmSync(file)
    fs.writeFileSync(path.join(folder, 'apt.conf'), configuration(final))
  })
  return { ...process.env, APT_CONFIG: path.join(home, 'apt.conf') }
}

/** What a package depends on, by name; of alternatives the first. */
export function dependencies(suite, arch, name, withUpdates = true) {
  const env = environment(suite, arch, withUpdates)
  const text = output('apt-cache', ['depends', '--important', name], { env })
  return [...text.matchAll(/^ {2}\|?(?:Pre)?Depends: <?([^\s>]+)/gm)].map(([, found]) => found)
}

/** The names of packages that match. */
export function search(suite, arch, pattern, withUpdates = true) {
  const text = output('apt-cache', ['search', '--names-only', pattern], {
    env: environment(suite, arch, withUpdates)
  })
  return text
    .split('\n')
    .map(line => line.split(' ')[0])
    .filter(Boolean)
}

/** Downloads packages and unpacks them into a folder. Nothing of theirs is run. */
export function unpack(suite, arch, names, into) {
  const debs = fs.mkdtempSync(path.join(CACHE, 'debs-'))
  try {
    try {
      download(suite, arch, names, debs, true)
    } catch {
      // The index of updates outlives the packages where a release is no longer supported.
      download(suite, arch, names, debs, false)
    }
    for (const deb of fs.readdirSync(debs)) output('dpkg-deb', ['-x', path.join(debs, deb), into])
  } finally {
    fs.rmSync(debs, { recursive: true })
  }
}

function download(suite, arch, names, folder, withUpdates) {
  const env = environment(suite, arch, withUpdates)
  for (const file of fs.readdirSync(folder)) fs.rmSync(path.join(folder, file))
  try {
    output('apt-get', ['download', '-q', ...names], { env, cwd: folder })
  } catch (error) {
    throw new NotToBeHad(`apt can't download from ${suite}: ${error.stderr}`, { cause: error })
  }
}
