'use strict'

// Regions under a name: processes that know nothing of each other find what was published, as long
// as its publisher lives, and never anything else.

const { execFileSync, spawn, spawnSync } = require('node:child_process')
const { once } = require('node:events')
const fs = require('node:fs')
const path = require('node:path')
const threads = require('node:worker_threads')
const { HostRegion, Publication } = require('..')
const { inChild } = require('./support/child')
const { expectError, expectFailure, thrownBy } = require('./support/errors')
const { temporaryDirectory } = require('./support/files')
const { NOBODY, canBeOthers } = require('./support/other-user')
const { skipUnless } = require('./support/skip')
const { TestWorker } = require('./support/worker')

const NAMED = path.join(__dirname, 'share/named.js')
const temporary = temporaryDirectory()
let directory
let count = 0
const open = []
const keep = thing => {
  open.push(thing)
  return thing
}
beforeEach(() => {
  // A folder that is not there yet.
  directory = temporary.file(undefined, `names ${++count}`)
})
afterEach(() => {
  for (const thing of open.splice(0)) thing.close()
})

const regionOf = (text, options) => keep(HostRegion.copyFrom(Buffer.from(text), options))
const textOf = region => Buffer.from(region.view()).toString()
const publish = (text, name, options) =>
  keep(regionOf(text).publish(name, { directory, ...options }))
const find = name => keep(HostRegion.find(name, { directory }))
const published = () => HostRegion.published({ directory })
const findIn = (name, options) =>
  JSON.parse(
    execFileSync(process.execPath, [NAMED, 'find', directory, name], {
      encoding: 'utf8',
      ...options
    })
  )

/** Starts a process that publishes, and waits until it has. */
async function publisher(name, text, options, spawning) {
  const child = spawn(
    process.execPath,
    [NAMED, 'publish', directory, name, text, JSON.stringify(options ?? {})],
    { stdio: ['ignore', 'pipe', 'inherit'], ...spawning }
  )
  keep({ close: () => child.kill('SIGKILL') })
  const [line] = await once(child.stdout, 'data')
  return { child, told: JSON.parse(line) }
}

async function killed(child) {
  const ended = once(child, 'exit')
  child.kill('SIGKILL')
  await ended
}

const notFound = { code: 'ERR_HOSTMAP_NAME_NOT_FOUND' }

