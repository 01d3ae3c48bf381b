// Random operations on an Emscripten FS: what C code and JavaScript do to files, as plain data that
// fast-check makes and shrinks. Operations fail as they please (`ErrnoError`); that is a case, too.

import fc from 'fast-check'

const NAMES = ['a', 'b', 'c', '7', '12']
const name = fc.constantFrom(...NAMES)
const path = fc.array(name, { minLength: 1, maxLength: 3 }).map(names => `/tree/${names.join('/')}`)
const bytes = fc.record({
  length: fc.oneof(fc.integer({ min: 0, max: 300 }), fc.integer({ min: 4000, max: 70_000 })),
  fill: fc.integer({ min: 1, max: 255 })
})
const fd = fc.integer({ min: 0, max: 14 })
const position = fc.oneof(fc.integer({ min: 0, max: 200 }), fc.integer({ min: 0, max: 90_000 }))
const flags = fc.constantFrom('r', 'r+', 'w', 'w+', 'a', 'a+')
const of = (op, fields = {}) => fc.record({ op: fc.constant(op), ...fields })

/** One operation. */
export const operation = fc.oneof(
  { weight: 3, arbitrary: of('mkdir', { path }) },
  { weight: 5, arbitrary: of('writeFile', { path, bytes, own: fc.boolean() }) },
  { weight: 4, arbitrary: of('open', { path, flags }) },
  { weight: 5, arbitrary: of('write', { fd, bytes, position: fc.option(position) }) },
  of('read', { fd, length: position }),
  of('seek', { fd, position }),
  { weight: 2, arbitrary: of('close', { fd }) },
  of('dup', { fd }),
  of('truncate', { path, length: position }),
  of('ftruncate', { fd, length: position }),
  { weight: 3, arbitrary: of('unlink', { path }) },
  { weight: 2, arbitrary: of('rmdir', { path }) },
  { weight: 3, arbitrary: of('rename', { path, to: path }) },
  of('symlink', { path, to: path }),
  of('chmod', { path, mode: fc.integer({ min: 0, max: 0o777 }) }),
  of('utime', { path, time: fc.integer({ min: 0, max: 2 ** 40 }) }),
  of('chdir', { path }),
  of('mkdev', { path }),
  of('createDevice', { path }),
  of('mount', { path }),
  of('unmount', { path }),
  of('turn', { path }),
  of('mark', { path }),
  of('stray', { path, position }),
  of('line', { fd: fc.constantFrom(1, 2), bytes })
)

const filled = ({ length, fill }) => new Uint8Array(length).map((_, i) => (fill + i) % 256)

const DO = {
  mkdir: (FS, { path }) => FS.mkdir(path),
  writeFile: (FS, { path, bytes, own }) => FS.writeFile(path, filled(bytes), { canOwn: own }),
  open: (FS, { path, flags }) => FS.open(path, flags),
  write: (FS, { fd, bytes, position }) => {
    const stream = FS.getStream(fd)
    // Streams 0 to 2 are terminals: `line` writes there.
    if (stream && fd > 2) FS.write(stream, filled(bytes), 0, bytes.length, position ?? undefined)
  },
  read: (FS, { fd, length }) => {
    const stream = FS.getStream(fd)
    if (stream && fd > 2) FS.read(stream, new Uint8Array(length), 0, length)
  },
  seek: (FS, { fd, position }) => FS.llseek(FS.getStream(fd), position, 0),
  close: (FS, { fd }) => FS.getStream(fd) && FS.close(FS.getStream(fd)),
  dup: (FS, { fd }) => FS.getStream(fd) && duplicate(FS, FS.getStream(fd)),
  truncate: (FS, { path, length }) => FS.truncate(path, length),
  ftruncate: (FS, { fd, length }) => FS.ftruncate(fd, length),
  unlink: (FS, { path }) => FS.unlink(path),
  rmdir: (FS, { path }) => FS.rmdir(path),
  rename: (FS, { path, to }) => FS.rename(path, to),
  symlink: (FS, { path, to }) => FS.symlink(to, path),
  chmod: (FS, { path, mode }) => FS.chmod(path, mode),
  utime: (FS, { path, time }) => FS.utime(path, time, time),
  chdir: (FS, { path }) => FS.chdir(path),
  mkdev: (FS, { path }) => FS.mkdev(path, FS.makedev(1, 3)),
  createDevice: (FS, { path }) => {
    const at = path.lastIndexOf('/')
    FS.createDevice(
      path.slice(0, at),
      path.slice(at + 1),
      () => null,
      () => {}
    )
  },
  mount: (FS, { path }) => FS.mount(FS.root.mount.type, {}, path),
  unmount: (FS, { path }) => FS.unmount(path),
  // The same name at another place of its folder: readdir shows it last.
  turn: (FS, { path }) => {
    FS.rename(path, `${path}~`)
    FS.rename(`${path}~`, path)
  },
  // What IDBFS and listeners do: a property that nodes have not when they are made.
  mark: (FS, { path }) => {
    FS.lookupPath(path, {}).node.isModified = true
  },
  // A write that FS does not see: through the array of a file.
  stray: (FS, { path, position }) => {
    const { contents, usedBytes } = FS.lookupPath(path, { follow: true }).node
    if (contents?.buffer && position < usedBytes) contents[position] ^= 255
  },
  // Half a line in a terminal: printed later, or never.
  line: (FS, { fd, bytes: { fill } }) => {
    const text = new Uint8Array([97 + (fill % 26), 98])
    FS.write(FS.getStream(fd), text, 0, text.length)
  }
}

/** `dupStream` came with Emscripten 3.1.50; before it, dup made a stream of a stream. */
function duplicate(FS, stream) {
  if (FS.dupStream) FS.dupStream(stream)
  else FS.createStream(stream)
}

/** Does one operation. Returns whether it succeeded. */
export function operate(FS, operation) {
  try {
    DO[operation.op](FS, operation)
    return true
  } catch (error) {
    if (error.name === 'ErrnoError' || typeof error.errno === 'number') return false
    // Old versions fail in JavaScript where a node has no such operation.
    if (error instanceof TypeError) return false
    throw error
  }
}

/** A tree to begin with: what operations change, and what they don't reach. */
export function plant(FS) {
  FS.mkdir('/tree')
  for (const folder of NAMES) FS.mkdir(`/tree/${folder}`)
  FS.writeFile('/tree/a/a', filled({ length: 5000, fill: 1 }))
  FS.writeFile('/tree/a/b', filled({ length: 70_000, fill: 2 }))
  FS.writeFile('/tree/a/12', 'twelve')
  FS.writeFile('/tree/b/7', new Uint8Array(0))
  FS.writeFile('/tree/b/c', filled({ length: 40, fill: 3 }), { canOwn: true })
  FS.symlink('/tree/a/b', '/tree/c/a')
  FS.mkdir('/tree/c/b')
  FS.mount(FS.root.mount.type, {}, '/tree/12')
  FS.writeFile('/tree/12/a', filled({ length: 9000, fill: 4 }))
  FS.open('/tree/a/a', 'r+')
  FS.read(FS.open('/tree/a/b', 'a+'), new Uint8Array(10), 0, 10)
  const unlinked = FS.open('/tree/gone', 'w+')
  FS.write(unlinked, filled({ length: 300, fill: 5 }), 0, 300)
  FS.unlink('/tree/gone')
}
