import cliProgress from 'cli-progress'

/**
 * Shows how far a long piece of work has come: a bar on a terminal, one line elsewhere.
 *
 * @returns `update` takes a share from 0 to 1; `stop` takes the bar away.
 */
export function startProgress(title) {
  if (!process.stderr.isTTY) {
    console.error(`${title} ...`)
    return { update() {}, stop() {} }
  }
  const bar = new cliProgress.SingleBar({
    format: `${title} {bar} {percentage}%`,
    barCompleteChar: '█',
    barIncompleteChar: '░',
    barsize: 30,
    // Ctrl-C ends the program, and not the bar alone: so the cursor stays.
    gracefulExit: false,
    hideCursor: false,
    clearOnComplete: true
  })
  bar.start(100, 0)
  return {
    update: share => bar.update(Math.min(100, Math.floor(share * 100))),
    stop: () => bar.stop()
  }
}
