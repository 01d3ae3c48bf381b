'use strict'

// Regions whose bytes come when they are touched: chunks that fail, come, go and come again.

const fs = require('node:fs')
const fc = require('fast-check')
const { Difference, hasGuard, same } = require('../world')
const { Paged, Shown, PAGE, CHUNK, CACHE_CHUNKS, ZEROS } = require('../paged')
const { newSteps, MOST, rarely, pick, flag, choose } = require('./arguments')

const { steps, step } = newSteps()

const makeArguments = {
  chunks: fc.integer({ min: 1, max: 40 }),
  rest: fc.integer({ min: 1, max: CHUNK }),
  cached: flag,
  readAhead: rarely,
  userfaultfd: fc.constantFrom(undefined, undefined, false),
  really: fc.nat(4).map(n => n === 0)
}

step('make a paged region', 3, makeArguments, (world, { really, ...args }) => {
  // It takes as long as fifty steps. A system call that is to fail would fail in its thread.
  if (!really || world.injects || !hasGuard || world.paged.length >= MOST.paged) return null
  return {
    text: `make a paged region: ${JSON.stringify(args)}`,
    run: async () => {
      const paged = await Paged.make(args)
      const { real } = paged
      same('byteLength', real.byteLength, paged.byteLength)
      same('writable', real.writable, false)
      same('chunkBytes', real.paging.chunkBytes, CHUNK)
      if (args.userfaultfd === false) same('userfaultfd', real.paging.userfaultfd, false)
      world.paged.push(paged)
      await compare(paged)
    }
  }
})

/** A step of one of them, which is compared after it. */
function pagedStep(name, weight, args, plan) {
  step(name, weight, { paged: pick, ...args }, (world, { paged: which, ...args }) => {
    const paged = choose(world.paged, which)
    const made = paged && plan(paged, args, world)
    if (!made) return null
    const { text, run } = made
    return {
      text: `${text} of ${paged.name}`,
      run: async () => {
        const outcome = await run(await paged.settle())
        await compare(paged)
        return outcome
      }
    }
  })
}

/** What the region and its mappings say of themselves. */
async function compare(paged) {
  const { real, name, closed, cached, shown } = paged
  same(`${name}: closed`, real.closed, closed)
  const here = await paged.settle()
  const stats = real.paging.stats()
  const ofViews = shown
    .filter(({ isMapped }) => !isMapped)
    .reduce((sum, { faults }) => sum + faults, paged.viewFaults)
  same(`${name}: faults`, real.faults, ofViews)
  for (const one of shown)
    if (one.isMapped) same(`${name}: faults of a ${one.kind}`, one.real.faults, one.faults)
  // What it counts is of the time before it was closed.
  if (closed) return
  same(`${name}: failedTouches`, stats.failedTouches, paged.failedTouches)
  // What is read ahead comes at any time.
  const count = here.filter(state => state === 2).length
  if (!paged.readAhead) same(`${name}: presentChunks`, stats.presentChunks, count)
  same(`${name}: lastError`, stats.lastError !== null, paged.failures > 0)
  const pinned = paged.pinned()
  paged.wasPinned ||= pinned.size > 0
  for (const chunk of pinned) same(`${name}: chunk ${chunk}, which must stay`, here[chunk], 2)
  if (!cached) same(`${name}: evictions`, stats.evictions, 0)
  else if (!paged.wasPinned && stats.presentChunks > CACHE_CHUNKS)
    throw new Difference(`${name} has ${stats.presentChunks} chunks, and may have ${CACHE_CHUNKS}`)
}

const failArguments = { chunk: pick, times: fc.integer({ min: 0, max: 3 }) }

pagedStep('let a chunk fail', 12, failArguments, (paged, { chunk: which, times }) => {
  // What is read ahead fails when nobody knows.
  if (paged.readAhead) return null
  const chunk = which % paged.chunks
  return {
    text: `let chunk ${chunk} fail ${times} times`,
    run: () => paged.letFail(chunk, times)
  }
})

const partArguments = { from: pick, pages: fc.integer({ min: 1, max: 60 }) }

/** A part that starts at a page. */
function partOf(paged, { from, pages }) {
  const byteOffset = (from % Math.ceil(paged.byteLength / PAGE)) * PAGE
  return { byteOffset, byteLength: Math.min(pages * PAGE, paged.byteLength - byteOffset) }
}

