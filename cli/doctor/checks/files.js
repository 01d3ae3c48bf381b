'use strict'

// The file systems on which programs keep what they map: is a file guarded against changes there,
// as Snapshot.open needs it? A snapshot was saved and opened in each folder.

const { good, missing, unknown, errorInWords } = require('../finding.js')

function folder(name) {
  return ({ folders }) => {
    const found = folders.get(name)
    if (found === undefined) return unknown('there is none')
    const { folder: path, mount, error } = found
    const options = (mount?.options ?? []).filter(option => option === 'noexec' || option === 'ro')
    const kind = [mount?.kind ?? 'unknown file system', ...new Set(options)].join(', ')
    const values = { path, fileSystem: mount?.kind ?? null, options, code: error?.code ?? null }
    const words = `${path} (${kind})`
    if (error === undefined) return unknown(`${words}: not tried`, values)
    if (error === null) return good(`${words}: Snapshot.open works`, values)
    // What keeps one from writing there is no matter of the file system's.
    if (error.code !== 'ERR_HOSTMAP_SNAPSHOT_UNGUARDED')
      return unknown(`${words}: not tried, ${error.code ?? errorInWords(error)}`, values)
    return missing(
      words,
      'Snapshot.open refuses snapshots here: the file system has no leases to guard them by.',
      {
        advice: 'Keep snapshots on ext4, XFS, Btrfs or tmpfs, or use Snapshot.load, which copies.'
      },
      { values }
    )
  }
}

module.exports = {
  group: 'Files',
  checks: [
    ['files.temporary', 'temporary folder', folder('temporary folder')],
    ['files.current', 'current folder', folder('current folder')]
  ]
}
