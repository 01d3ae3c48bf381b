// The drawing: a range of the address space on a canvas, to scale. What is smaller than a line is
// drawn as a line, so that nothing disappears.

const LEAST_PIXELS = 2
const LANES = { ruler: [0, 24], reservation: [44, 70], entry: [90, 164], resident: [184, 258] }
const LANE_WORDS = {
  reservation: 'memories, and what is mapped into them',
  entry: "the process's map",
  resident: 'in memory, of each page'
}

class Strip {
  #canvas
  #model
  #colours = {}

  constructor(canvas, model) {
    this.#canvas = canvas
    this.#model = model
    this.readColours()
  }

  readColours() {
    const style = getComputedStyle(document.documentElement)
    for (const name of ['ground', 'ink', 'soft', 'line', 'focus', ...Object.keys(COLOUR_WORDS)]) {
      this.#colours[name] = style.getPropertyValue(`--${name}`).trim()
    }
  }

  get width() {
    return this.#canvas.clientWidth
  }

  /** `view`: the range that is drawn; `selected` is framed. */
  draw(view, selected) {
    const canvas = this.#canvas
    const scale = window.devicePixelRatio || 1
    canvas.width = Math.round(canvas.clientWidth * scale)
    canvas.height = Math.round(canvas.clientHeight * scale)
    const pen = canvas.getContext('2d')
    pen.setTransform(scale, 0, 0, scale, 0, 0)
    pen.fillStyle = this.#colours.ground
    pen.fillRect(0, 0, canvas.clientWidth, canvas.clientHeight)
    this.#ruler(pen, view)
    this.#lanes(pen)
    this.#reservations(pen, view)
    this.#entries(pen, view)
    this.#resident(pen, view)
    if (selected?.start !== undefined) this.#frame(pen, view, selected)
  }