const showArguments = {
  ...partArguments,
  kind: fc.constantFrom('view', 'bytes', 'mapping', 'mapping', 'private mapping')
}

const codeOf = async call => {
  try {
    return [undefined, await call()]
  } catch (error) {
    return [error.code ?? error]
  }
}

pagedStep('show a paged region', 10, showArguments, (paged, { kind, ...args }, world) => {
  if (paged.shown.length >= MOST.shown) return null
  const part = partOf(paged, args)
  const { real, guarded } = paged
  const calls = {
    view: () => real.view(part),
    bytes: () => real.bytes({ ...part, access: 'readonly' }),
    mapping: () => guarded.map(real, part),
    'private mapping': () => guarded.map(real, { ...part, access: 'private' })
  }
  return {
    text: `a ${kind} of ${part.byteLength} bytes at ${part.byteOffset}`,
    run: async () => {
      const [code, made] = await codeOf(calls[kind])
      same('code', code, paged.closed ? 'ERR_HOSTMAP_REGION_CLOSED' : undefined)
      if (!made) return 'show a paged region: refused'
      const isMapping = kind.endsWith('mapping')
      const shown = new Shown(
        isMapping ? `mapping${kind === 'mapping' ? '' : ' (private)'}` : kind,
        isMapping ? made : Buffer.from(made.buffer ?? made),
        part.byteOffset,
        part.byteLength
      )
      shown.address = made.address
      paged.shown.push(shown)
      world.windows.push(shown)
      return `show a paged region: ${kind}`
    }
  }
})

const windowArguments = { pages: fc.integer({ min: 1, max: 12 }), own: flag, strict: flag }

pagedStep('open a window for a paged region', 4, windowArguments, (paged, args, world) => {
  if (paged.shown.length >= MOST.shown) return null
  const { pages, own, strict } = args
  const kind = own ? 'window (private)' : 'window'
  return {
    text: `open a ${kind} of ${pages} pages${strict ? ', strict,' : ''}`,
    run: () => {
      const access = own ? 'private' : 'readonly'
      const window = paged.guarded.window({ byteLength: pages * PAGE, access, strict })
      const shown = new Shown(kind, window, 0, 0)
      Object.assign(shown, { room: pages, strict, acknowledged: 0 })
      shown.address = window.address
      paged.shown.push(shown)
      world.windows.push(shown)
    }
  }
})

pagedStep('slide over a paged region', 16, { window: pick, ...partArguments }, (paged, args) => {
  const windows = paged.shown.filter(({ room }) => room !== undefined)
  const shown = choose(windows, args.window)
  if (!shown) return null
  const { byteOffset, byteLength } = partOf(paged, {
    from: args.from,
    pages: Math.min(args.pages, shown.room)
  })
  return {
    text: `slide a ${shown.kind} to ${byteLength} bytes at ${byteOffset}`,
    run: async () => {
      const [code] = await codeOf(() => shown.real.slide(paged.real, byteOffset, { byteLength }))
      const unseen = shown.faults - shown.acknowledged
      const codes = []
      if (paged.closed) codes.push('ERR_HOSTMAP_REGION_CLOSED')
      if (shown.strict && unseen > 0) codes.push('ERR_HOSTMAP_FAULTED')
      if (codes.length > 0 ? !codes.includes(code) : code !== undefined)
        throw new Difference(`the code is ${code}, and in the model ${codes}`)
      if (code === undefined) shown.slide(byteOffset, byteLength)
      if (code !== 'ERR_HOSTMAP_FAULTED') return
      same('acknowledged', shown.real.acknowledgeFaults(), unseen)
      shown.acknowledged = shown.faults
      return 'slide over a paged region: refused'
    }
  }
})

pagedStep('refuse a paged region', 2, { how: fc.nat(3) }, (paged, { how }) => ({
  text: 'what is refused',
  run: async () => {
    const { real, guarded } = paged
    const calls = [
      () => real.write(Buffer.from('x')),
      () => real.share({ access: 'shared' }),
      () => real.duplicateFd(),
      () => guarded.map(real, { access: 'shared' })
    ]
    const [code] = await codeOf(calls[how])
    const names = paged.closed ? ['CLOSED'] : ['PAGED', 'READONLY']
    if (!names.some(name => code === `ERR_HOSTMAP_REGION_${name}`))
      throw new Difference(`call ${how} is refused by ${code}`)
  }
}))

