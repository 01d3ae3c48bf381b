// PHP of WordPress Playground goes back after whatever a request did: what it shows of itself, its
// files, its memory and what the process holds are as they were.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { PHP } from '@php-wasm/universal'
import { capture, checkpoint, InstancePool } from 'wasm-hostmap'
import { emscriptenState } from 'wasm-hostmap/emscripten-state'
import { phpState, preparePhp } from 'wasm-hostmap/php'
import { digestFS } from '../support/fs-digest.mjs'
import { hostDigest } from '../support/host-digest.mjs'
import { changedPages, memoryOf } from '../support/memory-pages.mjs'
import {
  BUILDS,
  digestOf,
  makePhp,
  moduleOf,
  poolOptions,
  program
} from '../support/php-program.mjs'
import { LEAVINGS } from '../support/php-requests.mjs'

// What glue for Asyncify takes for the calls that are suspended.
const BLOCK = 12 + 4096

const echo = async (php, code) => (await php.run({ code: `<?php ${code}` })).text
const codeOf = code => error => error.code === code

/** A PHP at a checkpoint. */
async function kept(build, setUp) {
  const { value: php, unit } = await capture(() => makePhp(build))
  setUp?.(php)
  await preparePhp(php)
  return { php, clean: checkpoint(unit, { state: [phpState(php)] }) }
}