describe('a name', () => {
  test('is found by other processes and here, any number of times', () => {
    const publication = publish('by a name', 'orders')
    expect(publication).toBeInstanceOf(Publication)
    expect(publication).toMatchObject({ name: 'orders', directory, current: true })
    for (let i = 0; i < 3; i++) {
      expect(findIn('orders')).toEqual({ text: 'by a name', writable: false })
      expect(textOf(find('orders'))).toBe('by a name')
    }
    expect(published()).toEqual([
      { name: 'orders', pid: process.pid, access: 'readonly', byteLength: 9 }
    ])
  })

  test('shows the same pages, and keeps them after it is closed', () => {
    const region = regionOf('pages')
    const publication = region.publish('orders', { directory })
    const found = find('orders')
    Buffer.from(region.view()).write('PAGES')
    expect(textOf(found)).toBe('PAGES')
    publication.close()
    publication.close()
    region.close()
    expect(textOf(found)).toBe('PAGES')
    expectError(
      thrownBy(() => find('orders')),
      notFound
    )
    expect(publication.current).toBe(false)
    expect(fs.readdirSync(directory)).toEqual([])
  })

  test("gives no way to write, unless it is published with access 'shared'", () => {
    publish('readonly', 'one')
    expect(find('one').writable).toBe(false)
    const region = regionOf('shared')
    keep(region.publish('two', { directory, access: 'shared' }))
    expect(findIn('two')).toEqual({ text: 'shared', writable: true })
    expect(textOf(region)).toBe('Whared')
    expect(published().map(({ access }) => access)).toEqual(['readonly', 'shared'])
    const fd = find('one').duplicateFd()
    expect(() => fs.writeSync(fd, 'x')).toThrow(/EBADF/)
    fs.closeSync(fd)
  })

  test('with enforce, the kernel lets nobody write any more; not where it was refused', () => {
    const region = regionOf('enforced')
    publish('other', 'taken')
    expectError(
      thrownBy(() => region.publish('taken', { directory, enforce: true })),
      { code: 'ERR_HOSTMAP_NAME_TAKEN' }
    )
    expect(region.writable).toBe(true)
    keep(region.publish('enforced', { directory, enforce: true }))
    expect([region.writable, find('enforced').writable]).toEqual([false, false])
    expect(textOf(find('enforced'))).toBe('enforced')
  })

  test.each([
    ['a sealed region', () => regionOf('sealed').seal()],
    ['a part of a file', () => HostRegion.open(__filename, { byteOffset: 4096, byteLength: 100 })]
  ])('of %s gives just that', (_, make) => {
    const region = keep(make())
    region.publish('part', { directory })
    const found = find('part')
    for (const name of ['name', 'byteLength', 'backing', 'sealed']) {
      expect([name, found[name]]).toEqual([name, region[name]])
    }
    expect(textOf(found)).toBe(textOf(region))
    expect(findIn('part').text).toBe(textOf(region))
  })

  test("goes when its region is closed, and stays when only the program's own handles go", async () => {
    const region = regionOf('closed')
    for (const name of ['one', 'two']) region.publish(name, { directory })
    expect(published().length).toBe(2)
    region.close()
    expect(published()).toEqual([])
    const seen = await inChild(
      async ({ hostmap: { HostRegion }, args }) => {
        HostRegion.copyFrom(Buffer.from('kept')).publish('kept', args)
        for (let i = 0; i < 5; i++) {
          globalThis.gc()
          await new Promise(resolve => setTimeout(resolve, 5))
        }
        return Buffer.from(HostRegion.find('kept', args).view()).toString()
      },
      { flags: ['--expose-gc'], args: { directory } }
    )
    expect(seen).toBe('kept')
    expect(fs.readdirSync(directory)).toEqual([])
  })

  test('of a file that got shorter says so', () => {
    const file = temporary.file(Buffer.alloc(3 * 4096, 1))
    keep(HostRegion.open(file)).publish('file', { directory })
    fs.truncateSync(file, 4096)
    expectError(
      thrownBy(() => find('file')),
      { code: 'ERR_HOSTMAP_FILE_SHRUNK' }
    )
    expect(findIn('file').code).toBe('ERR_HOSTMAP_FILE_SHRUNK')
    fs.truncateSync(file, 3 * 4096)
    expect(find('file').byteLength).toBe(3 * 4096)
  })

  test.each([
    ['', /1 to 200 bytes/],
    ['a/b', /without '\/'/],
    ['..', /dot/],
    ['.hidden', /dot/],
    ['a\0', /NUL/],
    ['x'.repeat(201), /200 bytes/],
    ['ä'.repeat(101), /200 bytes/],
    ['\ud800', /bytes/]
  ])('can not be %j', (name, says) => {
    const region = regionOf('x')
    for (const call of [() => region.publish(name, { directory }), () => find(name)]) {
      expectError(thrownBy(call), { code: 'ERR_INVALID_ARG_VALUE', says })
    }
    for (const value of [undefined, null, 7, {}, Symbol('x')]) {
      expectError(
        thrownBy(() => find(value)),
        { code: 'ERR_INVALID_ARG_TYPE', says: 'name must be a string' }
      )
    }
    expect(fs.existsSync(directory)).toBe(false)
  })

  test.each(['x'.repeat(200), 'ä ö', 'a\nb', '-rf *', 'name.region', '$(id)'])(
    'can be %j',
    name => {
      publish('any', name)
      expect(findIn(name).text).toBe('any')
      expect(published().map(it => it.name)).toEqual([name])
    }
  )

  test('of a closed region, and wrong options, are refused', () => {
    const region = regionOf('x')
    open.pop().close()
    expectError(
      thrownBy(() => region.publish('x', { directory })),
      { code: 'ERR_HOSTMAP_REGION_CLOSED' }
    )
    const readonly = keep(HostRegion.open(__filename))
    for (const [options, code] of [
      [{ access: 'shared' }, 'ERR_HOSTMAP_REGION_READONLY'],
      [{ enforce: true }, 'ERR_HOSTMAP_REGION_READONLY'],
      [{ access: 'private' }, 'ERR_INVALID_ARG_VALUE'],
      [{ access: 'shared', enforce: true }, 'ERR_INVALID_ARG_VALUE'],
      [{ replace: 1 }, 'ERR_INVALID_ARG_TYPE'],
      [{ directory: 7 }, 'ERR_INVALID_ARG_TYPE'],
      [{ overwrite: true }, 'ERR_INVALID_ARG_VALUE']
    ]) {
      expectError(
        thrownBy(() => readonly.publish('x', { directory, ...options })),
        { code }
      )
    }
    expectError(
      thrownBy(() => new Publication()),
      { code: 'ERR_ILLEGAL_CONSTRUCTOR' }
    )
    const { close } = publish('x', 'x')
    expect(thrownBy(close)).toMatchObject({ code: 'ERR_INVALID_THIS' })
    expect(published().map(({ name }) => name)).toEqual(['x'])
  })

  test('that nobody has is told with those that are there, and nothing is left open', async () => {
    for (let i = 0; i < 12; i++) publish('x', `name ${i}`)
    await expectFailure(() => find('name'), {
      ...notFound,
      says: ['"name 0"', 'and 4 more', directory]
    })
    const none = path.join(directory, 'none')
    expectError(
      thrownBy(() => HostRegion.find('x', { directory: none })),
      { ...notFound, says: 'nothing is published there' }
    )
    expect(fs.existsSync(none)).toBe(false)
  })
})

