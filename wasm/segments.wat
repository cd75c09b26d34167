;; Passive segments: data and elements that lie in the module until copied, and that can be dropped.
;;
;; Dropped is state which no host interface shows. It shows in one thing only: `memory.init` or `table.init` with a source
;; past the (now empty) segment traps. A dropped segment never comes back, so a rolled-back drop needs a new instance.
(module
  (type $answer (func (result i32)))
  (memory (export "memory") 1)
  (table $table 4 funcref)

  (data $greeting "hello")
  (data $farewell "bye")
  (elem $answers func $one $two)
  (elem $more func $two)

  (func $one (result i32) (i32.const 1))
  (func $two (result i32) (i32.const 2))

  (func (export "greet") (param $to i32) (param $from i32) (param $length i32)
    (memory.init $greeting (local.get $to) (local.get $from) (local.get $length)))
  (func (export "part") (param $to i32) (param $from i32) (param $length i32)
    (memory.init $farewell (local.get $to) (local.get $from) (local.get $length)))
  (func (export "drop_greeting") (data.drop $greeting))
  (func (export "drop_farewell") (data.drop $farewell))

  (func (export "learn") (param $to i32) (param $from i32) (param $length i32)
    (table.init $table $answers (local.get $to) (local.get $from) (local.get $length)))
  (func (export "learn_more") (param $to i32) (param $from i32) (param $length i32)
    (table.init $table $more (local.get $to) (local.get $from) (local.get $length)))
  (func (export "drop_answers") (elem.drop $answers))
  (func (export "drop_more") (elem.drop $more))

  (func (export "answer") (param $index i32) (result i32)
    (call_indirect $table (type $answer) (local.get $index)))
  (func (export "peek") (param $address i32) (result i32) (i32.load8_u (local.get $address)))

  (func (export "drop_then_trap") (data.drop $greeting) (elem.drop $answers) unreachable))
