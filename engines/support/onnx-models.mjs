// Models for onnxruntime, made by code: y = relu(... relu(relu(x W0) W1) ...) Wn with square
// weights, as `.onnx` (weights inside, or in a file of their own) and as `.ort`. The weights come
// from a seed, so that files of any size need not be kept anywhere.
//
// Files are written piece by piece: a model of gigabytes takes the memory of one layer.

import fs from 'node:fs'
import path from 'node:path'
import * as flatbuffers from 'flatbuffers'

const FLOAT = 1
const OPSET = 13n
const FLOAT_BYTES = 4

/** The weights of a layer: row by row, from -1 to 1 by the square root of 3 / size. */
export function weightsOf({ size, seed = 1 }, layer) {
  const weights = new Float32Array(size * size)
  // Keeps what goes through the layers about as large as it came in.
  const scale = Math.sqrt(6 / size) / 2 ** 31
  let state = (seed * 2_654_435_761 + layer * 40_503 + 1) | 0 || 1
  for (let i = 0; i < weights.length; i++) {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    weights[i] = state * scale
  }
  return weights
}

/** An input for it: `rows` rows, or one. */
export const inputOf = ({ size, rows = 1 }, seed = 0) =>
  Float32Array.from({ length: rows * size }, (_, i) => Math.sin(i * (seed + 1)))

/** The sizes of a model of about so many bytes. */
export function modelOf(byteLength, { size = 2048, seed = 1 } = {}) {
  const layers = Math.max(1, Math.round(byteLength / (size * size * FLOAT_BYTES)))
  return { size, layers, seed }
}

const layersOf = ({ layers }) => Array.from({ length: layers }, (_, i) => i)

/** What goes into a node and comes out, by name. */
function nodesOf({ layers }) {
  const nodes = []
  for (let i = 0; i < layers; i++) {
    const out = i === layers - 1 ? 'y' : `h${i}`
    nodes.push({ op: 'MatMul', inputs: [i === 0 ? 'x' : `r${i - 1}`, `W${i}`], outputs: [out] })
    if (out !== 'y') nodes.push({ op: 'Relu', inputs: [out], outputs: [`r${i}`] })
  }
  return nodes
}

// ONNX: protocol buffers. A message is a list of pieces: bytes, or the number of a layer.

const varint = number => {
  const bytes = []
  let rest = BigInt(number)
  do {
    const low = Number(rest & 0x7fn)
    rest >>= 7n
    bytes.push(rest > 0n ? low | 0x80 : low)
  } while (rest > 0n)
  return Buffer.from(bytes)
}
const int = (field, value) => [varint(field << 3), varint(value)]
const lengthOf = (pieces, layerBytes) =>
  pieces.reduce((sum, it) => sum + (typeof it === 'number' ? layerBytes : it.length), 0)

function writerOf(layerBytes) {
  const bytes = (field, ...pieces) => {
    const all = pieces.flat(Infinity).map(it => (typeof it === 'string' ? Buffer.from(it) : it))
    return [varint((field << 3) | 2), varint(lengthOf(all, layerBytes)), ...all]
  }
  return bytes
}

function onnxPieces(model, externalFile) {
  const { size, rows = 1 } = model
  const layerBytes = size * size * FLOAT_BYTES
  const bytes = writerOf(layerBytes)
  const dims = shape => shape.map(it => bytes(1, int(1, it)))
  const value = name => [
    bytes(1, name),
    bytes(2, bytes(1, int(1, FLOAT), bytes(2, dims([rows, size]))))
  ]
  const entry = (key, text) => bytes(13, bytes(1, key), bytes(2, String(text)))
  const tensor = layer => [
    int(1, size),
    int(1, size),
    int(2, FLOAT),
    bytes(8, `W${layer}`),
    externalFile === undefined
      ? bytes(9, [layer])
      : [
          entry('location', externalFile),
          entry('offset', layer * layerBytes),
          entry('length', layerBytes),
          int(14, 1)
        ]
  ]
  const node = ({ op, inputs, outputs }) => [
    inputs.map(it => bytes(1, it)),
    outputs.map(it => bytes(2, it)),
    bytes(4, op)
  ]
  const graph = [
    nodesOf(model).map(it => bytes(1, node(it))),
    bytes(2, 'chain'),
    layersOf(model).map(it => bytes(5, tensor(it))),
    bytes(11, value('x')),
    bytes(12, value('y'))
  ]
  return [int(1, 7), bytes(7, graph), bytes(8, bytes(1, ''), int(2, OPSET))].flat(Infinity)
}