const pageAt = (shown, page, length = PAGE) => ({
  at: page * PAGE,
  length: Math.min(length, shown.byteLength - page * PAGE)
})

/** Reads or writes one byte of a page, and says what the outcome must be. */
function touch(paged, shown, page, skew, { wasm, write, here }) {
  const { at, length } = pageAt(shown, page)
  const i = at + (skew % length)
  const place = shown.start + i
  const chunk = Math.floor(place / CHUNK)
  const bytes = shown.isMapped ? Buffer.from(paged.guarded.memory.buffer) : shown.real
  const index = shown.isMapped ? shown.address + i : i
  const before = Int32Array.from(paged.failing)
  const copy = shown.copies.get(page)
  const wasZeros = shown.pages.get(page) === ZEROS
  const fails = here[chunk] !== 2 && (paged.closed || before[chunk] > 0)
  const countOf = () => (shown.isMapped ? shown.real.faults : paged.real.faults)
  const faultsBefore = countOf()
  let seen
  let trapped = false
  try {
    if (write !== undefined) {
      if (wasm) paged.guest.store8(index, write)
      else bytes[index] = write
    } else seen = wasm ? paged.guest.load8(index) : bytes[index]
  } catch (error) {
    if (!(error instanceof WebAssembly.RuntimeError)) throw error
    trapped = true
  }
  const what = `byte ${place} of ${paged.name} by a ${shown.kind}${wasm ? ' in Wasm' : ''}`
  const faults = countOf() - faultsBefore
  // Zeros may go when their chunk comes, and go with it when it gives way.
  const isOpen = wasZeros && !copy && (paged.cached || here[chunk] === 2)
  const isFault = copy === undefined && fails && (isOpen ? faults === 1 : !wasZeros)
  same(`${what}: faults`, faults, isFault ? 1 : 0)
  same(`${what}: trapped`, trapped, isFault && wasm)
  if (isFault) {
    shown.faults++
    paged.failedTouches++
    if (!wasm) {
      shown.pages.set(page, ZEROS)
      shown.warnings.add('HOSTMAP_MISSING_PAGE')
    }
  }
  if (trapped) return 'trapped'
  const isZeros = shown.pages.get(page) === ZEROS
  if (write !== undefined) {
    if (!copy) {
      const chunkWasHere = !isZeros
      const whole = isOpen
        ? Buffer.from(bytes.subarray(index - (i - at), index - (i - at) + length))
        : isZeros
          ? Buffer.alloc(length)
          : paged.bytes(shown.start + at, length)
      shown.copies.set(page, { bytes: whole, chunkWasHere })
    }
    shown.copies.get(page).bytes[i - at] = write
  } else {
    const right = paged.bytes(place, 1)[0]
    const expected = copy ? copy.bytes[i - at] : isZeros ? 0 : right
    if (!(isOpen && seen === right)) same(what, seen, expected)
    else if (!isFault) shown.pages.delete(page)
  }
  return isFault ? 'zeros' : 'done'
}

const touchArguments = {
  shown: pick,
  page: pick,
  skew: pick,
  wasm: flag,
  write: fc.nat(255),
  writes: flag
}

pagedStep('touch a paged region', 60, touchArguments, (paged, args) => {
  const shown = choose(paged.shown, args.shown)
  if (!shown || shown.byteLength === 0) return null
  const page = args.page % Math.ceil(shown.byteLength / PAGE)
  const wasm = args.wasm && shown.isMapped
  const write = args.writes && shown.isPrivate ? args.write : undefined
  return {
    text: `${write === undefined ? 'read' : 'write'} page ${page} of a ${shown.kind} at ${shown.start}${wasm ? ' in Wasm' : ''}`,
    run: here => {
      const outcome = touch(paged, shown, page, args.skew, { wasm, write, here })
      return `touch a paged region: ${outcome}`
    }
  }
})

