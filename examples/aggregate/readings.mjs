// The log of electricity meters that the example reads: segments, each filled from its start. The
// remainder of a segment is a hole in the file, and its slots read as zeros.
//
// Each reading follows from its slot number, so the expected result can be calculated.

import { readSync } from 'node:fs'
import { open } from 'node:fs/promises'

export const RECORD_BYTES = 24 // see aggregate.c
export const GROUP_COUNT = 256
const DISTRICTS = 250 // 1 to 250
const SEGMENT_SLOTS = 2 ** 18
const FILLED_SLOTS = 2 ** 15

const districtOf = slot => 1 + (slot % DISTRICTS)
const wattHoursOf = slot => 5 * slot + 1

/** The slots with data, segment by segment: `[from, to)`. */
function* filledRanges(slots) {
  for (let from = 0; from < slots; from += SEGMENT_SLOTS)
    yield [from, Math.min(from + FILLED_SLOTS, slots)]
}

/** Returns a function for `dataset` that writes a log with this many slots. */
export function makeLog(slots) {
  return async (path, onProgress) => {
    const words = new Uint32Array((FILLED_SLOTS * RECORD_BYTES) / 4)
    const file = await open(path, 'wx')
    try {
      await file.truncate(slots * RECORD_BYTES)
      for (const [from, to] of filledRanges(slots)) {
        for (let slot = from, word = 0; slot < to; slot++) {
          const wattHours = wattHoursOf(slot)
          words[word++] = wattHours % 2 ** 32
          words[word++] = wattHours / 2 ** 32
          words[word++] = slot // seconds
          words[word++] = slot % 1_000_003 // meter
          words[word++] = districtOf(slot)
          words[word++] = 1 // status
        }
        const bytes = new Uint8Array(words.buffer, 0, (to - from) * RECORD_BYTES)
        let done = 0
        while (done < bytes.length) {
          const at = from * RECORD_BYTES + done
          done += (await file.write(bytes, done, bytes.length - done, at)).bytesWritten
        }
        onProgress(to / slots)
      }
    } finally {
      await file.close()
    }
  }
}

const noGroups = () => Array.from({ length: GROUP_COUNT }, () => ({ count: 0n, wattHours: 0n }))

/** The expected groups. In each segment, a district's readings are 5 * 250 Wh apart. */
export function calculateGroups(slots) {
  const groups = noGroups()
  let written = 0
  for (const [from, to] of filledRanges(slots)) {
    for (let first = from; first < Math.min(from + DISTRICTS, to); first++) {
      const count = Math.ceil((to - first) / DISTRICTS)
      const last = first + (count - 1) * DISTRICTS
      const group = groups[districtOf(first)]
      group.count += BigInt(count)
      group.wattHours += BigInt((count * (wattHoursOf(first) + wattHoursOf(last))) / 2)
    }
    written += to - from
  }
  groups[0].count = BigInt(slots - written)
  return groups
}

/** The groups according to plain JavaScript, which reads the whole file. */
export function groupInJavaScript(fd, slots, onProgress) {
  const groups = noGroups()
  const bytes = Buffer.alloc(RECORD_BYTES * 2 ** 16)
  for (let slot = 0; slot < slots;) {
    const wanted = Math.min(bytes.length, (slots - slot) * RECORD_BYTES)
    for (let done = 0; done < wanted;) {
      const read = readSync(fd, bytes, done, wanted - done, slot * RECORD_BYTES + done)
      if (read === 0) throw new Error('the file became shorter')
      done += read
    }
    for (let record = 0; record < wanted; record += RECORD_BYTES) {
      const group = groups[bytes.readUInt32LE(record + 16)]
      group.count++
      group.wattHours += bytes.readBigUInt64LE(record)
    }
    slot += wanted / RECORD_BYTES
    onProgress(slot / slots)
  }
  return groups
}
