import cliProgress from 'cli-progress'

/**
 * Shows progress: a bar on a terminal, one line elsewhere.
 *
 * @returns `update` takes a share from 0 to 1; `stop` removes the bar.
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
    // The program handles Ctrl-C, not the bar. So the bar leaves the cursor alone.
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