function writePieces(file, pieces, model) {
  writeBeside(file, fd => {
    for (const piece of pieces)
      writeAll(fd, typeof piece === 'number' ? bytesOf(weightsOf(model, piece)) : piece)
  })
}

// Written beside and renamed, so that nobody takes half of it for all.
function writeBeside(file, write) {
  fs.mkdirSync(path.dirname(file), { recursive: true })
  const fd = fs.openSync(`${file}.part`, 'w')
  try {
    write(fd)
  } finally {
    fs.closeSync(fd)
  }
  fs.renameSync(`${file}.part`, file)
}

function writeAll(fd, bytes) {
  for (let done = 0; done < bytes.length;) done += fs.writeSync(fd, bytes, done)
}

const bytesOf = array => new Uint8Array(array.buffer, array.byteOffset, array.byteLength)

/** A model with its weights inside. */
export const writeOnnx = (file, model) => writePieces(file, onnxPieces(model), model)

/** A model, and its weights in `externalFile` beside it, one layer after the other. */
export function writeOnnxWithData(file, model, externalFile) {
  writePieces(file, onnxPieces(model, externalFile), model)
  writePieces(path.join(path.dirname(file), externalFile), layersOf(model), model)
}

// ORT: flatbuffers (onnxruntime/core/flatbuffers/schema/ort.fbs). Fields by their number there.

/** A table of offsets, and of numbers as `['int32', value]`. */
function table(builder, fields) {
  const entries = Object.entries(fields).filter(([, value]) => value !== undefined)
  builder.startObject(Math.max(...entries.map(([field]) => Number(field))) + 1)
  for (const [field, value] of entries) {
    if (Array.isArray(value))
      builder[`addField${value[0]}`](Number(field), value[1], ZERO[value[0]])
    else builder.addFieldOffset(Number(field), value, 0)
  }
  return builder.endObject()
}
const ZERO = { Int8: 0, Int32: 0, Int64: 0n }

function vector(builder, offsets) {
  builder.startVector(4, offsets.length, 4)
  for (const offset of [...offsets].reverse()) builder.addOffset(offset)
  return builder.endVector()
}

const texts = (builder, list) =>
  vector(
    builder,
    list.map(it => builder.createString(it))
  )

function longs(builder, list) {
  builder.startVector(8, list.length, 8)
  for (const it of [...list].reverse()) builder.addInt64(BigInt(it))
  return builder.endVector()
}

