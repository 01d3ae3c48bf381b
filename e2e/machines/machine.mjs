// One run of a guest: QEMU without KVM, bounded in time, with folders of the host's read-only and
// one for results. Its kernel is the one that is tried; everything else is emulated.
import { spawn } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'

import { CACHE } from './cache.mjs'

/**
 * The processors: the newest that QEMU emulates on x64; on arm64 one that has atomics of its own
 * and pages of 16 KiB, without pointer authentication, which is slow to emulate.
 */
const MACHINES = {
  x64: {
    program: 'qemu-system-x86_64',
    machine: ['-M', 'pc', '-cpu', 'max'],
    console: 'ttyS0',
    append: 'tsc=reliable no_timer_check nokaslr'
  },
  arm64: {
    program: 'qemu-system-aarch64',
    machine: ['-M', 'virt', '-cpu', 'neoverse-n1'],
    console: 'ttyAMA0',
    append: 'nokaslr'
  }
}

const share = (tag, folder, writable) => [
  '-fsdev',
  `local,id=${tag},path=${folder},security_model=none${writable ? '' : ',readonly=on'},multidevs=remap`,
  '-device',
  `virtio-9p-pci,fsdev=${tag},mount_tag=${tag}`
]

/**
 * Boots a kernel and runs a shell script in it.
 *
 * @param job.kernel What kernels.mjs gives.
 * @param job.folders { base, opt, project }
 * @param job.script The script. It runs in the guest as root; /results is `results` here.
 * @returns { status, bootSeconds, seconds, results, output }; status 124: it took too long.
 */
export async function boot({
  arch,
  kernel,
  folders,
  script,
  seconds,
  mebibytes = 3072,
  cpus = 2,
  results
}) {
  const machine = MACHINES[arch]
  fs.mkdirSync(CACHE, { recursive: true })
  // The first thing that the script does tells when the guest was up.
  fs.writeFileSync(path.join(results, 'job'), `date +%s >/results/up\n${script}`)
  const read = name => {
    const file = path.join(results, name)
    return fs.existsSync(file) ? fs.readFileSync(file, 'utf8') : null
  }
  const started = Date.now()
  const child = spawn(
    machine.program,
    [
      ...machine.machine,
      ...['-accel', 'tcg,thread=multi,tb-size=512', '-smp', `${cpus}`, '-m', `${mebibytes}`],
      ...['-nodefaults', '-display', 'none', '-no-reboot'],
      ...['-serial', `file:${path.join(results, 'console')}`],
      ...['-kernel', kernel.image, '-initrd', kernel.initrd],
      ...['-append', `console=${machine.console} panic=-1 mitigations=off quiet ${machine.append}`],
      ...Object.entries(folders).flatMap(([tag, folder]) => share(tag, folder, false)),
      ...share('results', results, true),
      ...['-device', 'virtio-rng-pci']
    ],
    { stdio: ['ignore', 'pipe', 'pipe'] }
  )
  let said = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', text => (said = (said + text).slice(-4000)))
  }
  const stop = () => child.kill('SIGKILL')
  const timer = setTimeout(stop, seconds * 1000)
  process.once('exit', stop)
  await new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('close', resolve)
  })
  clearTimeout(timer)
  process.off('exit', stop)
  const status = read('status')
  const up = read('up')
  return {
    status: status === null ? 124 : Number(status),
    bootSeconds: up === null ? null : Math.round(Number(up) - started / 1000),
    seconds: Math.round((Date.now() - started) / 1000),
    results,
    output: read('output') ?? '',
    // Where nothing came back, these say why.
    why: status === null ? `${said}\n${(read('console') ?? '').slice(-3000)}` : null
  }
}
