// The dataset: readings of electricity meters. Each follows from its number, so the expected report
// can be calculated.

import { HostRegion } from 'wasm-hostmap'

export const RECORD_BYTES = 16 // see programs.h
const METERS = 5000

const wattHoursOf = number => (number * 7919) % 1000
const meterOf = number => (number * 31) % METERS

export function makeReadings(count) {
  const region = HostRegion.allocate(count * RECORD_BYTES)
  const words = new Uint32Array(region.view())
  for (let number = 0, word = 0; number < count; number++, word += 4) {
    words[word] = wattHoursOf(number)
    words[word + 2] = number // seconds
    words[word + 3] = meterOf(number)
  }
  region.seal()
  return region
}

/** What the three programs should say. */
export function expectedReport(count, least, rows) {
  const groups = new Map()
  for (let number = 0; number < count; number++) {
    const wattHours = wattHoursOf(number)
    if (wattHours < least) continue
    const group = groups.get(meterOf(number)) ?? { wattHours: 0, count: 0 }
    group.wattHours += wattHours
    group.count++
    groups.set(meterOf(number), group)
  }
  return [...groups]
    .sort(([a, x], [b, y]) => y.wattHours - x.wattHours || a - b)
    .slice(0, rows)
    .map(
      ([meter, { wattHours, count }]) =>
        `meter ${meter} used ${wattHours} Wh in ${count} readings\n`
    )
    .join('')
}