pagedStep('read all of a paged region', 10, { shown: pick, wasm: flag }, (paged, args) => {
  const shown = choose(paged.shown, args.shown)
  if (!shown || shown.byteLength === 0) return null
  const wasm = args.wasm && shown.isMapped
  return {
    text: `read all pages of a ${shown.kind} at ${shown.start}${wasm ? ' in Wasm' : ''}`,
    run: async () => {
      for (let page = 0; page * PAGE < shown.byteLength; page++) {
        touch(paged, shown, page, 0, { wasm, here: await paged.settle() })
        if (shown.pages.get(page) === ZEROS || (await paged.settle()) === undefined) continue
        const { at, length } = pageAt(shown, page)
        const chunk = Math.floor((shown.start + at) / CHUNK)
        if (paged.here[chunk] !== 2) continue
        const bytes = shown.isMapped ? Buffer.from(paged.guarded.memory.buffer) : shown.real
        const from = shown.isMapped ? shown.address + at : at
        const expected = shown.copies.get(page)?.bytes ?? paged.bytes(shown.start + at, length)
        const isRight = bytes.subarray(from, from + length).equals(expected)
        same(`page ${page} of a ${shown.kind} of ${paged.name} is right`, isRight, true)
      }
    }
  }
})

const askArguments = { ...partArguments, prefetch: flag }

pagedStep('ask for chunks', 8, askArguments, (paged, { prefetch, ...args }) => {
  if (paged.holds.length >= MOST.holds) return null
  const part = partOf(paged, args)
  const { real } = paged
  const first = Math.floor(part.byteOffset / CHUNK)
  const last = Math.floor((part.byteOffset + part.byteLength - 1) / CHUNK)
  const chunks = Array.from({ length: last - first + 1 }, (_, i) => first + i)
  return {
    text: `${prefetch ? 'prefetch' : 'ensure'} ${part.byteLength} bytes at ${part.byteOffset}`,
    run: async here => {
      const before = Int32Array.from(paged.failing)
      const fails = chunks.some(chunk => here[chunk] !== 2 && before[chunk] > 0)
      const [code, hold] = await codeOf(() => real.paging[prefetch ? 'prefetch' : 'ensure'](part))
      // One that was refused has more under way than what is awaited.
      if (code && !paged.closed) await paged.calm()
      // A chunk that gives way while others come is asked for again, and may fail.
      const isOpen = paged.cached && chunks.some(chunk => before[chunk] > 0)
      const expected = paged.closed
        ? 'ERR_HOSTMAP_REGION_CLOSED'
        : fails || (isOpen && code)
          ? 'ERR_HOSTMAP_PROVIDER_FAILED'
          : undefined
      same('code', code, expected)
      if (code) return 'ask for chunks: refused'
      if (prefetch) return 'ask for chunks: prefetched'
      paged.holds.push({ hold, chunks })
      // A system call finds all of it.
      const file = fs.openSync('/dev/null', 'w')
      const view = Buffer.from(real.view(part))
      same('bytes written', fs.writeSync(file, view), part.byteLength)
      fs.closeSync(file)
      same('bytes', view.equals(paged.bytes(part.byteOffset, part.byteLength)), true)
      return 'ask for chunks: held'
    }
  }
})

pagedStep('release chunks', 6, { hold: pick }, (paged, { hold: which }) => {
  const held = choose(paged.holds, which)
  if (!held) return null
  return {
    text: 'release chunks',
    run: () => {
      paged.holds.splice(paged.holds.indexOf(held), 1)
      held.hold.release()
      held.hold.release()
    }
  }
})

pagedStep('forget what shows a paged region', 4, { shown: pick }, (paged, { shown: which }) => {
  const shown = choose(paged.shown, which)
  if (!shown) return null
  return {
    text: `forget a ${shown.kind}`,
    run: () => {
      if (shown.isMapped) shown.real.unmap()
      paged.drop(shown)
    }
  }
})

pagedStep('close a paged region', 1, {}, paged => {
  // What is read ahead comes and goes meanwhile: what is left, nobody knows.
  if (paged.closed || paged.readAhead) return null
  return { text: 'close', run: () => paged.close() }
})

pagedStep('forget a paged region', 1, {}, (paged, _, world) => {
  if (!paged.closed) return null
  return {
    text: 'forget',
    run: async () => {
      world.paged.splice(world.paged.indexOf(paged), 1)
      await paged.end()
    }
  }
})

module.exports = { steps }
