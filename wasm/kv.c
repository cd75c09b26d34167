/* A key-value store: the guest that the tests, benchmarks and examples replicate.
 *
 * Freestanding C: no libc, no WASI, no imports; every instruction of the binary comes from this file and heap.h. One
 * open-addressing hash table holds two kinds of entries, i64 -> i64 and bytes -> bytes. The rest is there to be hard to
 * replicate: reads that write, changes that end in a trap, a shadow stack, growth, endless loops.
 *
 * State: linear memory (stack, statics, heap) and one mutable global that isn't exported, the shadow stack pointer. A
 * trap leaves that pointer where it was, so restoring the memory alone isn't enough.
 *
 * `_initialize` must run once before anything else: the store's functions trap without it, and so does a second call.
 *
 * Out of memory: `put`, `add` and `put_then_trap` trap, `put_bytes` answers -1, `alloc` and `dirty` answer 0; none of
 * them has changed an entry then. `fill` answers how many entries it stored before memory ran out.
 *
 * Pointers and lengths are unsigned; a host that reads i32 as signed must mask them.
 */

#include "heap.h"

#define EXPORT(name) __attribute__((export_name(#name)))

/* Traps. The barrier keeps the compiler from dropping the stores in front of it as never read again: here they are. */
static _Noreturn void trap(void) {
    __asm__ volatile("" ::: "memory");
    __builtin_trap();
}

/* ---- The table: linear probing, no tombstones -------------------------------------------------------------------- */

#define MAGIC 0x7265706cu
#define FIRST_CAPACITY 64u

enum kind { EMPTY, NUMBER, BYTES };

/* A NUMBER's key and value are the numbers; those of BYTES are packed spans, pointer << 32 | length. */
typedef struct slot {
    u32 kind;
    u32 hash;
    u64 key;
    u64 value;
} slot;

static struct {
    u32 magic; /* set by `_initialize` */
    u32 used;
    u32 capacity; /* a power of two */
    slot *slots;
    u64 hash_seed;
} table;

static u64 random_state;
static u32 counted_reads;
static u32 initialisations;

static void need_initialize(void) {
    if (table.magic != MAGIC) trap();
}

static u64 span(const void *start, u32 length) {
    return (u64)(u32)start << 32 | length;
}

static u8 *start_of(u64 s) {
    return (u8 *)(u32)(s >> 32);
}

static u32 length_of(u64 s) {
    return (u32)s;
}

static void give_span(u64 s) {
    give(start_of(s), length_of(s));
}

/* Copies the bytes of `s` to the heap; answers 0, which is no span of the heap, when there is no memory. */
static u64 copy_span(u64 s) {
    void *to = take(length_of(s));
    if (!to) return 0;
    __builtin_memcpy(to, start_of(s), length_of(s));
    return span(to, length_of(s));
}

static int same_bytes(u64 a, u64 b) {
    if (length_of(a) != length_of(b)) return 0;
    for (u32 i = 0; i < length_of(a); i++)
        if (start_of(a)[i] != start_of(b)[i]) return 0;
    return 1;
}

/* Mixes all bits of x: multiply by odd constants, fold the high half down. */
static u64 mix(u64 x) {
    x = (x ^ x >> 32) * 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 29) * 0xd6e8feb86659fd93u;
    return x ^ x >> 32;
}

static u32 hash_of(u32 kind, u64 key) {
    u64 hash = table.hash_seed + kind;
    if (kind == NUMBER) return (u32)mix(hash ^ key);
    for (u32 i = 0; i < length_of(key); i++) hash = (hash ^ start_of(key)[i]) * 0x9e3779b97f4a7c15u;
    return (u32)mix(hash);
}

/* Answers the slot of the key, or the empty one where it would go. There always is one: see `make_room`. */
static slot *find(u32 kind, u64 key) {
    u32 hash = hash_of(kind, key), mask = table.capacity - 1;
    for (u32 i = hash & mask;; i = (i + 1) & mask) {
        slot *s = &table.slots[i];
        if (s->kind == EMPTY) return s;
        if (s->kind != kind || s->hash != hash) continue;
        if (kind == NUMBER ? s->key == key : same_bytes(s->key, key)) return s;
    }
}

static int make_slots(u32 capacity) {
    u64 size = (u64)capacity * sizeof(slot);
    slot *slots = size > (u32)-1 ? 0 : take((u32)size);
    if (!slots) return 0;
    __builtin_memset(slots, 0, (u32)size);
    table.slots = slots;
    table.capacity = capacity;
    return 1;
}

/* Sees to it that one more entry keeps the table at most three quarters full, rehashing into twice the size if not. */
static int make_room(void) {
    u32 capacity = table.capacity;
    slot *slots = table.slots;
    if (table.used < capacity / 4 * 3) return 1;
    if (!make_slots(capacity * 2)) return 0;
    for (u32 i = 0; i < capacity; i++) {
        if (slots[i].kind == EMPTY) continue;
        u32 at = slots[i].hash & (table.capacity - 1);
        while (table.slots[at].kind != EMPTY) at = (at + 1) & (table.capacity - 1);
        table.slots[at] = slots[i];
    }
    give(slots, capacity * sizeof(slot));
    return 1;
}

