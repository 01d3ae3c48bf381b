'use strict'

const fs = require('node:fs')
const fc = require('fast-check')
const { noise } = require('../../support/files')
const { Backing, Tally, View } = require('../model')
const { PAGE, HostRegion, hasGuard, same } = require('../world')
const {
  newSteps,
  MOST,
  byteLength,
  wrong,
  rarely,
  sometimes,
  pick,
  flag,
  choose,
  numberCodes,
  part,
  partOf,
  showPart
} = require('./arguments')
const { fdOf } = require('../../support/procfs.js')

const { steps, step } = newSteps()

function addRegion(world, real, { backing, offset = 0, byteLength, opened, kind }) {
  same('byteLength', real.byteLength, byteLength)
  same('backing', real.backing, kind)
  const region = {
    real,
    ref: new WeakRef(real),
    backing,
    offset,
    byteLength,
    opened,
    kind,
    closed: false
  }
  region.name = `region ${world.regions.length} of ${byteLength} bytes`
  region.region = region
  region.tally = new Tally()
  world.regions.push(region)
  return region
}

const memfd = (real, byteLength) =>
  new Backing(PAGE, byteLength, { memfd: true, inode: fs.fstatSync(fdOf(real)).ino })

const canAddRegion = world => world.regions.length < MOST.regions

step('allocate', 4, { byteLength, wrong: sometimes(wrong, 20) }, (world, { byteLength, wrong }) => {
  if (!canAddRegion(world)) return null
  const length = wrong ?? byteLength
  return {
    text: `allocate(${String(length)})`,
    documented: 'allocate',
    codes: numberCodes(length, 1, Number.MAX_SAFE_INTEGER),
    call: () => HostRegion.allocate(length),
    done: real =>
      addRegion(world, real, {
        backing: memfd(real, length),
        byteLength: length,
        opened: true,
        kind: 'memfd'
      })
  }
})

step(
  'copyFrom',
  6,
  { byteLength, seed: pick, empty: rarely },
  (world, { byteLength, seed, empty }) => {
    if (!canAddRegion(world)) return null
    const bytes = noise(empty ? 0 : byteLength, seed + 1)
    return {
      text: `copyFrom(${bytes.length} bytes)`,
      documented: 'allocate',
      codes: empty ? ['ERR_INVALID_ARG_VALUE'] : [],
      call: () => HostRegion.copyFrom(bytes),
      done: real => {
        const backing = memfd(real, byteLength)
        backing.write(0, bytes)
        addRegion(world, real, { backing, byteLength, opened: true, kind: 'memfd' })
      }
    }
  }
)

step(
  'open',
  6,
  { file: pick, ...part, writable: flag },
  (world, { file: which, writable, ...args }) => {
    const file = choose(world.files, which)
    if (!file || !canAddRegion(world)) return null
    const part = partOf(file.backing.size, args, PAGE)
    const { byteOffset, byteLength } = part
    return {
      text: `open(file of ${file.backing.size} bytes, ${showPart(part)}, writable ${writable})`,
      documented: 'open',
      codes: file.linked ? part.codes : ['ERR_HOSTMAP_OPEN_FAILED', ...part.codes],
      call: () => HostRegion.open(file.path, { byteOffset, byteLength, writable }),
      done: real => {
        const { start: offset, length } = part
        addRegion(world, real, {
          backing: file.backing,
          offset,
          byteLength: length,
          opened: writable,
          kind: 'file'
        })
      }
    }
  }
)

step('fromFd', 6, { region: pick, file: flag, readonly: flag, ...part }, (world, args) => {
  if (!canAddRegion(world)) return null
  const file = args.file ? choose(world.files, args.region) : undefined
  const region = file ? undefined : choose(world.regions, args.region)
  if (!file && !region?.real) return null
  const { backing, closed = false } = file ?? region
  const part = partOf(backing.size, args, PAGE)
  const { byteOffset, byteLength } = part
  // Of a region there is a duplicate; opened again by its name in /proc, it is one of its own.
  const reopen = args.readonly && !file && !closed
  const opened = file ? !args.readonly : reopen ? false : region.opened
  const given = file ? (opened ? file.fd : file.readonlyFd) : closed ? -1 : fdOf(region.real)
  return {
    text: `fromFd(${file ? 'file' : region.name}${opened ? '' : ' read-only'}, ${showPart(part)})`,
    documented: 'open',
    codes: closed ? ['ERR_OUT_OF_RANGE', ...part.codes] : part.codes,
    call: () => {
      if (!reopen) {
        return HostRegion.fromFd(given, { byteOffset, byteLength })
      }
      const fd = fs.openSync(`/proc/self/fd/${given}`, 'r')
      try {
        return HostRegion.fromFd(fd, { byteOffset, byteLength })
      } finally {
        fs.closeSync(fd)
      }
    },
    done: real => {
      const { start: offset, length } = part
      addRegion(world, real, {
        backing,
        offset,
        byteLength: length,
        opened,
        kind: backing.memfd ? 'memfd' : 'file'
      })
    }
  }
})