  #x(view, address) {
    return ((address - view.start) / (view.end - view.start)) * this.width
  }

  /** Where a thing is on the canvas, cut to it; undefined where it is not in view. */
  #spanOf(view, { start, end }) {
    if (end <= view.start || start >= view.end) return undefined
    const from = Math.max(0, this.#x(view, start))
    const to = Math.min(this.width, this.#x(view, end))
    return { from, width: Math.max(LEAST_PIXELS, to - from) }
  }

  #ruler(pen, view) {
    const span = view.end - view.start
    const least = (span * 130) / Math.max(1, this.width)
    const step = 2 ** Math.ceil(Math.log2(least))
    const [top, bottom] = LANES.ruler
    pen.font = '12px system-ui, sans-serif'
    pen.textBaseline = 'middle'
    pen.fillStyle = this.#colours.soft
    pen.strokeStyle = this.#colours.line
    for (let at = Math.ceil(view.start / step) * step; at < view.end; at += step) {
      const x = this.#x(view, at)
      pen.beginPath()
      pen.moveTo(x, bottom - 6)
      pen.lineTo(x, bottom)
      pen.stroke()
      const text = hex(at)
      const width = pen.measureText(text).width
      pen.fillText(text, Math.min(Math.max(2, x - width / 2), this.width - width - 2), top + 10)
    }
  }

  #lanes(pen) {
    pen.fillStyle = this.#colours.soft
    for (const [lane, words] of Object.entries(LANE_WORDS)) {
      pen.fillText(words, 5, LANES[lane][0] - 8)
    }
  }

  #reservations(pen, view) {
    const { reservations } = this.#model
    const [top, bottom] = LANES.reservation
    for (let i = firstAfter(reservations, view.start); reservations[i]?.start < view.end; i++) {
      const { thing } = reservations[i]
      this.#hatched(pen, this.#spanOf(view, reservations[i]), top, bottom)
      const own = this.#spanOf(view, thing)
      if (own !== undefined) this.#block(pen, own, top, bottom, 'memory', thing.name)
      for (const child of thing.children) {
        const at = this.#spanOf(view, child)
        if (at !== undefined) this.#block(pen, at, top, bottom, 'region', child.name)
      }
    }
  }

  #hatched(pen, { from, width }, top, bottom) {
    pen.fillStyle = this.#colours.guard
    pen.fillRect(from, top, width, bottom - top)
    if (width < 8) return
    pen.save()
    pen.beginPath()
    pen.rect(from, top, width, bottom - top)
    pen.clip()
    pen.strokeStyle = this.#colours.line
    pen.beginPath()
    for (let x = from - (bottom - top); x < from + width; x += 7) {
      pen.moveTo(x, bottom)
      pen.lineTo(x + bottom - top, top)
    }
    pen.stroke()
    pen.restore()
  }

  #block(pen, { from, width }, top, bottom, kind, label) {
    pen.fillStyle = this.#colours[kind]
    pen.fillRect(from, top, width, bottom - top)
    if (width > 4) {
      pen.strokeStyle = this.#colours.ground
      pen.strokeRect(from + 0.5, top + 0.5, width - 1, bottom - top - 1)
    }
    if (width > 44) this.#label(pen, label, from, width, (top + bottom) / 2)
  }

  #label(pen, text, from, width, middle) {
    pen.save()
    pen.beginPath()
    pen.rect(from, 0, width - 4, 400)
    pen.clip()
    pen.font = '12px system-ui, sans-serif'
    pen.textBaseline = 'middle'
    // On any colour: the ground behind the ink.
    pen.lineWidth = 3
    pen.strokeStyle = this.#colours.ground
    pen.fillStyle = this.#colours.ink
    pen.strokeText(text, from + 5, middle)
    pen.fillText(text, from + 5, middle)
    pen.restore()
  }

  /** Small ones that would be under one another: the first of those that matter more is on top. */
  #entries(pen, view) {
    const { entries } = this.#model
    const [top, bottom] = LANES.entry
    const later = []
    // Lines of one kind at one place look like one, and a process may have thousands.
    const lines = new Set()
    for (let i = firstAfter(entries, view.start); entries[i]?.start < view.end; i++) {
      const thing = entries[i]
      const at = this.#spanOf(view, thing)
      if (at.width <= LEAST_PIXELS) {
        const line = `${thing.kind} ${Math.floor(at.from)}`
        if (lines.has(line)) continue
        lines.add(line)
      }
      if (thing.kind === 'reserved') this.#hatched(pen, at, top, bottom)
      else later.push([thing, at])
    }
    later.sort(([a], [b]) => ORDER.indexOf(a.kind) - ORDER.indexOf(b.kind))
    for (const [thing, at] of later) this.#block(pen, at, top, bottom, thing.kind, thing.name)
  }

  #resident(pen, view) {
    const { entries, pageBytes } = this.#model
    const [top, bottom] = LANES.resident
    const height = bottom - top
    const perPixel = (view.end - view.start) / Math.max(1, this.width)
    // Pages that have room are drawn one by one, and all others by the column.
    const step = Math.max(pageBytes, perPixel * LEAST_PIXELS)
    pen.strokeStyle = this.#colours.line
    pen.strokeRect(0.5, top + 0.5, this.width - 1, height)
    // Of entries at one place, the fullest shows.
    const fullest = new Map()
    for (let i = firstAfter(entries, view.start); entries[i]?.start < view.end; i++) {
      const { entry } = entries[i]
      if (entry.residentBytes === 0 && entry.swappedBytes === 0) continue
      if (entry.end - entry.start < perPixel) {
        const place = Math.floor(this.#x(view, entry.start))
        const fill = (entry.residentBytes + entry.swappedBytes) / (entry.end - entry.start)
        if (fullest.get(place) >= fill) continue
        fullest.set(place, fill)
      }
      const from = Math.max(entry.start, view.start - step)
      const end = Math.min(entry.end, view.end + step)
      // From a border of pages on.
      let at = entry.start + Math.floor((from - entry.start) / step) * step
      for (; at < end; at += step) {
        const to = Math.min(at + step, entry.end)
        const found = residentIn(entry, at, to, pageBytes)
        if (found !== null) this.#column(pen, view, at, to, found, bottom, height)
      }
    }
  }

  #column(pen, view, start, end, found, bottom, height) {
    const at = this.#spanOf(view, { start, end })
    if (at === undefined) return
    let y = bottom
    for (const kind of ['own', 'shared', 'swapped']) {
      if (found[kind] === 0) continue
      // Something is never nothing.
      const tall = Math.max(2, (found[kind] / (end - start)) * height)
      pen.fillStyle = this.#colours[kind]
      pen.fillRect(
        at.from,
        Math.max(bottom - height, y - tall),
        at.width > 6 ? at.width - 1 : at.width,
        tall
      )
      y -= tall
    }
  }

  #frame(pen, view, selected) {
    const at = this.#spanOf(view, selected)
    if (at === undefined) return
    pen.strokeStyle = this.#colours.focus
    pen.lineWidth = 2
    pen.strokeRect(
      at.from + 1,
      LANES.reservation[0] - 1,
      Math.max(2, at.width - 2),
      LANES.resident[1] - LANES.reservation[0] + 2
    )
    pen.lineWidth = 1
  }
}

const ORDER = ['file', 'anonymous', 'stack', 'memory', 'snapshot', 'region']

const COLOUR_WORDS = {
  memory: 'a memory',
  region: 'a region in it, or elsewhere',
  snapshot: 'pages of a snapshot',
  guard: 'reserved, not accessible',
  anonymous: 'heaps, buffers, threads',
  file: 'the program, its libraries',
  stack: 'the stack',
  own: 'in memory: own pages',
  shared: "in memory: a file's or shared",
  swapped: 'swapped out'
}