/** The flatbuffer without its weights, and where each weight's offset is to be written. */
function ortSkeleton(model) {
  const { size, rows = 1 } = model
  const builder = new flatbuffers.Builder(65_536)
  const text = it => builder.createString(it)
  const initializers = layersOf(model).map(layer => {
    const [name, dims] = [text(`W${layer}`), longs(builder, [size, size])]
    const nothing = vector(builder, [])
    return table(builder, { 0: name, 2: dims, 3: ['Int32', FLOAT], 4: nothing })
  })
  const valueInfo = (name, shape) => {
    const dimensions = shape.map(it =>
      table(builder, { 0: table(builder, { 0: ['Int8', 1], 1: ['Int64', BigInt(it)] }) })
    )
    const tensorType = table(builder, {
      0: ['Int32', FLOAT],
      1: table(builder, { 0: vector(builder, dimensions) })
    })
    const type = table(builder, { 1: ['Int8', 1], 2: tensorType })
    return table(builder, { 0: text(name), 2: type })
  }
  const nodes = nodesOf(model)
  const names = ['x', ...nodes.flatMap(({ outputs }) => outputs)]
  const nodeArgs = [
    ...names.map(name => valueInfo(name, [rows, size])),
    ...layersOf(model).map(layer => valueInfo(`W${layer}`, [size, size]))
  ]
  const nodeTables = nodes.map(({ op, inputs, outputs }, index) => {
    builder.startVector(4, inputs.length, 4)
    for (let i = 0; i < inputs.length; i++) builder.addInt32(1)
    const counts = builder.endVector()
    return table(builder, {
      0: text(`n${index}`),
      2: text(''),
      3: ['Int32', Number(OPSET)],
      4: ['Int32', index],
      5: text(op),
      7: text('CPUExecutionProvider'),
      8: texts(builder, inputs),
      9: texts(builder, outputs),
      11: counts,
      12: texts(builder, [])
    })
  })
  const edge = (index, other) => {
    // A struct: written backwards.
    builder.startVector(12, 1, 4)
    builder.prep(4, 12)
    builder.writeInt32(0)
    builder.writeInt32(0)
    builder.writeInt32(other)
    return builder.endVector()
  }
  const edges = nodes.map((_, index) =>
    table(builder, {
      0: ['Int32', index],
      1: index > 0 ? edge(index, index - 1) : undefined,
      2: index < nodes.length - 1 ? edge(index, index + 1) : undefined
    })
  )
  const graph = table(builder, {
    0: vector(builder, initializers),
    1: vector(builder, nodeArgs),
    2: vector(builder, nodeTables),
    3: ['Int32', nodes.length],
    4: vector(builder, edges),
    5: texts(builder, ['x']),
    6: texts(builder, ['y'])
  })
  const opset = table(builder, { 0: text(''), 1: ['Int64', OPSET] })
  const modelTable = table(builder, {
    0: ['Int64', 7n],
    1: vector(builder, [opset]),
    2: text('wasm-hostmap'),
    7: graph
  })
  const session = table(builder, { 0: text('6'), 1: modelTable, 3: resolver(builder) })
  builder.finish(session, 'ORTM')
  const bytes = builder.asUint8Array().slice()
  return { bytes, places: weightPlaces(bytes, model) }
}

/** Which arguments have a kernel's type T. */
function resolver(builder) {
  const args = (...list) =>
    vector(
      builder,
      list.map(([type, index]) => table(builder, { 0: ['Int8', type], 1: ['Int32', index] }))
    )
  const ops = [
    [':MatMul:13', args([0, 0], [0, 1], [1, 0])],
    [':Relu:13', args([0, 0], [1, 0])]
  ].map(([id, list]) => {
    const entry = table(builder, { 0: builder.createString('T'), 1: list })
    return table(builder, { 0: builder.createString(id), 1: vector(builder, [entry]) })
  })
  return table(builder, { 0: vector(builder, ops) })
}

function weightPlaces(bytes, model) {
  const bb = new flatbuffers.ByteBuffer(bytes)
  const fieldOf = (at, field) => at + bb.__offset(at, 4 + 2 * field)
  const follow = at => at + bb.readInt32(at)
  const session = follow(0)
  const graph = follow(fieldOf(follow(fieldOf(session, 1)), 7))
  const tensors = follow(fieldOf(graph, 0))
  return layersOf(model).map(i => fieldOf(follow(tensors + 4 + 4 * i), 4))
}

/** The same model as `.ort`. Its weights start at multiples of `align` bytes of the file. */
export function writeOrt(file, model, { align = 64 } = {}) {
  const { bytes, places } = ortSkeleton(model)
  const layerBytes = model.size * model.size * FLOAT_BYTES
  const view = new DataView(bytes.buffer)
  let end = bytes.length
  const starts = places.map(place => {
    // The vector's length is before its first byte.
    const start = Math.ceil((end + 4) / align) * align
    view.setUint32(place, start - 4 - place, true)
    end = start + layerBytes
    return start
  })
  writeBeside(file, fd => {
    writeAll(fd, bytes)
    starts.forEach((start, layer) => {
      const length = Buffer.alloc(4)
      length.writeUInt32LE(layerBytes)
      const at = fs.fstatSync(fd).size
      writeAll(fd, Buffer.concat([Buffer.alloc(start - 4 - at), length]))
      writeAll(fd, bytesOf(weightsOf(model, layer)))
    })
  })
}