const shareArguments = {
  region: pick,
  access: fc.constantFrom(undefined, 'readonly', 'shared'),
  how: fc.constantFrom('once', 'once', 'twice', 'ended')
}

step('share and receive', 4, shareArguments, (world, { region: which, access, how }) => {
  const region = choose(world.regions, which)
  if (!canAddRegion(world) || !region?.real) return null
  const { real, backing, offset, byteLength, opened, closed, kind } = region
  const writable = opened && !backing.sealed
  const codes = []
  // What a file that got shorter since still has of the region, the receiver may be told.
  if (closed) codes.push('ERR_HOSTMAP_REGION_CLOSED')
  else if (access === 'shared' && !writable) codes.push('ERR_HOSTMAP_REGION_READONLY')
  else if (how !== 'once') codes.push(`ERR_HOSTMAP_SHARE_${how === 'twice' ? 'USED' : 'CLOSED'}`)
  const isWhole = offset + byteLength <= backing.size
  let first
  return {
    text: `share ${region.name}, ${access}, and receive it ${how}`,
    documented: 'share',
    codes,
    maybe: isWhole ? [] : ['ERR_HOSTMAP_FILE_SHRUNK', 'ERR_HOSTMAP_SHARE_INVALID'],
    call: () => {
      const token = JSON.parse(JSON.stringify(real.share({ access })))
      try {
        if (how === 'ended') same('unshare', HostRegion.unshare(token), true)
        else first = HostRegion.receive(token)
        return how === 'once' ? first : HostRegion.receive(token)
      } catch (error) {
        first?.close()
        HostRegion.unshare(token)
        throw error
      }
    },
    done: received =>
      addRegion(world, received, {
        backing,
        offset,
        byteLength,
        opened: access === 'readonly' ? false : writable,
        kind
      })
  }
})

step('load', 2, { file: pick, ...part }, (world, { file: which, ...args }) => {
  const file = choose(world.files, which)
  if (!file || !canAddRegion(world)) return null
  const part = partOf(file.backing.size, args, 1)
  const { byteOffset, byteLength } = part
  return {
    text: `load(file of ${file.backing.size} bytes, ${showPart(part)})`,
    documented: 'load',
    codes: file.linked ? part.codes : ['ERR_HOSTMAP_OPEN_FAILED', ...part.codes],
    call: () => HostRegion.load(file.path, { byteOffset, byteLength }),
    done: real => {
      const { start, length } = part
      const backing = memfd(real, length)
      backing.write(0, file.backing.bytes.subarray(start, start + length))
      addRegion(world, real, { backing, byteLength: length, opened: true, kind: 'memfd' })
    }
  }
})

step('view', 10, { region: pick, ...part }, (world, { region: which, ...args }) => {
  const region = choose(world.regions, which)
  if (!region?.real || world.views.length >= MOST.views) return null
  const { backing, offset, real } = region
  const part = partOf(region.byteLength, args, 1)
  const codes = [...part.codes]
  if (region.closed) codes.push('ERR_HOSTMAP_REGION_CLOSED')
  if (part.codes.length === 0 && offset + part.start + part.length > backing.size) {
    codes.push('ERR_HOSTMAP_FILE_SHRUNK')
  }
  return {
    text: `view of ${region.name}, ${showPart(part)}`,
    documented: 'view',
    codes,
    call: () => real.view(part.byteOffset, part.byteLength),
    done: buffer => {
      const { start, length } = part
      same('length of the view', buffer.byteLength, length)
      const sharing =
        region.opened && !backing.sealed ? 'shared' : hasGuard ? 'readonly' : 'private'
      const model = new View(backing, offset + start, length, sharing, region.tally)
      model.window.region = region
      world.windows.push(model.window)
      world.views.push({ model, region, buffer, bytes: Buffer.from(buffer) })
    }
  }
})

const ACCESSES = ['private', 'private', 'readonly', 'shared']
const bytesArguments = { region: pick, ...part, access: fc.constantFrom(undefined, ...ACCESSES) }

