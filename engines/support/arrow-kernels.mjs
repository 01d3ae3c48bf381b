// Kernels over Arrow columns, for memories of either address type.

import initWabt from 'wabt'

const WAT = `(module
  (import "host" "memory" (memory $type 1))
  ;; The sum of values of 64 bits. A null does not count: validity is 0 if there are none.
  (func (export "sum") (param $values $ptr) (param $length i32) (result f64)
    (local $sum f64)
    (block $done
      (loop $next
        (br_if $done (i32.eqz (local.get $length)))
        (local.set $sum (f64.add (local.get $sum) (f64.load (local.get $values))))
        (local.set $values ($ptr.add (local.get $values) ($ptr.const 8)))
        (local.set $length (i32.sub (local.get $length) (i32.const 1)))
        (br $next)))
    (local.get $sum))
  ;; How many of the valid values of 32 bits are greater than a limit.
  (func (export "greater")
    (param $values $ptr) (param $validity $ptr) (param $bit i32) (param $length i32)
    (param $limit i32) (result i32)
    (local $count i32) (local $valid i32)
    (block $done
      (loop $next
        (br_if $done (i32.eqz (local.get $length)))
        (local.set $valid (i32.const 1))
        (if ($ptr.ne (local.get $validity) ($ptr.const 0))
          (then
            (local.set $valid
              (i32.and
                (i32.shr_u (i32.load8_u (local.get $validity)) (local.get $bit))
                (i32.const 1)))
            (local.set $bit (i32.add (local.get $bit) (i32.const 1)))
            (if (i32.eq (local.get $bit) (i32.const 8))
              (then
                (local.set $bit (i32.const 0))
                (local.set $validity ($ptr.add (local.get $validity) ($ptr.const 1)))))))
        (local.set $count
          (i32.add
            (local.get $count)
            (i32.and
              (local.get $valid)
              (i32.gt_s (i32.load (local.get $values)) (local.get $limit)))))
        (local.set $values ($ptr.add (local.get $values) ($ptr.const 4)))
        (local.set $length (i32.sub (local.get $length) (i32.const 1)))
        (br $next)))
    (local.get $count))
  ;; The sum of all bytes of texts.
  (func (export "textSum") (param $data $ptr) (param $offsets $ptr) (param $length i32) (result i32)
    (local $at i32) (local $end i32) (local $sum i32)
    (local.set $at (i32.load (local.get $offsets)))
    (local.set $end
      (i32.load
        ($ptr.add
          (local.get $offsets)
          $wide((i32.mul (local.get $length) (i32.const 4))))))
    (block $done
      (loop $next
        (br_if $done (i32.ge_u (local.get $at) (local.get $end)))
        (local.set $sum
          (i32.add
            (local.get $sum)
            (i32.load8_u ($ptr.add (local.get $data) $wide((local.get $at))))))
        (local.set $at (i32.add (local.get $at) (i32.const 1)))
        (br $next)))
    (local.get $sum)))`

/** Makes the kernels in a memory. */
export async function makeKernels(guarded) {
  const wabt = await initWabt()
  const is64 = guarded.address === 'i64'
  const text = WAT.replace('$type', is64 ? 'i64' : '')
    .replaceAll('$ptr', is64 ? 'i64' : 'i32')
    .replaceAll('$wide(', is64 ? '(i64.extend_i32_u ' : '(i32.add (i32.const 0) ')
  const { buffer } = wabt.parseWat('kernels.wat', text, { memory64: is64 }).toBinary({})
  const module = new WebAssembly.Module(buffer)
  return new WebAssembly.Instance(module, { host: { memory: guarded.memory } }).exports
}
