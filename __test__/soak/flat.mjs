// Whether what a process holds grows: the medians of the last quarter of its samples against those
// of the second. The first is left out: code is being compiled then, and heaps find their size.

const MiB = 2 ** 20

// By how much each may come and go with nothing being kept. What is ours is counted; V8's heap and
// malloc have their own ups and downs, in steps of dozens of areas.
const QUANTITIES = {
  rss: { title: 'RSS MiB', allowed: before => Math.max(16 * MiB, before * 0.1), unit: MiB },
  heap: { title: 'JS heap MiB', allowed: before => Math.max(2 * MiB, before * 0.1), unit: MiB },
  addressSpace: { title: 'space MiB', allowed: () => 64 * MiB, unit: MiB },
  areas: { title: 'areas', allowed: () => 192 },
  mapped: { title: 'of files', allowed: () => 0 },
  reservations: { title: 'memories', allowed: () => 0 },
  fds: { title: 'fds', allowed: () => 0 }
}

export const TITLES = Object.values(QUANTITIES).map(({ title }) => title)

/** What a sample says, in the order of the titles. */
export const cells = sample =>
  Object.entries(QUANTITIES).map(([name, { unit }]) =>
    unit ? (sample[name] / unit).toFixed(1) : sample[name]
  )

const median = values => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)]

/** The medians of each quarter, and the titles of what has grown. */
export function judge(samples) {
  const quarters = [0, 1, 2, 3].map(i => {
    const some = samples.slice((samples.length * i) / 4, (samples.length * (i + 1)) / 4)
    return Object.fromEntries(
      Object.keys(QUANTITIES).map(name => [name, median(some.map(sample => sample[name]))])
    )
  })
  const [, second, , last] = quarters
  const grown = Object.entries(QUANTITIES).filter(
    ([name, { allowed }]) => last[name] - second[name] > allowed(second[name])
  )
  return { quarters, grown: grown.map(([, { title }]) => title) }
}
