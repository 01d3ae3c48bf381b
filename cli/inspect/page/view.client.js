// The page round the drawing: what is in view, what is selected, the list and its search. All that
// is shown is written as text.

const MOST_LISTED = 500

const byId = id => document.getElementById(id)

function element(name, text, ...children) {
  const made = document.createElement(name)
  if (text !== undefined) made.textContent = text
  made.append(...children)
  return made
}

function button(text, press) {
  const made = element('button', text)
  made.type = 'button'
  made.addEventListener('click', press)
  return made
}

class Page {
  #model
  #strip
  #view
  #selected
  #isDue = false

  constructor(data) {
    this.#model = new Model(data)
    this.#strip = new Strip(byId('canvas'), this.#model)
    this.#view = { ...this.#model.whole }
    this.#head(data)
    this.#legend()
    this.#listen()
    this.#list('')
    this.#select(undefined)
    this.#show()
  }

  #head({ runtime, resident, threads, hostmap }) {
    const words = [
      runtime,
      ...(resident === null
        ? []
        : [
            `${formatBytes(resident.residentBytes)} in memory`,
            `${formatBytes(resident.proportionalBytes)} of it this process's share`
          ]),
      threads.length === 0 ? 'seen from outside' : `with what thread ${threads.join(', ')} said`,
      `wasm-hostmap ${hostmap}`
    ]
    byId('summary').textContent = words.join('; ')
  }

  #legend() {
    for (const [name, words] of Object.entries(COLOUR_WORDS)) {
      const mark = element('span')
      mark.style.background = `var(--${name})`
      byId('legend').append(element('li', undefined, mark, words))
    }
  }

  // What is in view.

  #go(start, end) {
    const { whole, pageBytes } = this.#model
    const span = Math.min(Math.max(end - start, pageBytes), whole.end - whole.start)
    let from = (start + end - span) / 2
    // One page is shown as such.
    if (span === pageBytes) from = Math.floor((start + end) / 2 / pageBytes) * pageBytes
    from = Math.min(Math.max(from, whole.start), whole.end - span)
    this.#view = { start: from, end: from + span }
    this.#show()
  }

  /** `factor` below 1 zooms in; `at` is what stays where it is, from 0 to 1. */
  #zoom(factor, at = 0.5) {
    const { start, end } = this.#view
    const address = start + (end - start) * at
    const span = (end - start) * factor
    this.#go(address - span * at, address + span * (1 - at))
  }

  #move(share) {
    const { start, end } = this.#view
    const by = (end - start) * share
    this.#go(start + by, end + by)
  }

  #whole() {
    this.#go(this.#model.whole.start, this.#model.whole.end)
  }

  /** A thing with a little of what is beside it. */
  #goTo({ start, end }) {
    const margin = (end - start) * 0.02
    this.#go(start - margin, end + margin)
  }

  /** To the innermost thing that has more than what is in view. */
  #up() {
    const { start, end } = this.#view
    const larger = this.#model
      .chainOf(this.#view)
      .filter(it => it.end - it.start > (end - start) * 1.05)
      .at(-1)
    if (larger === undefined) this.#whole()
    else this.#goTo(larger)
  }

  #show() {
    if (this.#isDue) return
    this.#isDue = true
    requestAnimationFrame(() => {
      this.#isDue = false
      this.#strip.draw(this.#view, this.#selected)
      this.#crumbs()
      const { start, end } = this.#view
      const words = `${hex(Math.round(start))} to ${hex(Math.round(end))}: ${formatBytes(Math.round(end - start))} in view`
      byId('range').textContent = words
      byId('strip').setAttribute('aria-label', `Address space, ${words}`)
    })
  }

  #crumbs() {
    const chain = this.#model.chainOf(this.#view)
    const items = [
      ['Address space', () => this.#whole()],
      ...chain.map(it => [it.name, () => this.#goTo(it)])
    ]
    const crumbs = byId('crumbs')
    // The focus stays where it is while nothing changes.
    const key = JSON.stringify(items.map(([name]) => name))
    if (crumbs.dataset.key === key) return
    crumbs.dataset.key = key
    crumbs.replaceChildren(
      ...items.map(([name, press], i) => {
        const made = button(name, press)
        if (i === items.length - 1) made.setAttribute('aria-current', 'location')
        return element('li', undefined, made)
      })
    )
  }

  // What is selected.

  #select(thing) {
    this.#selected = thing
    const panel = byId('detail')
    if (thing === undefined) {
      panel.replaceChildren(
        element('h2', 'Nothing is selected'),
        element('p', 'Click on the map or on an entry of the list.')
      )
      return
    }
    const terms = element('dl')
    for (const [term, words] of factsOf(thing, this.#model.pageBytes)) {
      terms.append(element('dt', term), element('dd', words))
    }
    panel.replaceChildren(element('h2', thing.name), terms)
    if (thing.start !== undefined) panel.append(button('Zoom to it', () => this.#goTo(thing)))
    const places = thing.places ?? []
    if (places.length > 1) {
      panel.append(element('p', 'It is mapped at:'))
      for (const place of places.slice(0, 50)) {
        panel.append(
          button(hex(place.start), () => this.#goTo(place)),
          ' '
        )
      }
    }
    this.#show()
  }

  /** The next or last thing in view, from what is selected. */
  #step(by) {
    const { start, end } = this.#view
    const { memories, mappings, entries } = this.#model
    const inView = [...memories, ...mappings, ...entries]
      .filter(it => it.start < end && it.end > start)
      .sort((a, b) => a.start - b.start || b.end - a.end)
    if (inView.length === 0) return
    const now = inView.indexOf(this.#selected)
    const next = now < 0 ? (by > 0 ? 0 : inView.length - 1) : now + by
    this.#select(inView[Math.min(Math.max(next, 0), inView.length - 1)])
  }

  // The list.

  #list(search) {
    const words = search.toLowerCase().split(/\s+/).filter(Boolean)
    const found = this.#model.listed.filter(it => {
      const text = `${it.name} ${it.type} ${it.kind ?? ''} ${it.start === undefined ? '' : hex(it.start)} ${it.mapping?.kind ?? ''}`
      return words.every(word => text.toLowerCase().includes(word)) || holdsAddress(it, search)
    })
    byId('count').textContent =
      `${found.length} found` +
      (found.length > MOST_LISTED ? `, the first ${MOST_LISTED} are listed` : '')
    byId('list').replaceChildren(
      ...found.slice(0, MOST_LISTED).map(thing => {
        const made = button(thing.name, () => {
          if (thing.start !== undefined) this.#goTo(thing)
          this.#select(thing)
        })
        made.append(element('small', this.#smallOf(thing)))
        const item = element('li', undefined, made)
        item.dataset.depth = thing.type === 'mapping' ? '1' : '0'
        item.dataset.type = thing.type
        return item
      })
    )
  }

  #smallOf(thing) {
    const kind =
      thing.type === 'entry'
        ? KIND_WORDS[thing.kind]
        : (thing.mapping?.kind ?? (thing.type === 'mapping' ? 'mapping or window' : thing.type))
    const where =
      thing.start === undefined
        ? ''
        : `, ${hex(thing.start)}, ${formatBytes(thing.end - thing.start)}`
    return `${kind}${where}`
  }

  // Input.

  #listen() {
    const strip = byId('strip')
    const press = {
      in: () => this.#zoom(0.5),
      out: () => this.#zoom(2),
      left: () => this.#move(-0.25)
    }
    press.right = () => this.#move(0.25)
    press.whole = () => this.#whole()
    for (const [id, what] of Object.entries(press)) byId(id).addEventListener('click', what)
    byId('search').addEventListener('input', event => this.#list(event.target.value))
    strip.addEventListener('keydown', event => this.#key(event))
    strip.addEventListener(
      'wheel',
      event => {
        event.preventDefault()
        if (Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
          this.#move(event.deltaX / Math.max(1, this.#strip.width))
          return
        }
        // A notch is about a hundred, a touchpad sends many small ones.
        const by = Math.min(Math.max(event.deltaY, -400), 400)
        this.#zoom(2 ** (by / 120), this.#shareOf(event))
      },
      { passive: false }
    )
    this.#listenToPointers(strip)
    strip.addEventListener('dblclick', event => {
      const thing = this.#model.thingAt(this.#addressOf(event))
      if (thing !== undefined) this.#goTo(thing)
    })
    new ResizeObserver(() => this.#show()).observe(strip)
    window.matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => {
      this.#strip.readColours()
      this.#show()
    })
  }

  /** One drags, two pinch; a press that does not move selects. */
  #listenToPointers(strip) {
    const down = new Map()
    let moved = false
    strip.addEventListener('pointerdown', event => {
      strip.setPointerCapture(event.pointerId)
      down.set(event.pointerId, event)
      moved = false
    })
    strip.addEventListener('pointermove', event => {
      const before = down.get(event.pointerId)
      if (before === undefined) {
        this.#tip(event)
        return
      }
      const others = [...down.values()].filter(it => it.pointerId !== event.pointerId)
      if (others.length === 1) {
        const [other] = others
        const apart = it => Math.max(8, Math.abs(it.clientX - other.clientX))
        const middle = { clientX: (event.clientX + other.clientX) / 2 }
        this.#zoom(apart(before) / apart(event), this.#shareOf(middle))
        moved = true
      } else if (Math.abs(event.clientX - before.clientX) > (moved ? 0 : 4)) {
        this.#move((before.clientX - event.clientX) / Math.max(1, this.#strip.width))
        moved = true
      } else return
      down.set(event.pointerId, event)
    })
    const up = event => {
      if (down.delete(event.pointerId) && !moved && event.type === 'pointerup') {
        this.#select(this.#model.thingAt(this.#addressOf(event)))
        this.#show()
      }
    }
    strip.addEventListener('pointerup', up)
    strip.addEventListener('pointercancel', up)
    strip.addEventListener('pointerleave', () => {
      byId('tip').hidden = true
    })
  }

  #shareOf({ clientX }) {
    const { left, width } = byId('strip').getBoundingClientRect()
    return Math.min(Math.max((clientX - left) / width, 0), 1)
  }

  #addressOf(event) {
    const { start, end } = this.#view
    return start + (end - start) * this.#shareOf(event)
  }

  #tip(event) {
    const tip = byId('tip')
    const address = this.#addressOf(event)
    const thing = this.#model.thingAt(address)
    const share = this.#shareOf(event)
    const at = hex(Math.floor(address / this.#model.pageBytes) * this.#model.pageBytes)
    tip.textContent = thing === undefined ? `${at}: nothing is mapped` : `${at}: ${thing.name}`
    tip.hidden = false
    tip.style.insetBlockStart = '2px'
    tip.style.insetInlineStart = share < 0.5 ? `calc(${share * 100}% + 12px)` : 'auto'
    tip.style.insetInlineEnd = share < 0.5 ? 'auto' : `calc(${(1 - share) * 100}% + 12px)`
  }

  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return
    const keys = {
      '+': () => this.#zoom(0.5),
      '=': () => this.#zoom(0.5),
      '-': () => this.#zoom(2),
      ArrowLeft: () => this.#move(-0.25),
      ArrowRight: () => this.#move(0.25),
      Home: () => this.#whole(),
      Backspace: () => this.#up(),
      PageDown: () => this.#step(1),
      PageUp: () => this.#step(-1),
      Enter: () => {
        if (this.#selected?.start !== undefined) this.#goTo(this.#selected)
      }
    }
    const act = Object.hasOwn(keys, event.key) ? keys[event.key] : undefined
    if (act === undefined) return
    event.preventDefault()
    act()
  }
}

function holdsAddress({ start, end }, text) {
  if (start === undefined || !/^0x[0-9a-f]{3,}$/i.test(text.trim())) return false
  const address = Number(text.trim())
  return start <= address && address < end
}

new Page(JSON.parse(byId('data').textContent))
