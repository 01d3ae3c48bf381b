// The measuring loops. They are our own because the usual benchmark libraries time a function call
// by call or choose the number of rounds themselves; here a round is a microsecond of system calls,
// and the bare system calls in bench/native must be timed by the same plan to be comparable.

import { createHistogram } from 'node:perf_hooks'
import { QUICK } from './dataset.mjs'

/**
 * How a short operation is timed: in batches, because reading the clock costs a good part of a
 * microsecond-long round. A sample is one batch's time divided by its rounds, so the spread is that
 * of batches, not of single calls.
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

/** Nanoseconds per round of one turn, one sample for each batch. */
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

/** Nanoseconds that one call takes. For operations long enough that the clock doesn't matter. */
export function timeOnce(operation) {
  const startNs = process.hrtime.bigint()
  operation()
  return Number(process.hrtime.bigint() - startNs)
}

// Node's HDR histogram: whole nanoseconds up to an hour, exact to four figures.
const histogram = createHistogram({ lowest: 1, highest: 3_600e9, figures: 4 })

/**
 * What is kept of samples in nanoseconds: the median, and as spread the 10th and 90th percentile.
 */
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

/** Samples by name, gathered over several turns. */
export class Samples {
  #samplesNs = new Map()
  #turnsNs = new Map()

  /** The samples of one turn. */
  add(name, samplesNs) {
    this.#samplesNs.set(name, [...(this.#samplesNs.get(name) ?? []), ...samplesNs])
    this.#turnsNs.set(name, [...(this.#turnsNs.get(name) ?? []), middleOf(samplesNs)])
  }

  /** The summary of what was added under a name, or `undefined` if nothing was. */
  summary(name) {
    const samplesNs = this.#samplesNs.get(name)
    return samplesNs && summarize(samplesNs)
  }

  /**
   * How many times the one takes what the other does: the median of the turns' quotients, or
   * `undefined`. What is measured one right after the other is slowed by the same neighbours on the
   * machine, so this says more than the quotient of both medians.
   */
  ratio(name, other) {
    const [turns, others] = [name, other].map(each => this.#turnsNs.get(each) ?? [])
    if (turns.length === 0 || turns.length !== others.length) return undefined
    return ratio(middleOf(turns.map((ns, turn) => ns / others[turn])))
  }

  /**
   * The same, with the bounds that hold it with a confidence of at least 95 %, whatever quotients
   * are spread like: as many of them as heads that are tossed are above it.
   */
  ratioWithin(name, other) {
    const [turns, others] = [name, other].map(each => this.#turnsNs.get(each) ?? [])
    const quotients = turns.map((ns, turn) => ns / others[turn]).sort((a, b) => a - b)
    const count = quotients.length
    // The chance that at most so many of them are below the median.
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

/** How many bytes a second a summary of times for so many bytes is: the same, turned over. */
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

/**
 * The time of each of so many parts, of a summary of times for all of them: finer than whole
 * nanoseconds.
 */
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

/** A summary of samples that are not nanoseconds, but how many there were in a second. */
export const rates = summary => ({ ...summary, unit: 'perSecond' })

/** A part of a whole. */
export const share = value => ({ unit: 'share', median: value, samples: 1 })

/** How many times something is something else. */
export const ratio = value => ({ unit: 'ratio', median: value, samples: 1 })

/** A figure that was read once, not timed: bytes. */
export function bytes(value) {
  return { unit: 'bytes', median: value, samples: 1 }
}

/** A figure that was counted once. */
export function count(value) {
  return { unit: 'count', median: value, samples: 1 }
}

/** How many there were in a second, over all of a run. */
export function perSecond(value) {
  return { unit: 'perSecond', median: value, samples: 1 }
}

/** A cell that has no figure, and why. */
export function notMeasured(reason) {
  return { unit: 'none', reason }
}

/**
 * Lets go of what is no longer referenced, so that a round doesn't pay for the one before. Needs
 * --expose-gc.
 */
export async function collectGarbage() {
  // Twice with a turn of the event loop between: a memory's buffer is released by a finalizer.
  for (let i = 0; i < 2; i++) {
    globalThis.gc()
    await new Promise(resolve => setImmediate(resolve))
  }
}
