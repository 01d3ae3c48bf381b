// Ruby goes back after whatever a script did, over node:wasi and over the shim for browsers: its
// memory, what it shows of itself, and what it has of JavaScript.

import assert from 'node:assert/strict'
import { setImmediate as turn } from 'node:timers/promises'
import { test } from 'node:test'
import v8 from 'node:v8'
import { runInNewContext } from 'node:vm'
import { capture, checkpoint } from 'wasm-hostmap'
import { hostDigest } from '../support/host-digest.mjs'
import { changedPages } from '../support/memory-pages.mjs'
import { program } from '../support/ruby-program.mjs'

v8.setFlagsFromString('--expose-gc')
const collect = runInNewContext('gc')

const evaluate = code => vm => vm.eval(code)
const failing = code => vm => assert.throws(() => vm.eval(code))

const LEAVINGS = {
  'globals, classes and methods': evaluate(`
    $left = 1; LEFT = 2
    class Left; @@all = [1]; def to_s = 'left'; end
    class Integer; def doubled = self * 2; end
    def left = 3
    module Kernel; def puts(*) = nil; end
    $VERBOSE = true; ENV['LEFT'] = '1'; srand(7); trap('INT') {}; at_exit { $gone = 1 }
    1.doubled`),
  'values of JavaScript': evaluate(`
    $object = nil; $function = nil; 3.times { GC.start }
    $others = (1..50).map { |i| JS.eval("return { number: #{i} }") }
    JS.global[:rubyBox][:call] = proc { $left = 1 }`),
  'memory that has grown': evaluate(`$big = 'x' * (60 << 20); $big.size`),
  'files and folders': evaluate(`
    begin
      Dir.mkdir('/left'); Dir.chdir('/left')
      $files = (1..1000).map { |i| File.open("f#{i}", 'w').tap { |it| it.write('x' * i) } }
    rescue SystemCallError
    end`),
  'a generator half-way': evaluate(`
    $each = Enumerator.new { |all| begin; all << 1; all << 2; ensure; $left = 1; end }; $each.next`),
  'a fiber half-way': evaluate(`$fiber = Fiber.new { Fiber.yield 1; 2 }; $fiber.resume`),
  'an exception': failing(`raise ArgumentError, 'left'`),
  'an exit': failing('exit 3'),
  'a recursion without an end': failing('def f(n) = f(n + 1) + 1; f(0)'),
  'a trap': failing('all = []; 100_000.times { all = [all] }; all.inspect')
}

/** Lets V8 collect what nobody holds, and call what is to be called then. */
async function letGo() {
  for (let i = 0; i < 3; i++) {
    collect()
    await turn()
  }
}

// Ruby that has run out of its stack makes node:wasi of Node.js 20 and 22 end the process later,
// whether it is restored or not.
const ENDS_NODE = ['a recursion without an end', 'a trap']
const major = Number.parseInt(process.versions.node, 10)
const leavingsOver = wasi =>
  Object.entries(LEAVINGS).filter(
    ([name]) => wasi === 'shim' || major >= 24 || !ENDS_NODE.includes(name)
  )

async function kept(options) {
  const { make, init, state } = program.poolOptions(options)
  const { value, unit } = await capture(make)
  await init({ value })
  globalThis.rubyBox = { number: 41 }
  value.vm.eval('$object = JS.global[:rubyBox]; $function = JS.eval("return it => it + 1")')
  await letGo()
  return { value, unit, state: state.map(keep => () => keep({ value })) }
}

const memoryOf = ({ instance }) => Buffer.from(instance.exports.memory.buffer)
const ofJavaScript = ({ vm }) =>
  vm.eval('$function.call(:call, nil, $object[:number]).to_i').toString()

for (const wasi of ['shim', 'node:wasi']) {
  test(`${wasi}: nothing is left of a script`, async t => {
    const { value, unit, state } = await kept({ wasi })
    const clean = checkpoint(unit, { state })
    const memory = Buffer.from(memoryOf(value))
    const digest = program.digest({ value })
    clean.restore()
    const host = hostDigest()
    for (const [name, leave] of leavingsOver(wasi)) {
      await t.test(name, () => {
        leave(value.vm)
        clean.restore()
        assert.deepEqual(changedPages(memoryOf(value), memory), [])
        assert.equal(program.digest({ value }), digest)
        clean.restore()
        assert.equal(ofJavaScript(value), '42')
        clean.restore()
        assert.deepEqual(hostDigest(), host)
      })
    }
    await t.test('what JavaScript lets go of later', async () => {
      // Not held by anything when its memory is that of another.
      ;(() => value.vm.eval('Array.new(100) { |i| "text #{i}" }'))()
      clean.restore()
      await letGo()
      assert.deepEqual(changedPages(memoryOf(value), memory), [])
    })
    await t.test('a script', async () => {
      for (let n = 0; n < 5; n++) {
        program.check(program.request({ value }, n), n)
        clean.restore()
      }
    })
    await t.test('values of JavaScript are lost without their table', () => {
      const [, descriptors] = state
      const without = checkpoint(unit, { state: [descriptors] })
      LEAVINGS['values of JavaScript'](value.vm)
      without.restore()
      assert.throws(() => ofJavaScript(value), /handle index not valid|RbError|undefined/)
    })
  })
}
