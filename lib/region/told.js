'use strict'

// What listeners are told of regions: see lib/observe/events.js.

const { AT, counts } = require('../observe/counts.js')
const { UNHEARD, begin, channels, note, tell } = require('../observe/events.js')

const { region: regions } = channels
const { REGIONS_MADE } = AT

const beginRegion = () => begin(regions)

/** A region that was made, which it gives back. `how`: the name of the function that made it. */
function madeRegion(region, how, startTime) {
  counts[REGIONS_MADE] += 1
  if (startTime === UNHEARD) return region
  note(regions, startTime, { action: 'made', region, how })
  tell()
  return region
}

function closedRegion(region, startTime) {
  note(regions, startTime, { action: 'closed', region, how: null })
  tell()
}

module.exports = { beginRegion, madeRegion, closedRegion }
