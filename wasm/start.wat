;; A start function that can be seen to have run, and all four kinds of imports.
;;
;; The start function adds 1 to the imported global, writes a byte to the imported memory, sets an element of the imported
;; table and calls the imported function. It must run once, on the leader: a replica that runs it again starts with other
;; state and repeats the side effect on the host. Imported memory, global and table are state like defined ones.
(module
  (import "env" "notify" (func $notify (param i32)))
  (import "env" "memory" (memory 1 4))
  (import "env" "counter" (global $counter (mut i32)))
  (import "env" "base" (global $base i32))
  (import "env" "table" (table 4 8 funcref))
  (global $starts (mut i32) (i32.const 0))

  (func $start
    (global.set $starts (i32.add (global.get $starts) (i32.const 1)))
    (global.set $counter (i32.add (global.get $counter) (i32.const 1)))
    (i32.store8 (i32.const 0) (i32.add (i32.load8_u (i32.const 0)) (i32.const 1)))
    (table.set (i32.const 0) (ref.func $answer))
    (call $notify (global.get $base)))
  (start $start)

  (func $answer (result i32) (i32.add (global.get $base) (global.get $counter)))
  (elem declare func $answer)

  ;; How often the start function ran, as four kinds of state tell it.
  (func (export "starts") (result i32) (global.get $starts))
  (func (export "counter") (result i32) (global.get $counter))
  (func (export "byte") (result i32) (i32.load8_u (i32.const 0)))
  (func (export "answer") (result i32) (call_indirect (result i32) (i32.const 0)))

  (func (export "count") (param $by i32) (result i32)
    (global.set $counter (i32.add (global.get $counter) (local.get $by)))
    (global.get $counter))
  (func (export "forget") (table.set (i32.const 0) (ref.null func)))
  (func (export "grow") (param $pages i32) (result i32) (memory.grow (local.get $pages)))
  (func (export "tell") (param $value i32) (call $notify (local.get $value))))
