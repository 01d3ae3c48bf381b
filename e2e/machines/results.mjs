// The results of runs, which docs/platforms.md is written from: a file for each kernel, processor,
// C library and runtime, as e2e/smoke/run.cjs gives it with --json.
import fs from 'node:fs'
import { fileURLToPath } from 'node:url'

export const RESULTS = fileURLToPath(new URL('results', import.meta.url))
/** What installs took, by the same names. */
const INSTALLS = fileURLToPath(new URL('installs', import.meta.url))

/** 6.1-x64-glibc-node20: the newest run of its kind stays. */
export function nameOf({ kernel, arch, libc, runtime, version, pageBytes }) {
  const [release] = /^\d+\.\d+/.exec(kernel)
  const pages = pageBytes > 4096 ? `-${pageBytes / 1024}k` : ''
  const major = runtime === 'node' ? version.split('.')[0] : ''
  return `${release}${pages}-${arch}-${libc.split(' ')[0]}-${runtime}${major}`
}

/** `machine`: where it ran: `host`, or `qemu`. */
export const write = (machine, result) => writeTo(RESULTS, machine, nameOf(result), result)

export const writeInstall = (machine, result) =>
  writeTo(INSTALLS, machine, nameOf({ ...result, runtime: 'node' }), result)

function writeTo(folder, machine, name, result) {
  fs.mkdirSync(folder, { recursive: true })
  const all = { machine, date: new Date().toISOString().slice(0, 10), ...result }
  fs.writeFileSync(`${folder}/${name}.json`, `${JSON.stringify(all, null, 2)}\n`)
}

/** All that are kept. */
export const read = () => readFrom(RESULTS)
export const readInstalls = () => readFrom(INSTALLS)

const readFrom = folder =>
  fs.existsSync(folder)
    ? fs
        .readdirSync(folder)
        .filter(name => name.endsWith('.json'))
        .sort()
        .map(name => JSON.parse(fs.readFileSync(`${folder}/${name}`, 'utf8')))
    : []
