// The file that the demo works on: the user's, or one that this module generates.
import { accessSync, constants, mkdirSync, rmSync, statSync, statfsSync } from 'node:fs'
import { open, rename } from 'node:fs/promises'
import { dirname } from 'node:path'
import { fileURLToPath } from 'node:url'
import { formatBytes } from './units.mjs'

const stepBytes = 16 * 1024 * 1024

/** An input that can't be used. The message is for the user. */
export class InputError extends Error {}

/** Returns the file's size in bytes, if it can be used. */
export function inspectFile(path) {
  let stats
  try {
    stats = statSync(path)
    if (stats.isFile()) accessSync(path, constants.R_OK)
  } catch (error) {
    const reasons = { ENOENT: 'no such file', EACCES: 'permission denied' }
    throw new InputError(`can't read ${path}: ${reasons[error.code] ?? error.message}`)
  }
  if (stats.isDirectory()) throw new InputError(`${path} is a directory, not a file`)
  if (!stats.isFile()) throw new InputError(`${path} is not a regular file, so it can't be mapped`)
  if (stats.size === 0) throw new InputError(`${path} is empty`)
  if (stats.size < 4) throw new InputError(`${path} has ${stats.size} bytes, but a float32 takes 4`)
  return stats.size
}

/** Returns the path of the generated file of this size: 1GiB.f32, 1536MiB.f32, 4097B.f32. */
export function generatedPath(byteLength) {
  const [unit, bytes] = Object.entries({ GiB: 1024 ** 3, MiB: 1024 ** 2, KiB: 1024, B: 1 }).find(
    ([, bytes]) => byteLength % bytes === 0
  )
  return fileURLToPath(new URL(`data/${byteLength / bytes}${unit}.f32`, import.meta.url))
}

/** Whether an earlier run made the file. */
export function isGenerated(byteLength) {
  return statSync(generatedPath(byteLength), { throwIfNoEntry: false })?.size === byteLength
}

/** Makes the file, with the same bytes on every machine. It gets its name once it is complete. */
export async function generate(byteLength, onProgress, signal) {
  const path = generatedPath(byteLength)
  mkdirSync(dirname(path), { recursive: true })
  const { bavail, bsize } = statfsSync(dirname(path))
  if (bavail * bsize < byteLength) {
    throw new InputError(
      `${dirname(path)} has no room for ${formatBytes(byteLength)}; pass a smaller --size, or your own FILE`
    )
  }

  const partPath = `${path}.${process.pid}.part`
  try {
    const file = await open(partPath, 'wx')
    try {
      const values = new Float32Array(stepBytes / 4)
      const fill = normalValues({ mean: 20, deviation: 5, missingEvery: 1_000_000 })
      for (let done = 0; done < byteLength;) {
        signal.throwIfAborted()
        fill(values)
        const part = new Uint8Array(values.buffer, 0, Math.min(stepBytes, byteLength - done))
        await file.writeFile(part)
        done += part.byteLength
        onProgress('writing', part.byteLength)
      }
    } finally {
      await file.close()
    }
    await rename(partPath, path)
  } catch (error) {
    rmSync(partPath, { force: true })
    throw error
  }
}

/** Reads the file into the page cache, so that no way waits for the disk. */
export async function warmUp(path, byteLength, onProgress, signal) {
  const file = await open(path)
  try {
    const buffer = new Uint8Array(Math.min(stepBytes, byteLength))
    for (let done = 0; done < byteLength;) {
      signal.throwIfAborted()
      const { bytesRead } = await file.read(buffer, 0, Math.min(stepBytes, byteLength - done), done)
      if (bytesRead === 0) throw new InputError(`${path} became shorter while it was read`)
      done += bytesRead
      onProgress('reading', bytesRead)
    }
  } finally {
    await file.close()
  }
}

/**
 * Returns a function that fills an array with pseudo-random values. Each is the sum of four uniform
 * 16-bit numbers, which approximates a normal distribution but is much faster. Some are NaN.
 */
function normalValues({ mean, deviation, missingEvery }) {
  const sumMean = 4 * (65535 / 2)
  const sumDeviation = Math.sqrt((4 * (65536 ** 2 - 1)) / 12)
  const scale = deviation / sumDeviation
  const shift = mean - sumMean * scale

  // George Marsaglia's xorshift128.
  let x = 123456789
  let y = 362436069
  let z = 521288629
  let w = 88675123
  const next32 = () => {
    const t = x ^ (x << 11)
    x = y
    y = z
    z = w
    w = w ^ (w >>> 19) ^ t ^ (t >>> 8)
    return w
  }

  let untilMissing = missingEvery
  return values => {
    for (let i = 0; i < values.length; i++) {
      const a = next32()
      const b = next32()
      values[i] = ((a & 0xffff) + (a >>> 16) + (b & 0xffff) + (b >>> 16)) * scale + shift
      if (--untilMissing === 0) {
        values[i] = NaN
        untilMissing = missingEvery
      }
    }
  }
}
