;; Function references as state: a hidden table and an exported one, a hidden funcref global, an imported function among
;; the elements.
;;
;; A reference has no bits to copy: it means a function of one instance, so a replica needs its own function of the same
;; index. The imported function `host` is the hard one: each instance imports its own.
;; Functions are named by $palette, which never changes: 0 `twice`, 1 `next`, 2 `host`, 3 null.
(module
  (type $unary (func (param i32) (result i32)))
  (import "env" "host" (func $host (type $unary)))

  (table $palette 4 4 funcref)
  (elem (table $palette) (i32.const 0) func $twice $next $host)
  (table $hidden 4 64 funcref)
  (table $shown (export "shown") 2 16 funcref)
  (elem (table $hidden) (i32.const 0) func $twice)
  (table $scratch 1 1 funcref)
  (global $favourite (mut funcref) (ref.func $next))

  (func $twice (type $unary) (i32.mul (local.get 0) (i32.const 2)))
  (func $next (type $unary) (i32.add (local.get 0) (i32.const 1)))

  ;; Calls the element, with its usual traps: null, or out of bounds.
  (func (export "call") (param $index i32) (param $x i32) (result i32)
    (call_indirect $hidden (type $unary) (local.get $x) (local.get $index)))
  (func (export "call_shown") (param $index i32) (param $x i32) (result i32)
    (call_indirect $shown (type $unary) (local.get $x) (local.get $index)))
  (func (export "is_null") (param $index i32) (result i32) (ref.is_null (table.get $hidden (local.get $index))))

  (func (export "set") (param $index i32) (param $which i32)
    (table.set $hidden (local.get $index) (table.get $palette (local.get $which))))
  (func (export "set_shown") (param $index i32) (param $which i32)
    (table.set $shown (local.get $index) (table.get $palette (local.get $which))))
  (func (export "fill") (param $index i32) (param $which i32) (param $length i32)
    (table.fill $hidden (local.get $index) (table.get $palette (local.get $which)) (local.get $length)))
  (func (export "copy") (param $to i32) (param $from i32) (param $length i32)
    (table.copy $hidden $hidden (local.get $to) (local.get $from) (local.get $length)))
  (func (export "publish") (param $to i32) (param $from i32) (param $length i32)
    (table.copy $shown $hidden (local.get $to) (local.get $from) (local.get $length)))
  (func (export "grow") (param $length i32) (param $which i32) (result i32)
    (table.grow $hidden (table.get $palette (local.get $which)) (local.get $length)))
  (func (export "size") (result i32) (table.size $hidden))

  ;; A global can't be called where it is: its reference goes through $scratch.
  (func (export "set_favourite") (param $which i32)
    (global.set $favourite (table.get $palette (local.get $which))))
  (func (export "call_favourite") (param $x i32) (result i32)
    (table.set $scratch (i32.const 0) (global.get $favourite))
    (call_indirect $scratch (type $unary) (local.get $x) (i32.const 0)))

  (func (export "change_then_trap")
    (table.set $hidden (i32.const 0) (ref.func $host))
    (drop (table.grow $hidden (ref.func $next) (i32.const 1)))
    (global.set $favourite (ref.null func))
    unreachable))