describe('a name that is published again', () => {
  test('is refused, here and elsewhere, unless it is to be replaced', async () => {
    const first = publish('first', 'one')
    const message = { code: 'ERR_HOSTMAP_NAME_TAKEN', says: [`process ${process.pid}`, 'replace'] }
    expectError(
      thrownBy(() => publish('second', 'one')),
      message
    )
    const { told } = await publisher('one', 'third')
    expect(told).toBe('ERR_HOSTMAP_NAME_TAKEN')
    const old = find('one')
    const second = publish('second', 'one', { replace: true })
    expect([first.current, second.current]).toEqual([false, true])
    expect([textOf(old), textOf(find('one'))]).toEqual(['first', 'second'])
    // It is not its own any more.
    first.close()
    expect(findIn('one').text).toBe('second')
    const other = await publisher('one', 'third', { replace: true })
    expect(other.told).toBe('published')
    expect([second.current, textOf(find('one'))]).toEqual([false, 'third'])
  })

  test('lets go of what it replaces, however often', async () => {
    const seen = await inChild(
      async ({ hostmap: { HostRegion }, require, collect, args: { directory } }) => {
        const fds = () => require('node:fs').readdirSync('/proc/self/fd').length
        const make = () => HostRegion.copyFrom(Buffer.from('x'))
        const swap = region => region.publish('one', { directory, replace: true })
        const other = make().publish('two', { directory })
        const replaced = new WeakRef(make())
        const first = swap(replaced.deref())
        const region = make()
        let last = swap(region)
        const before = fds()
        for (let i = 0; i < 100; i++) last = swap(region)
        await collect()
        return [fds() <= before, replaced.deref() === undefined].concat(
          [first, last, other].map(it => it.current)
        )
      },
      { flags: ['--expose-gc'], args: { directory } }
    )
    expect(seen).toEqual([true, true, false, true, true])
  })

  test('is heard of by those who watch it, version by version', async () => {
    const versions = HostRegion.watch('one', { directory })
    const next = async () => {
      const { value } = await versions.next()
      const text = textOf(value)
      value.close()
      return text
    }
    // Before there is one, or a folder.
    const first = next()
    await new Promise(resolve => setTimeout(resolve, 50))
    publish('noise', 'another')
    const publication = publish('1', 'one')
    expect(await first).toBe('1')
    const second = next()
    publish('2', 'one', { replace: true })
    expect(await second).toBe('2')
    // What nobody asked for meanwhile is left out.
    publish('3', 'one', { replace: true })
    publish('4', 'one', { replace: true })
    expect(await next()).toBe('4')
    publication.close()
    const { child } = await publisher('one', '5', { replace: true })
    expect(await next()).toBe('5')
    // A dead publisher is no version.
    const last = next()
    await killed(child)
    publish('6', 'one')
    expect(await last).toBe('6')
    await versions.return()
  })

  test('is watched by one who waits, and nobody else is kept from ending', async () => {
    publish('1', 'one')
    const script = end => `
      const { HostRegion } = require(${JSON.stringify(path.join(__dirname, '..'))})
      const controller = new AbortController()
      const options = { directory: ${JSON.stringify(directory)}, signal: controller.signal }
      const versions = HostRegion.watch('one', options)
      process.on('exit', () => console.log('ends'))
      versions.next().then(({ value }) => {
        value.close()
        console.log('has it')
        ${end}
      })`
    const run = end =>
      spawn(process.execPath, ['-e', script(end)], { stdio: ['ignore', 'pipe', 'inherit'] })
    const told = async child => {
      const chunks = []
      for await (const chunk of child.stdout) chunks.push(chunk)
      return Buffer.concat(chunks).toString()
    }
    expect(await told(run(''))).toBe('has it\nends\n')
    expect(await told(run('controller.abort()'))).toBe('has it\nends\n')
    const waits = run('versions.next().then(() => console.log("the next"))')
    const all = told(waits)
    await once(waits.stdout, 'data')
    publish('2', 'one', { replace: true })
    expect(await all).toBe('has it\nthe next\nends\n')
  })

  test('is watched until the signal says so, and with wrong options not at all', async () => {
    const controller = new AbortController()
    const watched = HostRegion.watch('one', { directory, signal: controller.signal })
    const waiting = watched.next()
    setTimeout(() => controller.abort(new Error('enough')), 20)
    const error = await thrownBy(() => waiting)
    expectError(error, { code: 'ABORT_ERR' })
    expect(error.cause.message).toBe('enough')
    expect(await watched.next()).toEqual({ value: undefined, done: true })
    const none = temporary.file(undefined, `none ${count}`)
    const aborted = HostRegion.watch('one', { directory: none, signal: AbortSignal.abort() })
    expectError(await thrownBy(() => aborted.next()), { code: 'ABORT_ERR' })
    expect(fs.existsSync(none)).toBe(false)
    expectError(
      thrownBy(() => HostRegion.watch('one', { signal: {} })),
      { code: 'ERR_INVALID_ARG_TYPE' }
    )
    expectError(
      thrownBy(() => HostRegion.watch('a/b')),
      { code: 'ERR_INVALID_ARG_VALUE' }
    )
  })
})

