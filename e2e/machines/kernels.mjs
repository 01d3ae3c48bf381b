// Debian's kernels, and the first file system of a guest.
import { execFileSync } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'

import { dependencies, NotToBeHad, search, unpack } from './apt.mjs'
import { kept, output } from './cache.mjs'

/** The kernels by the names that `npm run test:vm` takes. */
export const KERNELS = {
  '5.10': 'bullseye',
  6.1: 'bookworm',
  6.12: 'trixie',
  sid: 'sid',
  newest: 'trixie-backports'
}

/** As Debian names processors, and as QEMU does. */
export const ARCHES = {
  x64: { debian: 'amd64', node: 'x64', rust: 'x86_64' },
  arm64: { debian: 'arm64', node: 'arm64', rust: 'aarch64' }
}

/** What a guest needs to reach its files, in the order in which it is loaded. */
const MODULES = ['virtio_pci', 'virtio_mmio', 'overlay', '9p', '9pnet_virtio', 'virtio_rng']

/** The release of the kernel that an image package names, such as 6.1.0-38-amd64. */
function releaseOf(suite, { debian }, pages, withUpdates) {
  const meta = `linux-image-${debian}${pages === '16k' ? '-16k' : ''}`
  const image = name => /^linux-image-(\d.*)$/.exec(name)?.[1]
  const named = dependencies(suite, debian, meta, withUpdates).map(image).find(Boolean)
  if (named) return named
  // Not every release has the package that names the newest.
  const all = search(
    suite,
    debian,
    `^linux-image-[0-9].*${debian}${pages === '16k' ? '-16k' : ''}$`,
    withUpdates
  )
  const plain = all.filter(name => !/cloud|-rt-|dbg|unsigned/.test(name)).map(image)
  const newest = plain.sort((a, b) => a.localeCompare(b, 'en', { numeric: true })).pop()
  if (!newest) throw new NotToBeHad(`${suite} has no ${meta}`)
  return newest
}

/** Unpacks the newest kernel that can be had, and its modules. Gives its release. */
function unpackKernel(suite, arch, pages, tree, withUpdates = true) {
  try {
    const release = releaseOf(suite, arch, pages, withUpdates)
    // Newer ones are in several packages.
    const parts = ['linux-image', 'linux-binary', 'linux-modules'].map(part => `${part}-${release}`)
    const isThere = part =>
      search(suite, arch.debian, `^${part.replaceAll('+', '\\+')}$`, withUpdates).length > 0
    const there = parts.filter(part => part === parts[0] || isThere(part))
    unpack(suite, arch.debian, there, tree)
    return release
  } catch (error) {
    if (!(error instanceof NotToBeHad) || !withUpdates) throw error
    // Of updates the index may be there, and the packages no more: then the release's own.
    return unpackKernel(suite, arch, pages, tree, false)
  }
}

/** A kernel and its modules: { release, image, initrd }. */
export function kernel(name, archName, pages = '4k') {
  const suite = KERNELS[name]
  const arch = ARCHES[archName]
  if (!suite) {
    throw new Error(
      `no kernel ${name}: ${Object.keys(KERNELS)
        .filter(key => KERNELS[key])
        .join(', ')}`
    )
  }
  const folder = kept(`kernels/${name}-${archName}${pages === '4k' ? '' : `-${pages}`}`, into => {
    const tree = path.join(into, 'tree')
    fs.mkdirSync(tree)
    const release = unpackKernel(suite, arch, pages, tree)
    if (!fs.existsSync(path.join(tree, 'lib'))) fs.symlinkSync('usr/lib', path.join(tree, 'lib'))
    const image = [`boot/vmlinuz-${release}`, `lib/modules/${release}/vmlinuz`]
      .map(file => path.join(tree, file))
      .find(file => fs.existsSync(file))
    fs.copyFileSync(image, path.join(into, 'image'))
    fs.writeFileSync(path.join(into, 'release'), release)
    initrd(tree, release, path.join(into, 'initrd'), busybox(archName))
    fs.rmSync(tree, { recursive: true })
  })
  const file = part => path.join(folder, part)
  return {
    release: fs.readFileSync(file('release'), 'utf8'),
    image: file('image'),
    initrd: file('initrd')
  }
}

