;; Hidden state: mutable globals of every number type and a memory, none of them exported.
;;
;; A host sees only the functions. Copying exported memories copies nothing of this module, and a copy that reads floats
;; as numbers loses the bits of a NaN (a signalling one is quieted on the way), so floats go in and out as bits.
;; $steps counts the calls that changed something: a replica that agrees in it has seen the same history.
(module
  (global $i32 (mut i32) (i32.const 1))
  (global $i64 (mut i64) (i64.const 2))
  (global $f32 (mut f32) (f32.const 3))
  (global $f64 (mut f64) (f64.const 4))
  (global $v128 (mut v128) (v128.const i64x2 5 6))
  (global $steps (mut i32) (i32.const 0))
  (memory $hidden 1 4)
  (data (i32.const 0) "seven")

  (func $step (global.set $steps (i32.add (global.get $steps) (i32.const 1))))
  (func (export "steps") (result i32) (global.get $steps))

  (func (export "get_i32") (result i32) (global.get $i32))
  (func (export "set_i32") (param i32) (global.set $i32 (local.get 0)) (call $step))
  (func (export "get_i64") (result i64) (global.get $i64))
  (func (export "set_i64") (param i64) (global.set $i64 (local.get 0)) (call $step))

  ;; Floats as their bits.
  (func (export "get_f32") (result i32) (i32.reinterpret_f32 (global.get $f32)))
  (func (export "set_f32") (param i32) (global.set $f32 (f32.reinterpret_i32 (local.get 0))) (call $step))
  (func (export "get_f64") (result i64) (i64.reinterpret_f64 (global.get $f64)))
  (func (export "set_f64") (param i64) (global.set $f64 (f64.reinterpret_i64 (local.get 0))) (call $step))

  ;; A vector as its two halves.
  (func (export "get_v128_low") (result i64) (i64x2.extract_lane 0 (global.get $v128)))
  (func (export "get_v128_high") (result i64) (i64x2.extract_lane 1 (global.get $v128)))
  (func (export "set_v128") (param $low i64) (param $high i64)
    (global.set $v128
      (i64x2.replace_lane 1 (i64x2.splat (local.get $low)) (local.get $high)))
    (call $step))

  (func (export "peek") (param $address i32) (result i32) (i32.load8_u (local.get $address)))
  (func (export "poke") (param $address i32) (param $value i32)
    (i32.store8 (local.get $address) (local.get $value))
    (call $step))
  (func (export "grow") (param $pages i32) (result i32) (call $step) (memory.grow (local.get $pages)))
  (func (export "pages") (result i32) (memory.size))

  ;; Changes the globals and the memory, then traps: all of it has to be undone.
  (func (export "change_then_trap")
    (global.set $i32 (i32.const -1))
    (global.set $i64 (i64.const -1))
    (global.set $f32 (f32.const nan:0x200000))
    (global.set $f64 (f64.const nan:0x4000000000000))
    (global.set $v128 (v128.const i64x2 -1 -1))
    (i32.store8 (i32.const 0) (i32.const 0))
    (drop (memory.grow (i32.const 1)))
    (call $step)
    unreachable))