describe('when its publisher ends', () => {
  test.each([
    ['by a signal that nobody can catch', child => child.kill('SIGKILL')],
    ['by a signal', child => child.kill('SIGTERM')]
  ])('%s, the name is gone, and its file goes with the next look', async (_, end) => {
    const { child } = await publisher('one', 'gone')
    expect(textOf(find('one'))).toBe('gone')
    const found = find('one')
    const ended = once(child, 'exit')
    end(child)
    await ended
    expect(textOf(found)).toBe('gone')
    expect(fs.readdirSync(directory)).toEqual(['one.region'])
    expectError(
      thrownBy(() => find('one')),
      notFound
    )
    expect(fs.readdirSync(directory)).toEqual([])
    publish('next', 'one')
    expect(findIn('one').text).toBe('next')
  })

  test.each(['process.exit()', 'setTimeout(() => {})', 'throw new Error("uncaught")'])(
    'by %s, no file is left',
    end => {
      const script = `
        const { HostRegion } = require(${JSON.stringify(path.join(__dirname, '..'))})
        const directory = ${JSON.stringify(directory)}
        HostRegion.copyFrom(Buffer.from('x')).publish('one', { directory })
        if (require('fs').readdirSync(directory).length !== 1) process.abort()
        ${end}`
      spawnSync(process.execPath, ['-e', script])
      expect(fs.readdirSync(directory)).toEqual([])
    }
  )

  test('a worker thread: its names go with it, whether it is closed or terminated', async () => {
    const worker = new TestWorker()
    await worker.run(
      ({ hostmap: { HostRegion } }, directory) =>
        void HostRegion.copyFrom(Buffer.from('of a worker')).publish('one', { directory }),
      directory
    )
    expect(textOf(find('one'))).toBe('of a worker')
    expect(findIn('one').text).toBe('of a worker')
    await worker.end()
    expect(fs.readdirSync(directory)).toEqual([])
    const terminated = new threads.Worker(
      `const { workerData, parentPort } = require('node:worker_threads')
       const { HostRegion } = require(workerData.main)
       HostRegion.copyFrom(Buffer.from('x')).publish('two', { directory: workerData.directory })
       parentPort.postMessage('published')
       for (;;);`,
      { eval: true, workerData: { main: require.resolve('..'), directory } }
    )
    await once(terminated, 'message')
    expect(textOf(find('two'))).toBe('x')
    await terminated.terminate()
    expectError(
      thrownBy(() => find('two')),
      notFound
    )
    expect(fs.readdirSync(directory)).toEqual([])
  })

  test('one that stands still is found all the same', async () => {
    const { child } = await publisher('one', 'stopped')
    child.kill('SIGSTOP')
    expect(textOf(find('one'))).toBe('stopped')
    publish('other', 'two')
    child.kill('SIGCONT')
  })
})

