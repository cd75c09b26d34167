;; Several memories: an exported one, a hidden one beside it, and a hidden one with 64-bit addresses.
;;
;; Copying "the" memory copies the first. Needs multi-memory and memory64, which not every engine has.
(module
  (memory $shown (export "memory") 1 8)
  (memory $hidden 1 8)
  (memory $wide i64 1 8)
  (data $hidden_text (memory $hidden) (i32.const 16) "hidden")

  (func (export "shown_load") (param i32) (result i64) (i64.load $shown (local.get 0)))
  (func (export "shown_store") (param i32 i64) (i64.store $shown (local.get 0) (local.get 1)))
  (func (export "hidden_load") (param i32) (result i64) (i64.load $hidden (local.get 0)))
  (func (export "hidden_store") (param i32 i64) (i64.store $hidden (local.get 0) (local.get 1)))
  (func (export "wide_load") (param i64) (result i64) (i64.load $wide (local.get 0)))
  (func (export "wide_store") (param i64 i64) (i64.store $wide (local.get 0) (local.get 1)))

  ;; From one memory to another, which no host-side view of a single memory would notice.
  (func (export "publish") (param $from i32) (param $to i32) (param $length i32)
    (memory.copy $shown $hidden (local.get $to) (local.get $from) (local.get $length)))

  (func (export "shown_grow") (param i32) (result i32) (memory.grow $shown (local.get 0)))
  (func (export "hidden_grow") (param i32) (result i32) (memory.grow $hidden (local.get 0)))
  (func (export "wide_grow") (param i64) (result i64) (memory.grow $wide (local.get 0)))
  (func (export "shown_pages") (result i32) (memory.size $shown))
  (func (export "hidden_pages") (result i32) (memory.size $hidden))
  (func (export "wide_pages") (result i64) (memory.size $wide))

  (func (export "change_then_trap")
    (i64.store $shown (i32.const 0) (i64.const -1))
    (i64.store $hidden (i32.const 0) (i64.const -1))
    (i64.store $wide (i64.const 0) (i64.const -1))
    (drop (memory.grow $hidden (i32.const 1)))
    unreachable))
