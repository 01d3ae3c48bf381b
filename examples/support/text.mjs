import { open } from 'node:fs/promises'
import { MiB } from './cli.mjs'
import { sentences } from './prose.mjs'

/** Returns a function for `dataset` that writes paragraphs of made-up prose. */
export function makeText(byteLength) {
  return async (path, onProgress) => {
    const sentence = sentences(1)
    const file = await open(path, 'wx')
    try {
      let written = 0
      while (written < byteLength) {
        let chunk = ''
        while (chunk.length < MiB) {
          chunk += sentence()
          for (let left = 5; left > 0; left--) chunk += ` ${sentence()}`
          chunk += '\n'
        }
        const bytes = Buffer.from(chunk).subarray(0, byteLength - written)
        await file.appendFile(bytes)
        written += bytes.length
        onProgress(written / byteLength)
      }
    } finally {
      await file.close()
    }
  }
}
