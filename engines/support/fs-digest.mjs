// All that a program can see of an Emscripten FS, and all that decides what it sees next, as text.
// Written apart from adapters/emscripten-state.js, which it judges: it goes by paths and by the
// tree, not by the table of nodes.

import { createHash } from 'node:crypto'

const hash = bytes => createHash('sha1').update(bytes).digest('base64')
const time = value => (value === undefined ? undefined : Number(value))

/** The digest: lines of text, so that a difference can be read. */
export function digestFS(FS) {
  const lines = []
  const visit = (path, node) => {
    const { id, name, mode, rdev, usedBytes, link } = node
    const times = [node.atime, node.mtime, node.ctime, node.timestamp].map(time)
    const line = { path, id, name, mode, rdev, usedBytes, link, times, keys: Object.keys(node) }
    line.parent = node.parent.id
    line.mounted = node.mounted?.root.id
    line.listeners = node.listeners?.size
    if (FS.isFile(node.mode) && node.contents) line.contents = contentsOf(node)
    lines.push(JSON.stringify(line))
    const shown = node.mounted ? node.mounted.root : node
    if (shown !== node) visit(`${path} (mounted)`, shown)
    else if (FS.isDir(node.mode) && node.contents) {
      for (const [child, inside] of Object.entries(node.contents)) visit(`${path}/${child}`, inside)
    }
  }
  visit('', FS.root)
  for (const [fd, stream] of FS.streams.entries()) lines.push(streamLine(FS, fd, stream))
  lines.push(`streams ${FS.streams.length}`)
  lines.push(`cwd ${FS.cwd()} next inode ${FS.nextInode} initialized ${FS.initialized}`)
  lines.push(`permissions ${FS.ignorePermissions} devices ${Object.keys(FS.devices)}`)
  lines.push(`major ${FS.createDevice.major}`)
  const mounts = [FS.root.mount]
  for (const mount of mounts) mounts.push(...mount.mounts)
  lines.push(`mounts ${mounts.map(({ mountpoint, root }) => `${mountpoint} ${root.id}`)}`)
  FS.nameTable.forEach((first, bucket) => {
    const ids = []
    for (let node = first; node; node = node.name_next) ids.push(node.id)
    if (ids.length > 0) lines.push(`bucket ${bucket}: ${ids}`)
  })
  return lines.join('\n')
}

/** The file's bytes, and that the room after them is zeros: MEMFS grows files into it. */
function contentsOf({ contents, usedBytes }) {
  const room = contents.subarray(usedBytes)
  return `${hash(contents.subarray(0, usedBytes))} ${room.every(byte => byte === 0)}`
}

function streamLine(FS, fd, stream) {
  if (!stream) return `stream ${fd} ${stream}`
  const { node, path, flags, position, shared, ungotten, seekable, error, tty, nfd } = stream
  const line = { fd, own: stream.fd, path, flags, position, shared, ungotten, seekable, error, nfd }
  line.node = [node.id, node.name, node.mode, node.usedBytes]
  if (FS.isFile(node.mode) && node.contents) line.contents = contentsOf(node)
  if (tty) line.terminal = [tty.input, tty.output]
  if (node.pipe) {
    const { buckets, ...rest } = node.pipe
    const counters = Object.entries(rest).filter(([, value]) => typeof value !== 'object')
    line.pipe = [
      counters,
      buckets.map(({ buffer, offset, roffset }) => [
        offset,
        roffset,
        hash(buffer.subarray(roffset, offset))
      ])
    ]
  }
  return `stream ${JSON.stringify(line)}`
}