static void insert(slot *empty, u32 kind, u64 key, u64 value) {
    *empty = (slot){.kind = kind, .hash = hash_of(kind, key), .key = key, .value = value};
    table.used++;
}

/* Empties a slot, then moves back each follower that its own home slot could no longer reach across the hole. */
static void remove_slot(slot *s) {
    u32 mask = table.capacity - 1, hole = (u32)(s - table.slots);
    for (u32 i = (hole + 1) & mask; table.slots[i].kind != EMPTY; i = (i + 1) & mask) {
        u32 home = table.slots[i].hash & mask;
        if (((i - home) & mask) < ((i - hole) & mask)) continue;
        table.slots[hole] = table.slots[i];
        hole = i;
    }
    table.slots[hole].kind = EMPTY;
    table.used--;
}

/* Answers the slot of a number, made with value 0 if it is new; 0 when there is no memory. */
static slot *number_slot(u64 key) {
    slot *s = find(NUMBER, key);
    if (s->kind != EMPTY) return s;
    if (!make_room()) return 0;
    s = find(NUMBER, key);
    insert(s, NUMBER, key, 0);
    return s;
}

static slot *number_slot_or_trap(u64 key) {
    slot *s = number_slot(key);
    if (!s) trap();
    return s;
}

/* ---- Exports: the store ------------------------------------------------------------------------------------------ */

EXPORT(_initialize) void initialize(void) {
    if (table.magic == MAGIC) trap();
    heap_start();
    if (!make_slots(FIRST_CAPACITY)) trap();
    table.hash_seed = mix(MAGIC);
    table.magic = MAGIC;
    initialisations++;
}

/* How often `_initialize` ran: 1 in every instance that is as it should be. */
EXPORT(initialized) u32 initialized(void) {
    return initialisations;
}

/* Stores a number; answers the value it replaces, or 0. */
EXPORT(put) u64 put(u64 key, u64 value) {
    need_initialize();
    slot *s = number_slot_or_trap(key);
    u64 previous = s->value;
    s->value = value;
    return previous;
}

/* Answers a number's value, or 0: `has` tells a stored 0 from none. */
EXPORT(get) u64 get(u64 key) {
    need_initialize();
    slot *s = find(NUMBER, key);
    return s->kind == EMPTY ? 0 : s->value;
}

EXPORT(has) u32 has(u64 key) {
    need_initialize();
    return find(NUMBER, key)->kind != EMPTY;
}

/* Answers 1 when there was such a number. */
EXPORT(delete) u32 delete_number(u64 key) {
    need_initialize();
    slot *s = find(NUMBER, key);
    if (s->kind == EMPTY) return 0;
    remove_slot(s);
    return 1;
}

/* Adds to a number, absent ones count as 0; answers the new value. Wraps around. */
EXPORT(add) u64 add(u64 key, u64 delta) {
    need_initialize();
    return number_slot_or_trap(key)->value += delta;
}

/* Counts the entries of both kinds. */
EXPORT(count) u32 count(void) {
    need_initialize();
    return table.used;
}

/* Adds up the values of all numbers, in any order; wraps around. Reads the whole table. */
EXPORT(sum) u64 sum(void) {
    need_initialize();
    u64 total = 0;
    for (u32 i = 0; i < table.capacity; i++)
        if (table.slots[i].kind == NUMBER) total += table.slots[i].value;
    return total;
}

/* Removes all entries. The heap keeps its memory for later ones: a Wasm memory can't shrink. */
EXPORT(clear) void clear(void) {
    need_initialize();
    for (u32 i = 0; i < table.capacity; i++) {
        if (table.slots[i].kind != BYTES) continue;
        give_span(table.slots[i].key);
        give_span(table.slots[i].value);
    }
    give(table.slots, table.capacity * sizeof(slot));
    table.used = 0;
    if (!make_slots(FIRST_CAPACITY)) trap(); /* never: no less than that was just given back */
}

/* Stores `key -> key` for n keys from `start` on; answers how many, fewer than n when memory ran out. */
EXPORT(fill) i32 fill(i32 n, u64 start) {
    need_initialize();
    for (i32 i = 0; i < n; i++) {
        slot *s = number_slot(start + (u64)i);
        if (!s) return i;
        s->value = start + (u64)i;
    }
    return n > 0 ? n : 0;
}

/* Gives the host `size` bytes for keys and values, or 0. The host gives them back with `release`, naming the size. */
EXPORT(alloc) void *alloc(u32 size) {
    need_initialize();
    return take(size);
}

EXPORT(release) void release(void *start, u32 size) {
    need_initialize();
    give(start, size);
}

