// The program of the benchmark `random`: it adds up 64-bit words at places that it chooses itself,
// so that there is no call per word.

import { compile, warmUp } from './module.mjs'

// The loop of bench/native/src/read.rs. The place is the upper half of xorshift64, times the number
// of words.
const wat = address => {
  const toAddress = expression => (address === 'i64' ? expression : `(i32.wrap_i64 ${expression})`)
  const read = (name, chosen) => `
  (func (export "${name}") (param $at i64) (param $words i64) (param $reads i32) (result i64)
    (local $state i64) (local $sum i64) (local $word i64)
    (local.set $state (i64.const 0x9e3779b97f4a7c15))
    (loop $next
      (local.set $state (i64.xor (local.get $state) (i64.shl (local.get $state) (i64.const 13))))
      (local.set $state (i64.xor (local.get $state) (i64.shr_u (local.get $state) (i64.const 7))))
      (local.set $state (i64.xor (local.get $state) (i64.shl (local.get $state) (i64.const 17))))
      (local.set $word (i64.load ${toAddress(`
        (i64.add (local.get $at) (i64.shl (i64.shr_u (i64.mul
          (i64.shr_u ${chosen} (i64.const 32)) (local.get $words)) (i64.const 32)) (i64.const 3)))`)}))
      (local.set $sum (i64.add (local.get $sum) (local.get $word)))
      (br_if $next (local.tee $reads (i32.sub (local.get $reads) (i32.const 1)))))
    (local.get $sum))`
  return `
(module
  (import "env" "memory" (memory ${address === 'i64' ? 'i64' : ''} 1))
  ${read('random', '(local.get $state)')}
  ;; Each place depends on the word before.
  ${read('chain', '(i64.xor (local.get $state) (local.get $word))')})
`
}

/**
 * Compiles the program for 32-bit or 64-bit memories. The returned function makes an instance over
 * a memory and returns `random` and `chain`: (address, number of words, number of reads), the first
 * two as BigInts.
 */
export async function compileRandom(address) {
  const module = await compile('random', wat(address), { memory64: true })
  const over = memory => new WebAssembly.Instance(module, { env: { memory } }).exports
  const options = address === 'i64' ? { initial: 1n, address } : { initial: 1 }
  const { random, chain } = over(new WebAssembly.Memory(options))
  await warmUp(() => {
    for (let i = 0; i < 100; i++) {
      random(0n, 8192n, 8192)
      chain(0n, 8192n, 8192)
    }
  })
  return over
}
