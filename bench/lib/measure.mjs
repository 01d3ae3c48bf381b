// The measuring loops. The usual benchmark libraries time single calls or choose the number of
// rounds themselves. Here a round is a microsecond of system calls, and bench/native must use the
// same plan for its bare system calls to be comparable.

import { createHistogram } from 'node:perf_hooks'
import { QUICK } from './dataset.mjs'

/**
 * How to time a short operation: in batches, because reading the clock would be a large part of a
 * microsecond. A sample is a batch's time divided by its rounds, so the spread is that of batches,
 * not of single calls.
 *
 * And in several turns, each with a new memory (or process, for the bare system calls), between
 * which the peers have theirs: the kernel keeps a process's mappings in a tree, and where in a node
 * of it a memory happens to stand makes up to half of a round's time. The samples of all turns are
 * pooled.
 */
export const SHORT = Object.freeze({
  turns: QUICK ? 2 : 10,
  warmupBatches: 10,
  batchesPerTurn: 30,
  roundsPerBatch: 32
})

/** Nanoseconds per round in one turn: one sample per batch. */
export function timeBatches(round, { warmupBatches, batchesPerTurn, roundsPerBatch } = SHORT) {
  const samplesNs = new Float64Array(batchesPerTurn)
  for (let batch = -warmupBatches; batch < batchesPerTurn; batch++) {
    const startNs = process.hrtime.bigint()
    for (let i = 0; i < roundsPerBatch; i++) round()
    const elapsedNs = Number(process.hrtime.bigint() - startNs)
    if (batch >= 0) samplesNs[batch] = elapsedNs / roundsPerBatch
  }
  return samplesNs
}

/** Nanoseconds of one call. For operations so long that reading the clock does not matter. */
export function timeOnce(operation) {
  const startNs = process.hrtime.bigint()
  operation()
  return Number(process.hrtime.bigint() - startNs)
}

// Node's HDR histogram: whole nanoseconds up to an hour, with four significant digits.
const histogram = createHistogram({ lowest: 1, highest: 3_600e9, figures: 4 })

/** Summarizes samples in nanoseconds: the median, and the 10th and 90th percentile as spread. */
export function summarize(samplesNs) {
  if (samplesNs.length === 0) throw new Error('no samples')
  histogram.reset()
  for (const ns of samplesNs) histogram.record(Math.max(1, Math.round(ns)))
  const [median, p10, p90] = [50, 10, 90].map(percentile => histogram.percentile(percentile))
  return {
    unit: 'ns',
    median,
    p10,
    p90,
    min: histogram.min,
    max: histogram.max,
    samples: samplesNs.length
  }
}

const middleOf = values => {
  const sorted = [...values].sort((a, b) => a - b)
  return (sorted[(sorted.length - 1) >> 1] + sorted[sorted.length >> 1]) / 2
}

/** Samples by name, from several turns. */
export class Samples {
  #samplesNs = new Map()
  #turnsNs = new Map()

  /** Adds the samples of one turn. */
  add(name, samplesNs) {
    this.#samplesNs.set(name, [...(this.#samplesNs.get(name) ?? []), ...samplesNs])
    this.#turnsNs.set(name, [...(this.#turnsNs.get(name) ?? []), middleOf(samplesNs)])
  }

  /** Summarizes what was added under a name; `undefined` if nothing was. */
  summary(name) {
    const samplesNs = this.#samplesNs.get(name)
    return samplesNs && summarize(samplesNs)
  }

  /**
   * The ratio of two names: the median over the turns' ratios, or `undefined`. Both sides of a turn
   * run under the same load, so this says more than the ratio of their medians.
   */
  ratio(name, other) {
    const [turns, others] = [name, other].map(each => this.#turnsNs.get(each) ?? [])
    if (turns.length === 0 || turns.length !== others.length) return undefined
    return ratio(middleOf(turns.map((ns, turn) => ns / others[turn])))
  }

  /**
   * The same, with bounds of at least 95 % confidence for any distribution of the ratios: like
   * coins, each is above the median with a chance of one half.
   */
  ratioWithin(name, other) {
    const [turns, others] = [name, other].map(each => this.#turnsNs.get(each) ?? [])
    const quotients = turns.map((ns, turn) => ns / others[turn]).sort((a, b) => a - b)
    const count = quotients.length
    // The chance that at most this many of them are below the median.
    let [outside, chance, below] = [0, 0.5 ** count, 0]
    while (outside + chance <= 0.025) {
      outside += chance
      below += 1
      chance *= (count - below + 1) / below
    }
    const bound = Math.max(0, below - 1)
    const [median, lower, upper] = [middleOf(quotients), quotients[bound], quotients.at(-1 - bound)]
    return { ratio: ratio(median), lower: ratio(lower), upper: ratio(upper) }
  }
}

/** Converts a summary of times for this many bytes to bytes per second. */
export function rate({ median, p10, p90, min, max, samples }, byteLength) {
  const perSecond = ns => (byteLength / ns) * 1e9
  return {
    unit: 'rate',
    median: perSecond(median),
    p10: perSecond(p90),
    p90: perSecond(p10),
    min: perSecond(max),
    max: perSecond(min),
    samples
  }
}

/** Divides a summary of times by a number of parts. More precise than whole nanoseconds. */
export function each({ median, p10, p90, min, max, samples }, parts) {
  const one = ns => ns / parts
  return {
    unit: 'ns',
    median: one(median),
    p10: one(p10),
    p90: one(p90),
    min: one(min),
    max: one(max),
    samples
  }
}

/** Summarizes samples that are rates per second. */
export const rates = summary => ({ ...summary, unit: 'perSecond' })

/** A share of a whole. */
export const share = value => ({ unit: 'share', median: value, samples: 1 })

/** A ratio. */
export const ratio = value => ({ unit: 'ratio', median: value, samples: 1 })

/** Bytes, read once. */
export function bytes(value) {
  return { unit: 'bytes', median: value, samples: 1 }
}

/** A count, taken once. */
export function count(value) {
  return { unit: 'count', median: value, samples: 1 }
}

/** A rate per second, over a whole run. */
export function perSecond(value) {
  return { unit: 'perSecond', median: value, samples: 1 }
}

/** A cell without a figure, and the reason. */
export function notMeasured(reason) {
  return { unit: 'none', reason }
}

/** Collects garbage, so that a round does not pay for the previous one. Needs --expose-gc. */
export async function collectGarbage() {
  // Twice, with a turn of the event loop in between: a finalizer releases a memory's buffer.
  for (let i = 0; i < 2; i++) {
    globalThis.gc()
    await new Promise(resolve => setImmediate(resolve))
  }
}