describe('a folder', () => {
  const codes = folder => [
    thrownBy(() => regionOf('x').publish('x', { directory: folder }))?.code,
    thrownBy(() => HostRegion.find('x', { directory: folder }))?.code,
    thrownBy(() => HostRegion.published({ directory: folder }))?.code
  ]
  const refused = Array(3).fill('ERR_HOSTMAP_FOLDER_UNSAFE')

  test('is made for this user alone, whatever the mask is', () => {
    const mask = process.umask(0)
    try {
      publish('x', 'one')
    } finally {
      process.umask(mask)
    }
    const mode = file => fs.statSync(file).mode & 0o7777
    // The sticky bit keeps the file from those who clean up temporary folders.
    expect([mode(directory), mode(path.join(directory, 'one.region'))]).toEqual([0o700, 0o1600])
  })

  test('that others may enter, a link, and what is no folder, are refused', () => {
    publish('x', 'one')
    for (const mode of [0o710, 0o705, 0o777, 0o1777]) {
      fs.chmodSync(directory, mode)
      expect(codes(directory)).toEqual(refused)
    }
    fs.chmodSync(directory, 0o700)
    const link = temporary.file(undefined, `link ${count}`)
    fs.symlinkSync(directory, link)
    expect([codes(link), codes(`${link}/`)]).toEqual([refused, refused])
    expect(codes(temporary.file('a file'))).toEqual(refused)
    expect(codes(path.join(directory, 'none', 'none'))[0]).toBe('ERR_HOSTMAP_OPEN_FAILED')
    expect(textOf(find('one'))).toBe('x')
  })

  test('is that of XDG_RUNTIME_DIR where this user has one, else one in the temporary folder', async () => {
    const runtime = temporary.file(undefined, `runtime ${count}`)
    fs.mkdirSync(runtime, { mode: 0o700 })
    const usual = env =>
      inChild(
        ({ hostmap: { HostRegion } }) => {
          const region = HostRegion.copyFrom(Buffer.from('x'))
          const { directory } = region.publish(`usual ${process.pid}`)
          HostRegion.find(`usual ${process.pid}`).close()
          region.close()
          return directory
        },
        { env }
      )
    const { path: TMPDIR } = temporary
    expect(await usual({ XDG_RUNTIME_DIR: runtime, TMPDIR })).toBe(
      path.join(runtime, 'wasm-hostmap')
    )
    // As some systems make it: others may rename what is in it.
    const open = temporary.file(undefined, `open ${count}`)
    fs.mkdirSync(open)
    fs.chmodSync(open, 0o777)
    for (const XDG_RUNTIME_DIR of ['', 'relative', path.join(runtime, 'none'), open]) {
      expect(await usual({ XDG_RUNTIME_DIR, TMPDIR })).toBe(
        path.join(TMPDIR, `wasm-hostmap-${process.geteuid()}`)
      )
    }
  })

  test('may be given as a file: URL', () => {
    keep(regionOf('url').publish('one', { directory: new URL(`file://${encodeURI(directory)}`) }))
    expect(textOf(find('one'))).toBe('url')
  })

  skipUnless('needs root, to run a process of another user', canBeOthers()).test(
    "of another user is refused, both ways, and so is another user's file in it",
    async () => {
      fs.chmodSync(temporary.path, 0o711)
      publish('mine', 'one')
      // One who can't even look into it.
      expect(findIn('one', NOBODY).code).toBe('ERR_HOSTMAP_FOLDER_UNSAFE')
      expect((await publisher('two', 'theirs', {}, NOBODY)).told).toBe('ERR_HOSTMAP_FOLDER_UNSAFE')
      fs.chmodSync(directory, 0o777)
      expect(findIn('one', NOBODY).code).toBe('ERR_HOSTMAP_FOLDER_UNSAFE')
      fs.chmodSync(directory, 0o700)
      // Nor does root take what is in another user's.
      const mine = directory
      directory = temporary.file(undefined, 'of nobody')
      fs.mkdirSync(directory, { mode: 0o700 })
      fs.chownSync(directory, NOBODY.uid, NOBODY.gid)
      expect((await publisher('one', 'theirs', {}, NOBODY)).told).toBe('published')
      expect(codes(directory)).toEqual(refused)
      expect(findIn('one', NOBODY).text).toBe('theirs')
      // What leads to their process from a file of mine.
      const theirs = fs.readFileSync(path.join(directory, 'one.region'))
      directory = mine
      fs.writeFileSync(path.join(mine, 'one.region'), theirs)
      expectError(
        thrownBy(() => find('one')),
        { code: 'ERR_HOSTMAP_SHARE_DENIED' }
      )
      fs.chownSync(path.join(mine, 'one.region'), NOBODY.uid, NOBODY.gid)
      expectError(
        thrownBy(() => find('one')),
        { code: 'ERR_HOSTMAP_NAME_INVALID', says: "another user's file" }
      )
    }
  )

  test('may have other things in it, which are neither followed nor removed', () => {
    publish('x', 'one')
    const at = name => path.join(directory, name)
    fs.symlinkSync('one.region', at('link.region'))
    fs.symlinkSync('nowhere', at('dangling.region'))
    fs.mkdirSync(at('folder.region'))
    spawnSync('mkfifo', [at('pipe.region')])
    fs.writeFileSync(at('readme'), 'mine')
    for (const name of ['link', 'dangling', 'folder', 'pipe']) {
      expectError(
        thrownBy(() => find(name)),
        { code: 'ERR_HOSTMAP_NAME_INVALID', says: 'no regular file' }
      )
    }
    expect(published().map(({ name }) => name)).toEqual(['one'])
    expect(fs.readdirSync(directory).length).toBe(6)
  })
})