/** A shell and its tools in one file, for the processor of the guest. */
const busybox = archName =>
  path.join(
    kept(`busybox-${archName}`, into =>
      unpack('bookworm', ARCHES[archName].debian, ['busybox-static'], into)
    ),
    'bin/busybox'
  )

/** The files of modules, each after those that it needs. */
function moduleFiles(tree, release) {
  output('depmod', ['-b', tree, release])
  const files = []
  for (const name of MODULES) {
    let listed
    try {
      listed = output('modprobe', ['-d', tree, '-S', release, '--show-depends', name])
    } catch {
      // It is built in, or this processor has none.
      continue
    }
    for (const [, file] of listed.matchAll(/^insmod (\S+)/gm)) {
      if (!files.includes(file)) files.push(file)
    }
  }
  return files
}

function uncompressed(file) {
  if (file.endsWith('.xz')) return execFileSync('xz', ['-dc', file], { maxBuffer: 2 ** 28 })
  if (file.endsWith('.zst')) return execFileSync('zstd', ['-qdc', file], { maxBuffer: 2 ** 28 })
  return fs.readFileSync(file)
}

/**
 * Loads the modules, puts memory over the base system, mounts the host's folders, and runs what is
 * in `job` of the share.
 */
const INIT = modules => `#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
for module in ${modules.join(' ')}; do insmod /modules/$module; done
# tag, place: read-only, and cached, since nobody changes it meanwhile.
share() { mkdir -p $2; mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,cache=loose,ro $1 $2; }
layered() {
  share $1 /below/$1
  mkdir -p /over/$1/up /over/$1/work $2
  mount -t overlay -o lowerdir=/below/$1,upperdir=/over/$1/up,workdir=/over/$1/work $1 $2
}
mount -t tmpfs -o size=50% over /over
layered base /root
for place in proc sys dev tmp run opt project results; do mkdir -p /root/$place; done
mount -t proc proc /root/proc
mount -t sysfs sys /root/sys
mount -t devtmpfs dev /root/dev
mkdir -p /root/dev/shm /root/dev/pts /root/dev/hugepages
mount -t tmpfs shm /root/dev/shm
mount -t devpts pts /root/dev/pts
mount -t hugetlbfs huge /root/dev/hugepages
mount -t tmpfs -o mode=1777,size=75% tmp /root/tmp
share opt /root/opt
layered project /root/project
mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000 results /root/results
ip link set lo up
echo guest >/proc/sys/kernel/hostname
chroot /root /bin/sh /results/job </dev/null >/root/results/output 2>&1
echo $? >/root/results/status
cut -d' ' -f1 /proc/uptime >/root/results/uptime
dmesg | tail -100 >/root/results/dmesg
sync
poweroff -f
`

function initrd(tree, release, to, shell) {
  const folder = fs.mkdtempSync(path.join(path.dirname(to), 'initrd-'))
  const places = ['bin', 'modules', 'proc', 'sys', 'dev', 'root', 'below', 'over']
  for (const place of places) fs.mkdirSync(path.join(folder, place))
  fs.copyFileSync(shell, path.join(folder, 'bin/busybox'))
  fs.chmodSync(path.join(folder, 'bin/busybox'), 0o755)
  const names = []
  for (const file of moduleFiles(tree, release)) {
    const name = path.basename(file).replace(/\.(xz|zst)$/, '')
    fs.writeFileSync(path.join(folder, 'modules', name), uncompressed(file))
    names.push(name)
  }
  fs.writeFileSync(path.join(folder, 'init'), INIT(names), { mode: 0o755 })
  // Not compressed: an emulated processor takes longer to unpack it than QEMU to read it.
  execFileSync('sh', ['-c', `find . | cpio --quiet -o -H newc -R 0:0 >'${to}'`], { cwd: folder })
  fs.rmSync(folder, { recursive: true })
}
