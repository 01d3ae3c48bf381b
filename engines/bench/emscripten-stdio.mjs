// A program in C that reads a file with fread(), 64 KiB at a time.

import { O } from '../support/emscripten-builds.mjs'
import { VERSION, dataset, waysOf } from '../support/emscripten-case.mjs'

export const engine = {
  name: 'fread() in C by Emscripten',
  version: VERSION,
  adapter: "emscripten(Module).mountFile('/orders.bin', region)",
  nodes: '>=20',
  limits: 'none: also files larger than the memory',
  section: 'emscripten-modules'
}

export { dataset }

export const ways = waysOf({
  open: ({ c }, path) => ({ c, path, fd: c.open(path, O.RDONLY), byteLength: c.size(path) }),
  answer: ({ c, fd, byteLength }) =>
    [0, 1 / 3, 0.99].map(part => c.byte(fd, Math.floor(byteLength * part))),
  scan: ({ c, path }) => [c.sum(path, 65_536)]
})
