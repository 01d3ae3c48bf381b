// The drawing of rooms and arrows in ARCHITECTURE.md: Mermaid, and the same as a list with numbers.

import { reduced } from './graph.mjs'

const plural = (count, noun) => `${count} ${noun}${count === 1 ? '' : 's'}`

/** The arrows between rooms: a `Map` of room to a `Map` of room to the number between files. */
export function roomArrows(rooms, arrows, roomOf) {
  const between = new Map(rooms.map(room => [room, new Map()]))
  for (const { from, to } of arrows) {
    const [source, target] = [roomOf(from), roomOf(to)]
    if (source === target) continue
    const counts = between.get(source)
    counts.set(target, (counts.get(target) ?? 0) + 1)
  }
  return between
}

/** The drawing of one folder. `purposes` is a list of rooms.cjs, bottom up. */
export function draw(folder, purposes, files, arrows, roomOf) {
  // The root of the crate only declares the rooms.
  const present = purposes
    .map(([room]) => room)
    .filter(room => arrows.some(({ from, to }) => [roomOf(from), roomOf(to)].includes(room)))
  const topDown = present.toReversed()
  const between = roomArrows(topDown, arrows, roomOf)
  const filesIn = room => files.filter(file => roomOf(file) === room).length
  const width = Math.max(...topDown.map(room => room.length))
  const node = room => `${room}_${folder}`.replaceAll('-', '_')

  const drawing = ['```mermaid', 'graph TD']
  for (const [room, targets] of reduced(topDown, room => between.get(room).keys())) {
    drawing.push(`  ${node(room)}["${room} (${plural(filesIn(room), 'file')})"]`)
    for (const target of targets)
      drawing.push(`  ${node(room)} -->|${between.get(room).get(target)}| ${node(target)}`)
  }
  drawing.push('```')

  const list = ['```text']
  for (const [room, purpose] of purposes.toReversed()) {
    if (!present.includes(room)) continue
    const targets = topDown.filter(target => between.get(room).has(target))
    const uses = targets.map(target => `${target} ${between.get(room).get(target)}`).join(', ')
    const inside = arrows.filter(({ from, to }) => roomOf(from) === room && roomOf(to) === room)
    list.push(`${room.padEnd(width)}  ${purpose}`)
    list.push(`${' '.repeat(width)}    uses: ${uses || 'no other room'}; inside: ${inside.length}`)
  }
  list.push('```')
  return [...drawing, '', ...list].join('\n')
}
