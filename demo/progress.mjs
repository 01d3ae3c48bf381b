// Progress on stderr: a bar on a terminal, otherwise one plain line per task.
import cliProgress from 'cli-progress'

/**
 * Shows a task's progress while `work(onProgress)` runs. onProgress takes the name of the step and
 * the bytes done since the last call.
 */
export async function withProgress(title, totalBytes, work) {
  if (!process.stderr.isTTY) {
    process.stderr.write(`${title} ...\n`)
    return work(() => {})
  }

  const bar = new cliProgress.SingleBar({
    format: `{title} {bar} {percentage} % {stage} {duration_formatted}`,
    barsize: 24,
    barCompleteChar: '█',
    barIncompleteChar: '░',
    hideCursor: true,
    clearOnComplete: true,
    linewrap: false,
    // The demo has its own handler for Ctrl-C.
    gracefulExit: false
  })
  bar.start(totalBytes, 0, { title, stage: '' })
  try {
    return await work((stage, bytes) => bar.increment(bytes, { stage }))
  } finally {
    bar.stop()
  }
}
