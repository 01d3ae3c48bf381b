// A language model of any size: a llama with random weights, the same each time, and a vocabulary
// of bytes. What it says is nonsense, and the same nonsense each time.

import fs from 'node:fs'
import path from 'node:path'

const ALIGNMENT = 32
const [F32, F16] = [0, 1]
const [UINT32, FLOAT32, STRING, ARRAY, INT32] = [4, 6, 8, 9, 5]
const EMBEDDING = 1024
const FEED_FORWARD = 4096
const HEADS = 16
const CONTEXT = 512
// What llama.cpp calls the kinds of tokens.
const [NORMAL, UNKNOWN, CONTROL, BYTE] = [1, 2, 3, 6]

/** A vocabulary of SentencePiece's kind: special tokens, each byte, the printable characters. */
function vocabulary() {
  const tokens = [
    ['<unk>', UNKNOWN],
    ['<s>', CONTROL],
    ['</s>', CONTROL]
  ]
  for (let byte = 0; byte < 256; byte++)
    tokens.push([`<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`, BYTE])
  tokens.push(['\u2581', NORMAL])
  for (let code = 33; code < 127; code++) tokens.push([String.fromCharCode(code), NORMAL])
  return tokens
}

class Writer {
  #parts = []
  byteLength = 0

  bytes(buffer) {
    this.#parts.push(buffer)
    this.byteLength += buffer.length
  }

