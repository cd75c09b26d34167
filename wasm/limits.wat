;; A guest that wants too much: time, stack, memory, table, and the host's attention.
;;
;; Each export runs into one limit. Before it does, it changes $progress, so that a test sees what a stopped call leaves.
(module
  (import "env" "tick" (func $tick (param i32)))
  (memory (export "memory") 1)
  (table $table 1 funcref)
  (global $progress (mut i32) (i32.const 0))

  (func $advance (global.set $progress (i32.add (global.get $progress) (i32.const 1))))
  (func (export "progress") (result i32) (global.get $progress))

  ;; Never returns, and calls nothing.
  (func (export "loop") (call $advance) (loop $again (br $again)))

  ;; Never returns, and writes a byte each round: a deadline meets it in the middle of a change.
  (func (export "scribble")
    (loop $again
      (call $advance)
      (i32.store8 (i32.and (global.get $progress) (i32.const 0xffff)) (i32.const 1))
      (br $again)))

  ;; Never returns, and is in the host most of the time.
  (func (export "nag") (loop $again (call $advance) (call $tick (global.get $progress)) (br $again)))

  ;; Calls itself until the engine's stack is exhausted; the addition keeps it from being a tail call.
  (func $recurse (export "recurse") (result i32)
    (call $advance)
    (i32.add (call $recurse) (i32.const 1)))

  ;; Grows until growing fails; answers how many pages or elements there are then.
  (func (export "eat_memory") (param $step i32) (result i32)
    (loop $again
      (call $advance)
      (br_if $again (i32.ne (memory.grow (local.get $step)) (i32.const -1))))
    (memory.size))
  (func (export "eat_table") (param $step i32) (result i32)
    (loop $again
      (call $advance)
      (br_if $again (i32.ne (table.grow $table (ref.null func) (local.get $step)) (i32.const -1))))
    (table.size $table)))