/* Stores copies of key and value; answers 1 when the key is new, 0 when its value was replaced, -1 without memory. */
EXPORT(put_bytes) i32 put_bytes(const void *key, u32 key_length, const void *value, u32 value_length) {
    need_initialize();
    u64 wanted = span(key, key_length), copy = copy_span(span(value, value_length));
    if (!copy) return -1;
    slot *s = find(BYTES, wanted);
    if (s->kind != EMPTY) {
        give_span(s->value);
        s->value = copy;
        return 0;
    }
    u64 kept = make_room() ? copy_span(wanted) : 0;
    if (!kept) {
        give_span(copy);
        return -1;
    }
    insert(find(BYTES, kept), BYTES, kept, copy);
    return 1;
}

/* Answers pointer << 32 | length of the stored value, or -1. The pointer is good until that key changes. */
EXPORT(get_bytes) u64 get_bytes(const void *key, u32 key_length) {
    need_initialize();
    slot *s = find(BYTES, span(key, key_length));
    return s->kind == EMPTY ? (u64)-1 : s->value;
}

/* Answers 1 when there was such a key. */
EXPORT(delete_bytes) u32 delete_bytes(const void *key, u32 key_length) {
    need_initialize();
    slot *s = find(BYTES, span(key, key_length));
    if (s->kind == EMPTY) return 0;
    give_span(s->key);
    give_span(s->value);
    remove_slot(s);
    return 1;
}

/* ---- Exports: what makes it a good test subject ------------------------------------------------------------------ */

/* A read that writes: `get`, counted. */
EXPORT(get_counting) u64 get_counting(u64 key) {
    counted_reads++;
    return get(key);
}

/* How often `get_counting` ran: what one read leaves behind, and the next one must not see. */
EXPORT(reads) u32 reads(void) {
    return counted_reads;
}

/* Sets the random generator; two instances with one seed draw the same numbers. */
EXPORT(seed) void seed(u64 value) {
    random_state = value;
}

EXPORT(draw) u64 draw(void) {
    return mix(random_state += 0x9e3779b97f4a7c15u);
}

/* Half a change: stores, then traps. */
EXPORT(put_then_trap) void put_then_trap(u64 key, u64 value) {
    put(key, value);
    trap();
}

/* A larger half: `fill(n, 0)`, rehashing and growing on the way, then traps. */
EXPORT(trap_after) void trap_after(i32 n) {
    fill(n, 0);
    trap();
}

#define FRAME 256 /* bytes of shadow stack that each level of `descend` takes */

static __attribute__((noinline)) i32 descend(i32 depth, int then_trap) {
    volatile u8 frame[FRAME];
    u8 mark = (u8)depth;
    frame[mark] = mark; /* at a varying index, or the compiler makes the frame one byte */
    if (depth <= 0) {
        if (then_trap) trap();
        return 0;
    }
    i32 below = descend(depth - 1, then_trap);
    return frame[mark] == mark ? below + 1 : -1;
}

/* Answers `depth`, by that many nested calls with frames on the shadow stack. Too deep a one traps: the stack lies at the
 * bottom of memory, so that an overflow leaves the memory instead of running into the statics. */
EXPORT(recurse) i32 recurse(i32 depth) {
    return descend(depth, 0);
}

/* Traps at the bottom, which leaves the stack pointer lowered by about `depth` frames. */
EXPORT(recurse_then_trap) void recurse_then_trap(i32 depth) {
    int then_trap = 1;
    __asm__ volatile("" : "+r"(then_trap)); /* or the compiler sees that no level returns, and makes a loop of it */
    descend(depth, then_trap);
}

/* Bytes of shadow stack left: the stack pointer, a global that isn't exported, made visible. */
EXPORT(stack_left) u32 stack_left(void) {
    volatile u8 here = 0;
    volatile u8 *volatile at = &here;
    return (u32)at;
}

/* Burns n rounds of arithmetic, each waiting for the one before, without touching memory. */
EXPORT(spin) u64 spin(u64 n) {
    u64 x = n;
    while (n--) x = (x ^ n) * 0xd6e8feb86659fd93u + 1; /* mixed, or the compiler would do eight rounds in one */
    return x;
}

EXPORT(spin_forever) void spin_forever(void) {
    for (;;) __asm__ volatile("");
}

static u8 *canvas;
static u32 canvas_pages;

/* Writes `value` to the start of every stride-th 4 KiB page, `pages` times, of a block made when first needed; a larger
 * need makes a new one without the old content. Answers the block's address, a multiple of 4096, or 0 without memory. */
EXPORT(dirty) u8 *dirty(i32 pages, i32 stride, u32 value) {
    need_initialize();
    if (pages < 1 || stride < 1) return 0;
    u64 need = (u64)(pages - 1) * (u64)stride + 1;
    if (need > canvas_pages) {
        u8 *larger = need > (u32)-1 / PAGE ? 0 : take_pages((u32)need);
        if (!larger) return 0;
        if (canvas) release_pages(canvas, canvas_pages);
        canvas = larger;
        canvas_pages = (u32)need;
    }
    for (u32 i = 0; i < (u32)pages; i++) *(volatile u32 *)(canvas + i * (u32)stride * PAGE) = value;
    return canvas;
}

/* The memory's size in Wasm pages. */
EXPORT(memory_pages) u32 memory_pages(void) {
    return __builtin_wasm_memory_size(0);
}
