/** What a thread of the soak counts, and all of them together. */
export const zeroCounts = () => ({
  rounds: 0,
  strayWrites: 0,
  faults: 0,
  traps: 0,
  grown: 0,
  views: 0,
  memories: 0,
  windows: 0,
  snapshots: 0,
  refused: 0,
  warnings: 0
})
