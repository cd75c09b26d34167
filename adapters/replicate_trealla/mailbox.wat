;; What the interpreter calls while it answers, without Python: the driver's messages are kept in the mailbox until the host
;; takes them when the call has returned, and the driver is told whether to go on. What this can't decide goes to Python.
;;
;; The mailbox: [0] where the next message goes, [4] how many there were in this call, [8] how many answers are wanted,
;; [12] whether the request is settled; messages from 16 on: a length, and the bytes, padded to 4.
;; Calls of predicates, "[4" to "[6", do go to Python, but what's said lies in the mailbox's last page, both ways.
(module
  (import "guest" "memory" (memory $guest 1))
  (import "guest" "canonical_abi_realloc" (func $allocate (param i32 i32 i32 i32) (result i32)))
  (import "host" "predicate" (func $predicate (param i32) (result i32)))
  (import "host" "host-call" (func $host_call (param i32 i32 i32 i32 i32) (result i32)))
  (import "host" "clock_time_get" (func $host_clock (param i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "clock_time_get" (func $engine_clock (param i32 i64 i32) (result i32)))
  (memory $mailbox (export "mailbox") 5 5)
  (export "memory" (memory $guest))

  ;; Only real time is the same for all instances of an engine: its other clocks count from when the instance was made.
  (func (export "clock_time_get") (param $clock i32) (param $precision i64) (param $at i32) (result i32)
    (if (result i32) (i32.eqz (local.get $clock))
      (then (call $engine_clock (i32.const 0) (local.get $precision) (local.get $at)))
      (else (call $host_clock (local.get $clock) (local.get $precision) (local.get $at)))))

  ;; Tell whether a message has a token of a variable with constraints, "[8,".
  (func $has_constraints (param $at i32) (param $end i32) (result i32)
    (block $none
      (loop $next
        (br_if $none (i32.gt_u (i32.add (local.get $at) (i32.const 3)) (local.get $end)))
        (if (i32.and (i32.eq (i32.load16_u $guest (local.get $at)) (i32.const 0x385b))
                     (i32.eq (i32.load8_u $guest offset=2 (local.get $at)) (i32.const 0x2c)))
          (then (return (i32.const 1))))
        (local.set $at (i32.add (local.get $at) (i32.const 1)))
        (br $next)))
    (i32.const 0))

  ;; Have Python call a predicate: succeed, with a reply if it has one, or fail; -1 if the reply is too long to be told here.
  (func $call_predicate (param $message i32) (param $size i32) (param $reply i32) (param $reply_size i32) (result i32)
    (local $length i32) (local $at i32)
    (memory.copy $mailbox $guest (i32.const 0x40000) (local.get $message) (local.get $size))
    (local.set $length (call $predicate (local.get $size)))
    (if (i32.eq (local.get $length) (i32.const -1)) (then (return (i32.const 2))))
    (if (i32.lt_s (local.get $length) (i32.const 0)) (then (return (i32.const -1))))
    (if (local.get $length)
      (then
        (local.set $at (call $allocate (i32.const 0) (i32.const 0) (i32.const 1) (local.get $length)))
        (if (i32.eqz (local.get $at)) (then (return (i32.const 0))))
        (memory.copy $guest $mailbox (local.get $at) (i32.const 0x40000) (local.get $length))
        (i32.store $guest (local.get $reply) (local.get $at))))
    (i32.store $guest (local.get $reply_size) (local.get $length))
    (i32.const 1))

  (func (export "host-call")
    (param $query i32) (param $message i32) (param $size i32) (param $reply i32) (param $reply_size i32) (result i32)
    (local $kind i32) (local $at i32) (local $next i32) (local $count i32)
    (block $python
      (br_if $python (i32.lt_u (local.get $size) (i32.const 3)))
      ;; "[0", "[1" or "[2"
      (br_if $python (i32.ne (i32.load8_u $guest (local.get $message)) (i32.const 0x5b)))
      (local.set $kind (i32.sub (i32.load8_u $guest offset=1 (local.get $message)) (i32.const 0x30)))
      (if (i32.and (i32.ge_u (local.get $kind) (i32.const 4)) (i32.le_u (local.get $kind) (i32.const 6)))
        (then
          (br_if $python (i32.gt_u (local.get $size) (i32.const 0x10000)))
          (local.set $at (call $call_predicate
            (local.get $message) (local.get $size) (local.get $reply) (local.get $reply_size)))
          (br_if $python (i32.eq (local.get $at) (i32.const -1)))
          (return (local.get $at))))
      (br_if $python (i32.gt_u (local.get $kind) (i32.const 2)))
      (if (i32.eq (local.get $kind) (i32.const 1))
        (then (br_if $python
          (call $has_constraints (local.get $message) (i32.add (local.get $message) (local.get $size))))))
      (local.set $at (i32.load $mailbox (i32.const 0)))
      (br_if $python (i32.gt_u (local.get $size) (i32.const 0x10000)))
      (local.set $next
        (i32.and (i32.add (i32.add (local.get $at) (local.get $size)) (i32.const 7)) (i32.const -4)))
      (br_if $python (i32.gt_u (local.get $next) (i32.const 0x40000)))
      (i32.store $mailbox (local.get $at) (local.get $size))
      (memory.copy $mailbox $guest
        (i32.add (local.get $at) (i32.const 4)) (local.get $message) (local.get $size))
      (i32.store $mailbox (i32.const 0) (local.get $next))
      (local.set $count (i32.add (i32.load $mailbox (i32.const 4)) (i32.const 1)))
      (i32.store $mailbox (i32.const 4) (local.get $count))
      (if (i32.and (i32.eq (local.get $kind) (i32.const 1))
                   (i32.lt_u (local.get $count) (i32.load $mailbox (i32.const 8))))
        (then
          ;; The guest takes the reply's length even where there's none.
          (i32.store $guest (local.get $reply_size) (i32.const 0))
          (return (i32.const 1))))
      (i32.store $mailbox (i32.const 12) (i32.const 1))
      (return (i32.const 2)))
    (call $host_call (local.get $query) (local.get $message) (local.get $size) (local.get $reply) (local.get $reply_size))))
