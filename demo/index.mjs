// Runs a Wasm program over a file that is copied, read and mapped into its memory, and compares.
//
//   arguments.mjs                         the command line, and what the machine allows
//   dataset.mjs                           the file
//   stats.wat, program.mjs                the Wasm program
//   ways.mjs                              copying, reading and mapping
//   seats.mjs                             modules in this thread and in workers
//   measure.mjs, measured.mjs             a new process for each measurement, and its side of it
//   report.mjs, units.mjs, progress.mjs   output
import { relative } from 'node:path'
import { help, makePlan, readArguments } from './arguments.mjs'
import {
  InputError,
  generate,
  generatedPath,
  inspectFile,
  isGenerated,
  warmUp
} from './dataset.mjs'
import { measure, workOf } from './measure.mjs'
import { assemble, programPath, readReport } from './program.mjs'
import { withProgress } from './progress.mjs'
import {
  closingWords,
  drawHistogram,
  drawStatistics,
  drawTable,
  indent,
  makePaint,
  openingWords,
  wrap
} from './report.mjs'
import { formatBytes, formatCount } from './units.mjs'

const defaultSize = 1024 ** 3

const interrupted = new AbortController()
for (const [name, number] of Object.entries({ SIGHUP: 1, SIGINT: 2, SIGTERM: 15 })) {
  // Once only: a second Ctrl-C ends the process as usual.
  process.once(name, () => interrupted.abort(128 + number))
}

// The reader of a pipe, such as `head`, may stop early.
process.stdout.on('error', error => process.exit(error.code === 'EPIPE' ? 0 : 1))

try {
  process.exitCode = await main(process.argv.slice(2), interrupted.signal)
} catch (error) {
  if (interrupted.signal.aborted) {
    process.exitCode = interrupted.signal.reason
  } else {
    process.stderr.write(`demo: ${error.message}\n`)
    process.exitCode = error instanceof InputError ? 2 : 1
  }
}

/** Returns the exit code. */
async function main(args, signal) {
  const options = readArguments(args)
  if (options.help) {
    process.stdout.write(help)
    return 0
  }
  // Imported here, so that a missing addon is reported like any other error.
  const { limits } = await import('wasm-hostmap')
  const colors = process.stdout.isTTY === true && process.stdout.hasColors()
  const paint = makePaint(colors)

  const path = options.file ?? (await provideFile(options.size ?? defaultSize, signal))
  const fileBytes = inspectFile(path)
  const { byteLength, modules, workers, notes } = makePlan({ ...options, fileBytes }, limits())
  print(`${paint.bold('File')}     ${showPath(path)}, ${formatBytes(fileBytes)}`)
  print(
    `${paint.bold('Program')}  ${showPath(programPath)}: statistics and a histogram of float32 values`
  )
  for (const note of notes) print(wrap(`Note: ${note}`))
  print('')
  print(wrap(openingWords))
  print('')

  const binary = await assemble()
  await withProgress('Reading the file into the page cache', byteLength, onProgress =>
    warmUp(path, byteLength, onProgress, signal)
  )
  const places = [
    { where: 'process', modules, title: `${formatCount(modules, 'module')} in one thread` },
    {
      where: 'workers',
      modules: workers,
      title: `${formatCount(workers, 'worker')} with a module each`
    }
  ]
  for (const place of places) {
    for (const [wayName, wayTitle] of Object.entries({
      copied: 'Copied in',
      read: 'Read in',
      mapped: 'Mapped'
    })) {
      const task = {
        wayName,
        where: place.where,
        modules: place.modules,
        path,
        byteLength,
        binary,
        colors
      }
      place[wayName] = await withProgress(`${wayTitle}, ${place.title}`, workOf(task), onProgress =>
        measure(task, onProgress, signal)
      )
    }
  }

  const reports = places.flatMap(({ copied, read, mapped }) =>
    [copied, read, mapped].flatMap(way => way.reports)
  )
  const report = readReport(reports[0])
  print(drawTable(places, paint))
  print(
    paint.dim(
      wrap('Total: start and first scan. Memory: PSS at the end. Ratios above 1 favor mapping.')
    )
  )
  print('')
  print(paint.bold('What the modules found'))
  print(indent(drawStatistics(report)))
  print('')
  print(indent(drawHistogram(report, paint)))
  print('')
  print(paint.bold('The memory of a module that has the file mapped'))
  print(places[0].mapped.drawing)
  print('')
  if (!reports.every(other => Buffer.compare(other, reports[0]) === 0)) {
    print(
      wrap('The results differ. Did the file change in the meantime? If not, please report this.')
    )
    return 1
  }
  for (const place of places) print(wrap(closingWords(place)))
  return 0
}

/** Makes a file, or reuses the one that an earlier run made. */
async function provideFile(byteLength, signal) {
  const path = generatedPath(byteLength)
  if (!isGenerated(byteLength)) {
    await withProgress(`Making ${showPath(path)}`, byteLength, onProgress =>
      generate(byteLength, onProgress, signal)
    )
  }
  return path
}

function showPath(path) {
  const fromHere = relative('', path)
  return fromHere.startsWith('..') ? path : fromHere
}

function print(text) {
  process.stdout.write(`${text}\n`)
}
