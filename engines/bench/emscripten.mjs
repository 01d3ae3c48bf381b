// A program in C that maps a file with mmap() and reads it through a pointer.

import { MAP, O, PROT } from '../support/emscripten-builds.mjs'
import { VERSION, dataset, waysOf } from '../support/emscripten-case.mjs'

export const engine = {
  name: 'mmap() in C by Emscripten',
  version: VERSION,
  adapter: "emscripten(Module).mountFile('/orders.bin', region)",
  nodes: '>=20',
  limits: 'what is mapped at once fits into the memory',
  section: 'emscripten-modules'
}

export { dataset }

export const ways = waysOf({
  open: ({ c }, path) => {
    const fd = c.open(path, O.RDONLY)
    const byteLength = c.size(path)
    const pointer = c.map(byteLength, PROT.READ, MAP.SHARED, fd, 0)
    if (!(pointer > 0)) throw new Error(`mmap gave ${pointer}`)
    return { c, pointer, byteLength }
  },
  answer: ({ c, pointer, byteLength }) =>
    [0, 1 / 3, 0.99].map(part => c.sumAt(pointer + Math.floor((byteLength * part) / 4) * 4, 4096)),
  scan: ({ c, pointer, byteLength }) => [c.sumAt(pointer, byteLength)]
})