for (const build of BUILDS) {
  test(`${build}: nothing is left of a request`, async t => {
    const { php, clean } = await kept(build)
    const digest = await digestOf(php)
    clean.restore()
    const memory = Buffer.from(memoryOf(moduleOf(php)))
    const files = digestFS(moduleOf(php).FS)
    const host = hostDigest()
    for (const [name, request] of Object.entries(LEAVINGS)) {
      await t.test(name, async () => {
        await request(php)
        clean.restore()
        assert.deepEqual(changedPages(memoryOf(moduleOf(php)), memory), [])
        assert.equal(digestFS(moduleOf(php).FS), files)
        assert.deepEqual(await digestOf(php), digest)
        clean.restore()
        assert.deepEqual(hostDigest(), host)
      })
    }
    const fresh = await makePhp(build)
    await preparePhp(fresh)
    assert.deepEqual(await digestOf(fresh), digest)
    assert.deepEqual(Object.keys(php), ['semaphore'])
  })

  test(`${build}: a request that is not over is waited for`, async () => {
    const { php, clean } = await kept(build)
    const running = php.run({ code: '<?php usleep(50000); file_put_contents("/tmp/late", "x");' })
    await new Promise(resolve => setTimeout(resolve, 5))
    assert.throws(() => clean.restore(), codeOf('ERR_HOSTMAP_CALL_PENDING'))
    assert.throws(() => phpState(php)(), codeOf('ERR_HOSTMAP_CALL_PENDING'))
    await assert.rejects(preparePhp(php), codeOf('ERR_HOSTMAP_CALL_PENDING'))
    await running
    clean.restore()
    assert.equal(await echo(php, 'echo file_exists("/tmp/late") ? "left" : "none";'), 'none')
  })

  test(`${build}: a PHP that has ended stays so`, async () => {
    // Fibers need functions that these builds do not have, and glue aborts for good.
    const aborted = await kept(build)
    await assert.rejects(aborted.php.run({ code: '<?php (new Fiber(fn() => 1))->start();' }))
    const exited = await kept(build)
    // Any other status would be that of this process, too: glue sets process.exitCode.
    exited.php.exit(0)
    const ways = [
      [aborted, /it was aborted \(missing function/, 'ERR_HOSTMAP_NOT_RESTORABLE'],
      [exited, /ended by exit\(\)/, 'ERR_HOSTMAP_ENGINE_NOT_READY']
    ]
    for (const [{ php, clean }, why, then] of ways) {
      assert.throws(
        () => clean.restore(),
        ({ code, cause }) => {
          assert.equal(code, 'ERR_HOSTMAP_CHECKPOINT_BROKEN')
          assert.equal(cause.code, 'ERR_HOSTMAP_NOT_RESTORABLE')
          assert.match(cause.message, why)
          return true
        }
      )
      assert.throws(() => phpState(php)(), codeOf(then))
      await assert.rejects(preparePhp(php), codeOf(then))
    }
  })

  test(`${build}: random numbers are new in each request`, async () => {
    const { php, clean } = await kept(build)
    const code = `session_start(); echo implode(' ', [mt_rand(), random_int(0, PHP_INT_MAX), rand(),
      bin2hex(random_bytes(8)), lcg_value(), uniqid('', true), session_id(), str_shuffle('abcdefghijklmnop')]);`
    const seen = Array.from({ length: 8 }, () => new Set())
    for (let i = 0; i < 4; i++) {
      // `lcg_value` is seeded by the clock, which Emscripten gives in milliseconds.
      for (const before = Date.now(); Date.now() === before;);
      const words = (await echo(php, code)).split(' ')
      words.forEach((word, which) => seen[which].add(word))
      clean.restore()
    }
    assert.deepEqual(
      seen.map(({ size }) => size),
      seen.map(() => 4)
    )
  })
}

test('a pool of PHP gives each request a clean one, or another one', async () => {
  const pool = await InstancePool.create({ ...poolOptions(), max: 1 })
  const digest = await pool.run(program.digest)
  const host = hostDigest()
  const isClean = async why => {
    assert.deepEqual(await pool.run(program.digest), digest)
    const { lastFailure } = pool.stats()
    assert.match(String(lastFailure?.cause?.message ?? lastFailure?.message ?? 'none'), why)
  }
  for (let n = 0; n < 3; n++) program.check(await pool.run(lent => program.request(lent, n)), n)
  await pool.run(({ value: php }) => LEAVINGS['memory that has grown'](php))
  await isClean(/none/)
  assert.equal(pool.stats().created, 1)
  // Not awaited: it would go on in the state of another request.
  let goOn
  await pool.run(({ value: php }) => {
    php.onMessage(() => new Promise(resolve => (goOn = resolve)))
    php.run({ code: "<?php post_message_to_js('wait'); echo 1;" }).catch(() => {})
  })
  await isClean(/not over|suspended|pending/)
  goOn?.('')
  await assert.rejects(
    pool.run(({ value: php }) => php.run({ code: '<?php (new Fiber(fn() => 1))->start();' }))
  )
  await isClean(/was aborted/)
  await pool.run(({ value: php }) => php.exit(0))
  await isClean(/ended by exit/)
  const { created, discarded } = pool.stats()
  assert.deepEqual([created, discarded], [4, 3])
  assert.deepEqual(hostDigest(), host)
  pool.close()
})

test('asyncify: a PHP that is not prepared would write where C has put something else', async () => {
  const spoilt = async prepare => {
    const { value: php, unit } = await capture(() => makePhp('asyncify'))
    await prepare(php)
    const clean = checkpoint(unit, { state: [emscriptenState(moduleOf(php))] })
    const sleeps = () => echo(php, 'usleep(10);')
    await sleeps()
    clean.restore()
    const { malloc } = moduleOf(php)
    const blocks = Array.from({ length: 16 }, () => malloc(BLOCK))
    const bytes = () => blocks.map(at => moduleOf(php).HEAPU8.subarray(at, at + BLOCK))
    for (const block of bytes()) block.fill(0xab)
    await sleeps()
    return bytes().some(block => block.some(byte => byte !== 0xab))
  }
  assert.equal(await spoilt(php => echo(php, 'echo 1;')), true)
  assert.equal(await spoilt(preparePhp), false)
})

test('what is no PHP, or not ready, is refused', async () => {
  for (const wrong of [
    undefined,
    null,
    1,
    'php',
    {},
    [],
    () => {},
    new Map(),
    makePhp('asyncify')
  ]) {
    assert.throws(() => phpState(wrong), codeOf('ERR_INVALID_ARG_TYPE'))
    await assert.rejects(preparePhp(wrong), codeOf('ERR_INVALID_ARG_TYPE'))
  }
  const notReady = codeOf('ERR_HOSTMAP_ENGINE_NOT_READY')
  assert.throws(() => phpState(new PHP()), notReady)
  const php = await makePhp('asyncify')
  assert.throws(() => phpState(php), notReady)
  delete moduleOf(php).onAbort
  await assert.rejects(preparePhp(php), ({ code, message }) => {
    assert.equal(code, 'ERR_HOSTMAP_ENGINE_UNSUPPORTED')
    assert.match(message, /has no onAbort/)
    return true
  })
})

test('a first request that fails is told', async () => {
  const php = await makePhp('asyncify')
  php.writeFile('/internal/shared/preload/broken.php', '<?php nothing();')
  await assert.rejects(preparePhp(php), ({ code, message }) => {
    assert.equal(code, 'ERR_HOSTMAP_ENGINE_NOT_READY')
    assert.match(message, /Call to undefined function nothing\(\)/)
    return true
  })
  php.unlink('/internal/shared/preload/broken.php')
  await preparePhp(php)
})

test('host names that were looked up stay known, unless PHP can not ask', async () => {
  const name = 'tenant.example'
  const seen = async setUp => {
    const { php, clean } = await kept('asyncify', setUp)
    const address = await echo(php, `echo @gethostbyname('${name}');`)
    clean.restore()
    const text = await echo(
      php,
      `echo function_exists('gethostbyaddr') ? gethostbyaddr('${address || '172.29.1.0'}') : 'none';`
    )
    return text
  }
  assert.equal(await seen(), name)
  const disable = php => {
    const ini = '/internal/shared/php.ini'
    const text = php.readFileAsText(ini)
    php.writeFile(ini, `${text}\ndisable_functions = gethostbyaddr\n`)
  }
  assert.equal(await seen(disable), 'none')
})
