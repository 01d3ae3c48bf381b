// The child of measure.mjs: a new process that measures one way once, without memory left over from
// another way.
import { readFileSync } from 'node:fs'
import { SCANS } from './measure.mjs'

// The demo has the result, or has ended: exit too.
process.on('disconnect', () => process.exit())

process.once('message', async task => {
  try {
    process.send({ result: await measure(task) })
  } catch (error) {
    process.send({ error: error.message })
  }
})

async function measure({ wayName, where, modules, path, byteLength, binary, colors }) {
  // Imported here, so that an addon that can't be loaded is reported like any other error.
  const [{ ways }, { SeatHere, SeatInWorker }] = await Promise.all([
    import('./ways.mjs'),
    import('./seats.mjs')
  ])
  const onProgress = (stage, bytes) => process.send({ progress: { stage, bytes } })

  // Compiling takes the same time in all ways, so it is not measured.
  const program = new WebAssembly.Module(binary)
  const seats = []
  while (seats.length < modules) {
    seats.push(
      where === 'workers'
        ? await SeatInWorker.start(wayName, program, onProgress)
        : new SeatHere(wayName, program, onProgress)
    )
  }

  const start = performance.now()
  const data = ways[wayName].open(path, byteLength, onProgress)
  await Promise.all(seats.map(seat => seat.receive(data)))
  const ready = performance.now()

  const scansMs = []
  let reports
  for (let i = 0; i < SCANS; i++) {
    const scanStart = performance.now()
    reports = await Promise.all(seats.map(seat => seat.scan()))
    scansMs.push(performance.now() - scanStart)
  }
  // `data` and all seats are used below, so nothing that counts here was collected.
  const memoryWhenScanned = residentMemory()

  return {
    readyMs: ready - start,
    firstScanMs: scansMs[0],
    nextScanMs: Math.min(...scansMs.slice(1)),
    totalMs: ready - start + scansMs[0],
    memoryWhenScanned,
    reports,
    drawing: await seats[0].draw(colors),
    dataByteLength: data.byteLength
  }
}

/** The process's resident memory, according to the kernel. */
function residentMemory() {
  const rollup = readFileSync('/proc/self/smaps_rollup', 'utf8')
  const bytes = name => 1024 * Number(new RegExp(`^${name}: +(\\d+) kB$`, 'm').exec(rollup)[1])
  return { pss: bytes('Pss'), rss: bytes('Rss') }
}
