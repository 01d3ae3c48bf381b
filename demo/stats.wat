;; Statistics and a histogram of float32 values, in one call over a range of linear memory.
;;
;; The host makes the memory. The first page belongs to this module (see below), and the data may be
;; at any address after it. The module writes only to the first page, so the data can be mapped
;; read-only.
;;
;; There are three passes, because each needs the result of the one before:
;;   1. $summarize  count, minimum, maximum and sum of the finite values   -> mean
;;   2. $deviate    sum of the squared distances from the mean             -> standard deviation
;;   3. $classify   histogram over mean +- 4 standard deviations, within minimum and maximum
;; (The one-pass formula for the variance loses precision if the mean is large compared with the
;; spread.)
;;
;; NaNs and infinities are counted and otherwise ignored. Sums are f64.
;;
;; Every pass takes four values at a time (SIMD) and is called for blocks of 1 MiB, because V8
;; starts a function in baseline code and switches to optimized code only at the next call.

(module
  (import "host" "memory" (memory 1))

  ;; The first page:
  ;;
  ;;     0  the report, which the host reads:
  ;;          0  u32  finite values          24  f64  mean
  ;;          4  u32  NaNs                   32  f64  standard deviation (of the population)
  ;;          8  u32  infinities             40  f64  lower edge of the first bin
  ;;         12  u32  number of bins         48  f64  upper edge of the last bin
  ;;         16  f32  minimum                56  u32  finite values below the first bin
  ;;         20  f32  maximum                60  u32  for each of the 64 bins,
  ;;                                         then 316 those above the last
  ;;   512  tail: the last one to three values, padded with NaNs to a whole vector
  ;;  1024  tally: four u32 for each of below, 64 bins, above, not finite. One per SIMD lane:
  ;;        neighbors often fall into the same bin, and an increment would have to wait for the
  ;;        previous one.
  (global $report i32 (i32.const 0))
  (global $tail i32 (i32.const 512))
  (global $tally i32 (i32.const 1024))

  (global $bins i32 (i32.const 64))
  (global $blockBytes i32 (i32.const 0x100000))

  ;; The passes' sums, lane by lane.
  (global $finite (mut v128) (v128.const i32x4 0 0 0 0))
  (global $nans (mut v128) (v128.const i32x4 0 0 0 0))
  (global $min (mut v128) (v128.const f32x4 inf inf inf inf))
  (global $max (mut v128) (v128.const f32x4 -inf -inf -inf -inf))
  (global $sum (mut v128) (v128.const f64x2 0 0))
  (global $squares (mut v128) (v128.const f64x2 0 0))

  ;; Results of one pass for the next.
  (global $mean (mut f64) (f64.const 0))
  (global $low (mut f64) (f64.const 0))
  (global $binsPerUnit (mut f64) (f64.const 0))

  ;; Reads byteLength / 4 values at $pointer and returns the address of the report.
  ;; byteLength is a multiple of 4. Addresses and lengths are unsigned: a memory can have 4 GiB.
  (func (export "scan") (param $pointer i32) (param $byteLength i32) (result i32)
    (local $end i32)
    (local $tailBytes i32)

    ;; the end of the whole vectors
    (local.set $end (i32.add (local.get $pointer) (i32.and (local.get $byteLength) (i32.const -16))))
    (local.set $tailBytes (i32.and (local.get $byteLength) (i32.const 12)))
    (v128.store (global.get $tail) (v128.const f32x4 nan nan nan nan))
    (memory.copy (global.get $tail) (local.get $end) (local.get $tailBytes))

    (call $reset)
    (call $pass (i32.const 0) (local.get $pointer) (local.get $end))
    (call $finishSummary (i32.shr_u (local.get $byteLength) (i32.const 2)) (local.get $tailBytes))
    (call $pass (i32.const 1) (local.get $pointer) (local.get $end))
    (call $finishDeviation)
    (call $pass (i32.const 2) (local.get $pointer) (local.get $end))
    (call $finishHistogram)
    (global.get $report))

  ;; Runs one of the passes over all blocks and the tail.
  (type $blockPass (func (param $pointer i32) (param $end i32)))
  (table funcref (elem $summarize $deviate $classify))
  (func $pass (param $which i32) (param $pointer i32) (param $end i32)
    (local $blockEnd i32)
    (block $done
      (loop $next
        (br_if $done (i32.eq (local.get $pointer) (local.get $end)))
        (local.set $blockEnd
          (select
            (i32.add (local.get $pointer) (global.get $blockBytes))
            (local.get $end)
            (i32.gt_u (i32.sub (local.get $end) (local.get $pointer)) (global.get $blockBytes))))
        (call_indirect (type $blockPass) (local.get $pointer) (local.get $blockEnd) (local.get $which))
        (local.set $pointer (local.get $blockEnd))
        (br $next)))
    (call_indirect (type $blockPass)
      (global.get $tail) (i32.add (global.get $tail) (i32.const 16)) (local.get $which)))

  (func $reset
    (memory.fill (global.get $report) (i32.const 0) (i32.const 512))
    (memory.fill (global.get $tally) (i32.const 0) (i32.const 2048))
    (global.set $finite (v128.const i32x4 0 0 0 0))
    (global.set $nans (v128.const i32x4 0 0 0 0))
    (global.set $min (v128.const f32x4 inf inf inf inf))
    (global.set $max (v128.const f32x4 -inf -inf -inf -inf))
    (global.set $sum (v128.const f64x2 0 0))
    (global.set $squares (v128.const f64x2 0 0)))

  ;; ---- Pass 1: count, minimum, maximum, sum

  (func $summarize (param $pointer i32) (param $end i32)
    (local $values v128)
    (local $isFinite v128)
    (local $zeroed v128)
    (local $upper v128)
    (local $finite v128)
    (local $nans v128)
    (local $min v128)
    (local $max v128)
    (local $sum v128)
    (local.set $min (global.get $min))
    (local.set $max (global.get $max))
    (loop $next
      (local.set $values (v128.load (local.get $pointer)))
      (local.set $isFinite
        (f32x4.lt (f32x4.abs (local.get $values)) (v128.const f32x4 inf inf inf inf)))

      ;; A comparison gives -1 in each lane where it is true, so subtracting counts.
      (local.set $finite (i32x4.sub (local.get $finite) (local.get $isFinite)))
      (local.set $nans
        (i32x4.sub (local.get $nans) (f32x4.ne (local.get $values) (local.get $values))))

      (local.set $min
        (f32x4.pmin (local.get $min)
          (v128.bitselect (local.get $values) (local.get $min) (local.get $isFinite))))
      (local.set $max
        (f32x4.pmax (local.get $max)
          (v128.bitselect (local.get $values) (local.get $max) (local.get $isFinite))))

      (local.set $zeroed (v128.and (local.get $values) (local.get $isFinite)))
      (local.set $upper
        (i8x16.shuffle 8 9 10 11 12 13 14 15 8 9 10 11 12 13 14 15
          (local.get $zeroed) (local.get $zeroed)))
      (local.set $sum
        (f64x2.add (local.get $sum)
          (f64x2.add
            (f64x2.promote_low_f32x4 (local.get $zeroed))
            (f64x2.promote_low_f32x4 (local.get $upper)))))

      (local.set $pointer (i32.add (local.get $pointer) (i32.const 16)))
      (br_if $next (i32.ne (local.get $pointer) (local.get $end))))

    (global.set $finite (i32x4.add (global.get $finite) (local.get $finite)))
    (global.set $nans (i32x4.add (global.get $nans) (local.get $nans)))
    (global.set $min (local.get $min))
    (global.set $max (local.get $max))
    (global.set $sum (f64x2.add (global.get $sum) (local.get $sum))))

  (func $finishSummary (param $values i32) (param $tailBytes i32)
    (local $finite i32)
    (local $nans i32)
    (local.set $finite (call $addLanes (global.get $finite)))
    ;; minus the NaNs that pad the tail
    (local.set $nans
      (i32.sub
        (call $addLanes (global.get $nans))
        (i32.sub (i32.const 4) (i32.shr_u (local.get $tailBytes) (i32.const 2)))))
    (global.set $mean
      (f64.div
        (f64.add (f64x2.extract_lane 0 (global.get $sum)) (f64x2.extract_lane 1 (global.get $sum)))
        (f64.convert_i32_u (local.get $finite))))

    (i32.store offset=0 (global.get $report) (local.get $finite))
    (i32.store offset=4 (global.get $report) (local.get $nans))
    (i32.store offset=8 (global.get $report)
      (i32.sub (i32.sub (local.get $values) (local.get $finite)) (local.get $nans)))
    (i32.store offset=12 (global.get $report) (global.get $bins))
    (f32.store offset=16 (global.get $report)
      (f32.min
        (f32.min (f32x4.extract_lane 0 (global.get $min)) (f32x4.extract_lane 1 (global.get $min)))
        (f32.min (f32x4.extract_lane 2 (global.get $min)) (f32x4.extract_lane 3 (global.get $min)))))
    (f32.store offset=20 (global.get $report)
      (f32.max
        (f32.max (f32x4.extract_lane 0 (global.get $max)) (f32x4.extract_lane 1 (global.get $max)))
        (f32.max (f32x4.extract_lane 2 (global.get $max)) (f32x4.extract_lane 3 (global.get $max)))))
    (f64.store offset=24 (global.get $report) (global.get $mean)))

  ;; ---- Pass 2: squared distances from the mean

  (func $deviate (param $pointer i32) (param $end i32)
    (local $values v128)
    (local $mean v128)
    (local $distance01 v128)
    (local $distance23 v128)
    (local $squares v128)
    (local.set $mean (f64x2.splat (global.get $mean)))
    (loop $next
      (local.set $values (v128.load (local.get $pointer)))
      (local.set $distance01
        (f64x2.sub (f64x2.promote_low_f32x4 (local.get $values)) (local.get $mean)))
      (local.set $values
        (i8x16.shuffle 8 9 10 11 12 13 14 15 8 9 10 11 12 13 14 15
          (local.get $values) (local.get $values)))
      (local.set $distance23
        (f64x2.sub (f64x2.promote_low_f32x4 (local.get $values)) (local.get $mean)))

      ;; The mean is finite, so a distance is finite exactly if the value is.
      (local.set $squares
        (f64x2.add (local.get $squares)
          (f64x2.add
            (v128.and
              (f64x2.mul (local.get $distance01) (local.get $distance01))
              (f64x2.lt (f64x2.abs (local.get $distance01)) (v128.const f64x2 inf inf)))
            (v128.and
              (f64x2.mul (local.get $distance23) (local.get $distance23))
              (f64x2.lt (f64x2.abs (local.get $distance23)) (v128.const f64x2 inf inf))))))

      (local.set $pointer (i32.add (local.get $pointer) (i32.const 16)))
      (br_if $next (i32.ne (local.get $pointer) (local.get $end))))
    (global.set $squares (f64x2.add (global.get $squares) (local.get $squares))))

  (func $finishDeviation
    (local $deviation f64)
    (local $low f64)
    (local $high f64)
    (local.set $deviation
      (f64.sqrt
        (f64.div
          (f64.add
            (f64x2.extract_lane 0 (global.get $squares))
            (f64x2.extract_lane 1 (global.get $squares)))
          (f64.convert_i32_u (i32.load offset=0 (global.get $report))))))
    (local.set $low
      (f64.max
        (f64.promote_f32 (f32.load offset=16 (global.get $report)))
        (f64.sub (global.get $mean) (f64.mul (local.get $deviation) (f64.const 4)))))
    (local.set $high
      (f64.min
        (f64.promote_f32 (f32.load offset=20 (global.get $report)))
        (f64.add (global.get $mean) (f64.mul (local.get $deviation) (f64.const 4)))))

    (f64.store offset=32 (global.get $report) (local.get $deviation))
    (f64.store offset=40 (global.get $report) (local.get $low))
    (f64.store offset=48 (global.get $report) (local.get $high))
    (global.set $low (local.get $low))
    ;; 0 puts all values into the first bin if they are equal.
    (global.set $binsPerUnit
      (select
        (f64.div (f64.convert_i32_u (global.get $bins)) (f64.sub (local.get $high) (local.get $low)))
        (f64.const 0)
        (f64.gt (local.get $high) (local.get $low)))))

  ;; ---- Pass 3: histogram

  (func $classify (param $pointer i32) (param $end i32)
    (local $values v128)
    (local $upper v128)
    (local $slots01 v128)
    (local $slots23 v128)
    (local $slots v128)
    (local $lowest v128)
    (local $perUnit v128)
    (local $above v128)
    (local $notFinite v128)
    (local $tally v128)
    (local $slot i32)
    (local.set $lowest (f64x2.splat (global.get $low)))
    (local.set $perUnit (f64x2.splat (global.get $binsPerUnit)))
    (local.set $above (i32x4.splat (i32.add (global.get $bins) (i32.const 1))))
    (local.set $notFinite (i32x4.splat (i32.add (global.get $bins) (i32.const 2))))
    (local.set $tally (i32x4.splat (global.get $tally)))
    (loop $next
      (local.set $values (v128.load (local.get $pointer)))

      ;; Slot 0 is for values below, 1 for the first bin; $above and $notFinite are the last two.
      ;; With the first bin at 1, truncation maps everything below it to 0 or less.
      (local.set $slots01
        (i32x4.trunc_sat_f64x2_s_zero
          (f64x2.add
            (f64x2.mul
              (f64x2.sub (f64x2.promote_low_f32x4 (local.get $values)) (local.get $lowest))
              (local.get $perUnit))
            (v128.const f64x2 1 1))))
      (local.set $upper
        (i8x16.shuffle 8 9 10 11 12 13 14 15 8 9 10 11 12 13 14 15
          (local.get $values) (local.get $values)))
      (local.set $slots23
        (i32x4.trunc_sat_f64x2_s_zero
          (f64x2.add
            (f64x2.mul
              (f64x2.sub (f64x2.promote_low_f32x4 (local.get $upper)) (local.get $lowest))
              (local.get $perUnit))
            (v128.const f64x2 1 1))))
      (local.set $slots
        (i8x16.shuffle 0 1 2 3 4 5 6 7 16 17 18 19 20 21 22 23
          (local.get $slots01) (local.get $slots23)))
      (local.set $slots
        (i32x4.min_s
          (i32x4.max_s (local.get $slots) (v128.const i32x4 0 0 0 0))
          (local.get $above)))
      (local.set $slots
        (v128.bitselect
          (local.get $slots)
          (local.get $notFinite)
          (f32x4.lt (f32x4.abs (local.get $values)) (v128.const f32x4 inf inf inf inf))))

      ;; addresses from here on: four u32 per slot
      (local.set $slots
        (i32x4.add (i32x4.shl (local.get $slots) (i32.const 4)) (local.get $tally)))
      (local.set $slot (i32x4.extract_lane 0 (local.get $slots)))
      (i32.store offset=0 (local.get $slot)
        (i32.add (i32.load offset=0 (local.get $slot)) (i32.const 1)))
      (local.set $slot (i32x4.extract_lane 1 (local.get $slots)))
      (i32.store offset=4 (local.get $slot)
        (i32.add (i32.load offset=4 (local.get $slot)) (i32.const 1)))
      (local.set $slot (i32x4.extract_lane 2 (local.get $slots)))
      (i32.store offset=8 (local.get $slot)
        (i32.add (i32.load offset=8 (local.get $slot)) (i32.const 1)))
      (local.set $slot (i32x4.extract_lane 3 (local.get $slots)))
      (i32.store offset=12 (local.get $slot)
        (i32.add (i32.load offset=12 (local.get $slot)) (i32.const 1)))

      (local.set $pointer (i32.add (local.get $pointer) (i32.const 16)))
      (br_if $next (i32.ne (local.get $pointer) (local.get $end)))))

  (func $finishHistogram
    (local $slot i32)
    (local $lastBin i32)
    (local $above i32)
    ;; adds up the lanes of each slot: below, the bins and above
    (loop $next
      (i32.store offset=56
        (i32.add (global.get $report) (i32.shl (local.get $slot) (i32.const 2)))
        (call $addLanes
          (v128.load (i32.add (global.get $tally) (i32.shl (local.get $slot) (i32.const 4))))))
      (local.set $slot (i32.add (local.get $slot) (i32.const 1)))
      (br_if $next (i32.le_u (local.get $slot) (i32.add (global.get $bins) (i32.const 1)))))

    ;; If the last bin ends at the maximum, the maximum was counted as above, but it belongs to the
    ;; bin.
    (local.set $lastBin (i32.add (global.get $report) (i32.shl (global.get $bins) (i32.const 2))))
    (local.set $above (i32.load offset=60 (local.get $lastBin)))
    (if (f64.ge
          (f64.load offset=48 (global.get $report))
          (f64.promote_f32 (f32.load offset=20 (global.get $report))))
      (then
        (i32.store offset=56 (local.get $lastBin)
          (i32.add (i32.load offset=56 (local.get $lastBin)) (local.get $above)))
        (i32.store offset=60 (local.get $lastBin) (i32.const 0)))))

  (func $addLanes (param $counts v128) (result i32)
    (i32.add
      (i32.add (i32x4.extract_lane 0 (local.get $counts)) (i32x4.extract_lane 1 (local.get $counts)))
      (i32.add (i32x4.extract_lane 2 (local.get $counts)) (i32x4.extract_lane 3 (local.get $counts))))))
