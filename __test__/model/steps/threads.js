'use strict'

// What a worker does in a shared memory, while this thread waits for it.

const { Difference, same } = require('../world')
const { newSteps, rarely, pick, flag, choose } = require('./arguments')
const { growth, guestGrowth, mayGrow } = require('./memories')
const {
  addMapping,
  addressOf,
  addressCodes,
  at,
  canMap,
  mapArguments,
  mappingOf,
  requestOf,
  showRequest
} = require('./mappings')
const { fdOf } = require('../../support/procfs.js')

const { steps, step } = newSteps()

const sharedMemory = (world, which) =>
  choose(
    world.memories.filter(({ onThread }) => onThread),
    which
  )

/** What the worker answers is an error with one of these codes, or none is to be. */
function checkCode(text, { error }, codes) {
  if (error ? !codes.includes(error.code) : codes.length > 0) {
    throw new Difference(
      `${text}: ${error?.stack ?? 'no error'}\nand in the model ${codes.join(' or ') || 'no error'}`
    )
  }
}

/** After a call that failed: whether it has protected what was unprotected is left open. */
async function resync(world, memory) {
  await world.thread.do('from', { id: memory.id })
  memory.model.protect()
}

step('share with the worker', 6, { memory: pick }, (world, { memory: which }) => {
  const memory = choose(
    world.memories.filter(({ shared, onThread }) => shared && !onThread),
    which
  )
  if (!memory) return null
  const { id, guest, address } = memory
  return {
    text: `share ${memory.name} with the worker`,
    run: async () => {
      const thread = world.startThread()
      const answer = await thread.do('attach', {
        id,
        memory: guest.memory,
        type: { address, shared: true }
      })
      checkCode('attach', answer, [])
      memory.onThread = true
      // Nothing is there that proves whose free space it is: see src/memory/mod.rs.
      if (memory.model.mappings.length === 0) memory.model.forgetFree()
      memory.model.protect()
    }
  }
})

step('map in the worker', 12, { ...mapArguments, at, sane: flag, close: flag }, (world, args) => {
  const memory = sharedMemory(world, args.memory)
  const request = requestOf(world, { ...args, wrong: null })
  if (!canMap(memory) || !request || request.region.closed) return null
  const { region, options } = request
  const address = addressOf(memory, request.pages, args.at)
  // All is known there, whatever is known here.
  const codes = [
    ...request.codes,
    ...addressCodes({ ...memory, hidden: false }, address, request.pages)
  ]
  const { offset, byteLength } = region
  const text = `map ${region.name} at ${String(address)} of ${memory.name} in the worker, ${showRequest(request)}`
  // What is left of a file that got shorter is less than the region.
  const gone = offset + byteLength > region.backing.size
  return {
    text,
    run: async () => {
      const mapping = { id: world.newMappingId(), region }
      const answer = await world.thread.do('map', {
        id: memory.id,
        mapping: mapping.id,
        fd: region.closed ? -1 : fdOf(region.real),
        part: { byteOffset: offset, byteLength },
        close: args.close,
        options: { ...options, at: address }
      })
      if (gone && answer.error?.code !== undefined)
        codes.push('ERR_OUT_OF_RANGE', 'ERR_HOSTMAP_EMPTY_FILE')
      checkCode(text, answer, codes)
      if (answer.error) {
        await resync(world, memory)
        return 'map in the worker: refused'
      }
      same('address', answer.address, Number(address))
      addMapping(world, memory, answer.address, request, {
        thread: 'worker',
        ...mapping,
        regionClosed: args.close
      })
    }
  }
})

step('unmap in the worker', 8, { memory: pick, mapping: pick }, (world, args) => {
  const memory = sharedMemory(world, args.memory)
  const mapping = memory && mappingOf(memory, args.mapping, 'worker')
  if (!mapping) return null
  return {
    text: `unmap ${mapping.name} in the worker`,
    run: async () => {
      checkCode('unmap', await world.thread.do('unmap', { id: memory.id, mapping: mapping.id }), [])
      memory.model.protect()
      memory.model.unmap(mapping)
    }
  }
})

step(
  'grow in the worker',
  3,
  { memory: pick, wasmPages: growth },
  (world, { memory: which, wasmPages }) => {
    const memory = sharedMemory(world, which)
    if (
      !memory ||
      !Number.isSafeInteger(wasmPages) ||
      wasmPages < 0 ||
      !mayGrow(memory.model, wasmPages)
    )
      return null
    const { model } = memory
    const fits = wasmPages <= model.maximum - model.wasmPages
    if (fits && wasmPages > 65536) return null
    return {
      text: `${memory.name}.grow(${wasmPages}) in the worker`,
      run: async () => {
        const answer = await world.thread.do('grow', { id: memory.id, wasmPages })
        checkCode('grow', answer, fits ? [] : ['ERR_HOSTMAP_MEMORY_FULL'])
        if (!fits) {
          await resync(world, memory)
          return 'grow in the worker: refused'
        }
        same('grow', answer.was, model.wasmPages)
        model.grow(wasmPages)
        if (memory.hidden) memory.known = model.byteLength
        model.protect()
      }
    }
  }
)

step('grow by the module in the worker', 3, { memory: pick, wasmPages: growth }, (world, args) => {
  const memory = sharedMemory(world, args.memory)
  const { wasmPages } = args
  if (
    !memory ||
    !Number.isSafeInteger(wasmPages) ||
    wasmPages < 0 ||
    !mayGrow(memory.model, wasmPages)
  )
    return null
  return guestGrowth(memory, wasmPages, 'the module in the worker', async () => {
    const { was } = await world.thread.do('guestGrow', { id: memory.id, wasmPages })
    return was
  })
})

step('from in the worker', 3, { memory: pick }, (world, { memory: which }) => {
  const memory = sharedMemory(world, which)
  if (!memory) return null
  return {
    text: `from(${memory.name}) in the worker`,
    run: async () => {
      const { same: isSame, byteLength } = await world.thread.do('from', { id: memory.id })
      same('from gives the same object', isSame, true)
      same('byteLength', byteLength, memory.model.byteLength)
      memory.model.protect()
    }
  }
})

step('layout in the worker', 2, { memory: pick }, (world, { memory: which }) => {
  const memory = sharedMemory(world, which)
  if (!memory) return null
  return {
    text: `layout of ${memory.name} in the worker`,
    run: () => world.compareLayoutOnThread(memory)
  }
})

step('collect in the worker', 1, {}, world => {
  if (!world.thread) return null
  return { text: 'collect in the worker', run: async () => void (await world.thread.do('collect')) }
})

step('end the worker', 1, { now: rarely, really: rarely }, (world, { now, really }) => {
  // It takes as long as hundreds of steps to start another one.
  if (!world.thread || !now || !really) return null
  return { text: 'end the worker', run: () => world.endThread() }
})

// Garbage.

step('collect', 2, { turns: pick, really: flag }, (world, { turns, really }) => {
  if (!really || typeof globalThis.gc !== 'function') return null
  return {
    text: 'collect garbage',
    run: async () => {
      globalThis.gc()
      for (let i = 0; i < turns % 3; i++) await new Promise(resolve => setImmediate(resolve))
    }
  }
})

module.exports = { steps }