  #number(byteLength, write) {
    const buffer = Buffer.alloc(byteLength)
    write(buffer)
    this.bytes(buffer)
  }

  u32 = value => this.#number(4, buffer => buffer.writeUInt32LE(value))
  i32 = value => this.#number(4, buffer => buffer.writeInt32LE(value))
  f32 = value => this.#number(4, buffer => buffer.writeFloatLE(value))
  u64 = value => this.#number(8, buffer => buffer.writeBigUInt64LE(BigInt(value)))
  string = text => {
    const bytes = Buffer.from(text)
    this.u64(bytes.length)
    this.bytes(bytes)
  }

  #writers = { [UINT32]: this.u32, [INT32]: this.i32, [FLOAT32]: this.f32, [STRING]: this.string }

  pair(key, type, value) {
    this.string(key)
    this.u32(type)
    this.#writers[type](value)
  }

  list(key, type, values) {
    this.string(key)
    this.u32(ARRAY)
    this.u32(type)
    this.u64(values.length)
    values.forEach(this.#writers[type])
  }

  pad() {
    this.bytes(Buffer.alloc((ALIGNMENT - (this.byteLength % ALIGNMENT)) % ALIGNMENT))
  }

  buffer() {
    return Buffer.concat(this.#parts)
  }
}

/** Names, shapes and types of the tensors of a model with so many layers. */
function tensorsOf(layers, vocabularySize) {
  const matrix = (name, ...shape) => ({ name: `${name}.weight`, shape, type: F16 })
  const vector = name => ({ name: `${name}.weight`, shape: [EMBEDDING], type: F32 })
  const tensors = [matrix('token_embd', EMBEDDING, vocabularySize)]
  for (let layer = 0; layer < layers; layer++) {
    const of = name => `blk.${layer}.${name}`
    tensors.push(
      vector(of('attn_norm')),
      ...['attn_q', 'attn_k', 'attn_v', 'attn_output'].map(name =>
        matrix(of(name), EMBEDDING, EMBEDDING)
      ),
      vector(of('ffn_norm')),
      matrix(of('ffn_gate'), EMBEDDING, FEED_FORWARD),
      matrix(of('ffn_up'), EMBEDDING, FEED_FORWARD),
      matrix(of('ffn_down'), FEED_FORWARD, EMBEDDING)
    )
  }
  tensors.push(vector('output_norm'), matrix('output', EMBEDDING, vocabularySize))
  return tensors.map(tensor => {
    const count = tensor.shape.reduce((a, b) => a * b)
    return { ...tensor, count, byteLength: count * (tensor.type === F16 ? 2 : 4) }
  })
}

const LAYER_BYTES = 2 * (4 * EMBEDDING * EMBEDDING + 3 * EMBEDDING * FEED_FORWARD)

function header(tensors, layers, tokens) {
  const writer = new Writer()
  writer.bytes(Buffer.from('GGUF'))
  writer.u32(3)
  writer.u64(tensors.length)
  const pairs = [
    ['general.architecture', STRING, 'llama'],
    ['general.name', STRING, 'random'],
    ['general.alignment', UINT32, ALIGNMENT],
    ['llama.context_length', UINT32, CONTEXT],
    ['llama.embedding_length', UINT32, EMBEDDING],
    ['llama.block_count', UINT32, layers],
    ['llama.feed_forward_length', UINT32, FEED_FORWARD],
    ['llama.attention.head_count', UINT32, HEADS],
    ['llama.attention.head_count_kv', UINT32, HEADS],
    ['llama.attention.layer_norm_rms_epsilon', FLOAT32, 1e-5],
    ['llama.rope.dimension_count', UINT32, EMBEDDING / HEADS],
    ['llama.vocab_size', UINT32, tokens.length],
    ['tokenizer.ggml.model', STRING, 'llama'],
    ['tokenizer.ggml.bos_token_id', UINT32, 1],
    ['tokenizer.ggml.eos_token_id', UINT32, 2],
    ['tokenizer.ggml.unknown_token_id', UINT32, 0]
  ]
  writer.u64(pairs.length + 3)
  for (const pair of pairs) writer.pair(...pair)
  const texts = tokens.map(([text]) => text)
  const kinds = tokens.map(([, kind]) => kind)
  writer.list('tokenizer.ggml.tokens', STRING, texts)
  writer.list(
    'tokenizer.ggml.scores',
    FLOAT32,
    texts.map(() => 0)
  )
  writer.list('tokenizer.ggml.token_type', INT32, kinds)
  let offset = 0
  for (const { name, shape, type, byteLength } of tensors) {
    writer.string(name)
    writer.u32(shape.length)
    for (const length of shape) writer.u64(length)
    writer.u32(type)
    writer.u64(offset)
    offset += Math.ceil(byteLength / ALIGNMENT) * ALIGNMENT
  }
  writer.pad()
  return writer.buffer()
}

/** Random numbers of half precision between 2^-7 and 2^-5, of both signs. */
function halves(count, seed) {
  const words = new Uint32Array(count / 2)
  let state = seed
  for (let i = 0; i < words.length; i++) {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    words[i] = (state & 0x87ff_87ff) | 0x2000_2000
  }
  return Buffer.from(words.buffer)
}

/** Makes a model of about so many bytes, once, and gives its path. */
export function makeModel(directory, byteLength) {
  const layers = Math.max(1, Math.round(byteLength / LAYER_BYTES))
  const file = path.join(directory, `llama-${layers}-layers.gguf`)
  if (fs.existsSync(file)) return file
  fs.mkdirSync(directory, { recursive: true })
  const tokens = vocabulary()
  const tensors = tensorsOf(layers, tokens.length)
  const partial = `${file}.partial`
  const fd = fs.openSync(partial, 'w')
  try {
    fs.writeSync(fd, header(tensors, layers, tokens))
    const letters = tokens.findIndex(([, kind]) => kind === NORMAL)
    tensors.forEach(({ name, type, count }, index) => {
      const bytes =
        type === F16
          ? halves(count, index + 1)
          : Buffer.from(new Float32Array(count).fill(1).buffer)
      // It never says a special token, nor a byte that is no letter.
      if (name === 'output.weight') bytes.fill(0, 0, letters * EMBEDDING * 2)
      for (let done = 0; done < bytes.length;) done += fs.writeSync(fd, bytes, done)
      const rest = bytes.length % ALIGNMENT
      if (rest > 0) fs.writeSync(fd, Buffer.alloc(ALIGNMENT - rest))
    })
  } finally {
    fs.closeSync(fd)
  }
  fs.renameSync(partial, file)
  return file
}
