/* A heap for freestanding wasm32 code: two free lists over memory.grow, no libc.
 *
 * `heap_start` hands it the memory behind the statics, `take` and `give` are its malloc and free. A block carries no
 * header: whoever gives it back names its size. Nothing here traps; without memory `take` answers 0.
 */

typedef unsigned char u8;
typedef unsigned int u32;
typedef int i32;
typedef unsigned long long u64;

_Static_assert(sizeof(u32) == 4 && sizeof(u64) == 8 && sizeof(void *) == 4, "written for wasm32");

/* ---- Pages: runs of 4 KiB, first fit, neighbours merged ---------------------------------------------------------- */

#define PAGE 4096u
#define WASM_PAGE 65536u
#define GROWTH 4u /* Wasm pages that memory grows by at least: growing is dearer than a page too many */

typedef struct run {
    struct run *next;
    u32 pages;
} run;

static run *free_runs; /* by ascending address */

static u8 *end_of(run *r) {
    return (u8 *)r + r->pages * PAGE;
}

static void release_pages(void *start, u32 pages) {
    run *below = 0, *above = free_runs, *freed = start;
    while (above && above < freed) {
        below = above;
        above = above->next;
    }
    freed->next = above;
    freed->pages = pages;
    if (above && end_of(freed) == (u8 *)above) {
        freed->pages += above->pages;
        freed->next = above->next;
    }
    if (!below) {
        free_runs = freed;
    } else if (end_of(below) == (u8 *)freed) {
        below->pages += freed->pages;
        below->next = freed->next;
    } else {
        below->next = freed;
    }
}

extern u8 __heap_base[]; /* from the linker: the first byte after the stack and the statics */

static void heap_start(void) {
    u32 start = ((u32)__heap_base + PAGE - 1) & ~(PAGE - 1);
    u32 end = __builtin_wasm_memory_size(0) * WASM_PAGE;
    if (start < end) release_pages((void *)start, (end - start) / PAGE);
}

/* Adds memory for a run of `pages`, of which a free run at the end of memory is a part. Asks again for the bare need when
 * the host refuses the comfortable step. */
static int grow(u32 pages) {
    run *last = free_runs;
    while (last && last->next) last = last->next;
    if (last && (u32)end_of(last) == __builtin_wasm_memory_size(0) * WASM_PAGE) pages -= last->pages;
    u32 need = pages / (WASM_PAGE / PAGE) + (pages % (WASM_PAGE / PAGE) != 0);
    u32 step = need > GROWTH ? need : GROWTH;
    u32 before = __builtin_wasm_memory_grow(0, step);
    if (before == (u32)-1 && step > need) {
        step = need;
        before = __builtin_wasm_memory_grow(0, step);
    }
    if (before == (u32)-1) return 0;
    release_pages((void *)(before * WASM_PAGE), step * (WASM_PAGE / PAGE));
    return 1;
}

static void *take_pages(u32 pages) {
    do {
        for (run **link = &free_runs; *link; link = &(*link)->next) {
            run *r = *link;
            if (r->pages < pages) continue;
            if (r->pages == pages) {
                *link = r->next;
                return r;
            }
            run *rest = (run *)((u8 *)r + pages * PAGE); /* cut from the front: new memory joins the run at the end */
            rest->next = r->next;
            rest->pages = r->pages - pages;
            *link = rest;
            return r;
        }
    } while (grow(pages));
    return 0;
}

/* ---- Blocks: powers of two from 16 to 2048 bytes, cut from pages; larger ones are runs of pages ------------------ */

#define SMALLEST 16u
#define LARGEST 2048u
#define CLASSES 8

typedef struct block {
    struct block *next;
} block;

static block *free_blocks[CLASSES];

static u32 class_of(u32 size) {
    return size <= SMALLEST ? 0 : 28 - __builtin_clz(size - 1);
}

static u32 pages_of(u32 size) {
    return size / PAGE + (size % PAGE != 0);
}

static void give(void *start, u32 size) {
    if (size > LARGEST) {
        release_pages(start, pages_of(size));
        return;
    }
    block **list = &free_blocks[class_of(size)];
    block *b = start;
    b->next = *list;
    *list = b;
}

/* Answers `size` bytes with any content, or 0. Blocks carry no header: `give` needs the size again. */
static void *take(u32 size) {
    if (size > LARGEST) return take_pages(pages_of(size));
    u32 class = class_of(size), step = SMALLEST << class;
    if (!free_blocks[class]) {
        u8 *page = take_pages(1);
        if (!page) return 0;
        for (u32 offset = PAGE; offset; offset -= step) give(page + offset - step, step);
    }
    block *b = free_blocks[class];
    free_blocks[class] = b->next;
    return b;
}