step('bytes', 10, bytesArguments, (world, { region: which, access, ...args }) => {
  const region = choose(world.regions, which)
  if (!region?.real || world.views.length >= MOST.views) return null
  const { backing, offset, real } = region
  const part = partOf(region.byteLength, args, 1)
  // It takes empty parts, which no other call does.
  if (part.byteLength === 0 || part.byteOffset === region.byteLength) return null
  const codes = [...part.codes]
  if (region.closed) codes.push('ERR_HOSTMAP_REGION_CLOSED')
  if (access === 'shared' && (!region.opened || backing.sealed)) {
    codes.push('ERR_HOSTMAP_REGION_READONLY')
  }
  if (part.codes.length === 0 && offset + part.start + part.length > backing.size) {
    codes.push('ERR_HOSTMAP_FILE_SHRUNK')
  }
  const { byteOffset, byteLength } = part
  return {
    text: `bytes of ${region.name}, ${showPart(part)}, ${access}`,
    documented: 'view',
    codes,
    call: () => real.bytes({ byteOffset, byteLength, access }),
    done: bytes => {
      const { start, length } = part
      same('length of the bytes', bytes.buffer.byteLength, length)
      same('offset of the bytes', bytes.byteOffset, 0)
      const sharing = access === 'readonly' && !hasGuard ? 'private' : (access ?? 'private')
      const model = new View(backing, offset + start, length, sharing, region.tally)
      model.window.region = region
      world.windows.push(model.window)
      world.views.push({ model, region, buffer: bytes.buffer, bytes, kept: true })
    }
  }
})

const isShared = ({ sharing }) => sharing === 'shared'

step('seal', 2, { region: pick }, (world, { region: which }) => {
  const region = choose(world.regions, which)
  if (!region?.real) return null
  const { backing, real, closed, opened } = region
  const codes = []
  const maybe = []
  if (closed) codes.push('ERR_HOSTMAP_REGION_CLOSED')
  else if (!backing.sealed) {
    if (!backing.memfd || !opened) codes.push('ERR_HOSTMAP_REGION_READONLY')
    const others = Array.from(backing.windows).filter(
      window => isShared(window) && window.region !== region
    )
    if (others.length > 0) codes.push('ERR_HOSTMAP_REGION_BUSY')
    if (backing.maybeInUse) maybe.push('ERR_HOSTMAP_REGION_BUSY')
  }
  const turn = sharing => {
    for (const { model, region: owner } of world.views) {
      if (owner === region && isShared(model.window)) model.window.turn(sharing)
    }
  }
  return {
    text: `seal ${region.name}`,
    documented: 'seal',
    codes,
    maybe,
    call: () => real.seal(),
    done: () => {
      if (backing.sealed) return
      backing.sealed = true
      turn(hasGuard ? 'readonly' : 'private')
    },
    failed: ({ code }, wentOff) => {
      if (code === 'ERR_HOSTMAP_REGION_CLOSED') return
      // They were turned, and turned back: what zeros had replaced is there again.
      turn('shared')
      // Where that failed too, they stay read-only.
      if (wentOff && codes.concat(maybe).includes(code)) forgetViews(world, region)
    }
  }
})

function forgetViews(world, region) {
  for (const view of world.views.filter(view => view.region === region)) {
    view.model.window.remove()
    world.views.splice(world.views.indexOf(view), 1)
  }
  region.backing.maybeInUse = true
}

/** Takes its pages from the Buffers of `bytes`, too, or from views alone. */
function detach(world, region, all) {
  const isDetached = view => view.region === region && (all || !view.kept)
  for (const view of world.views.filter(isDetached)) {
    view.model.window.remove()
    world.views.splice(world.views.indexOf(view), 1)
    same(`length of a view of ${region.name} after close`, view.buffer.byteLength, 0)
  }
}

const closeArguments = { region: pick, views: fc.constantFrom(undefined, 'detach', 'keep') }

step('close', 3, closeArguments, (world, { region: which, views }) => {
  const region = choose(world.regions, which)
  if (!region?.real) return null
  return {
    text: `close ${region.name}, views ${views}`,
    documented: 'close',
    call: () => region.real.close(views === undefined ? undefined : { views }),
    done: () => {
      const isAgain = region.closed
      region.closed = true
      for (const publication of world.publications)
        if (publication.region === region) publication.current = false
      if (views === 'keep' || (isAgain && views === undefined)) return
      // Where the kernel refused to replace a view's pages, they stay until it is collected.
      if (world.injects) region.backing.maybeInUse = true
      detach(world, region, views === 'detach')
    }
  }
})

step('forget a region', 3, { region: pick }, (world, { region: which }) => {
  const region = choose(world.regions, which)
  if (!region) return null
  return {
    text: `forget ${region.name}`,
    run: () => {
      world.regions.splice(world.regions.indexOf(region), 1)
      region.real = undefined
    }
  }
})

step('forget a view', 4, { view: pick }, (world, { view: which }) => {
  const view = choose(world.views, which)
  if (!view) return null
  return {
    text: `forget a view of ${view.region.name}`,
    run: () => {
      world.views.splice(world.views.indexOf(view), 1)
      view.model.window.remove()
      if (isShared(view.model.window)) view.region.backing.maybeInUse = true
    }
  }
})

module.exports = { steps, addRegion, memfd, canAddRegion }
