/* Matrix product, the part around the tile: one block of C, and packing. */
#ifndef FBP_GEMM_BLOCK_H
#define FBP_GEMM_BLOCK_H

#include "gemm_step.h"
#include "gemm_tile.h"
#include "transpose.h"

enum { AHEAD_PACE = TURN > 1 ? FBP_CACHE_LINE : 24 };

/* What to ask for while a tile of so many steps is computed: a part of a row, some bytes per step, a pace that memory
 * keeps up with. Returns where it begins, NULL when nothing is left; sets the bytes per step. */
INLINE const char *take_ahead(fbp_ahead *a, int64_t depth, ptrdiff_t *step) {
    if (!a || !depth || a->next >= a->end) return NULL;
    const int64_t row = a->order ? a->order[a->next] : a->next;
    const char *from = a->rows + (size_t)row * a->step + a->offset;
    const int64_t left = (int64_t)(a->length - a->offset), parts = left / (AHEAD_PACE * depth) + 1;
    *step = left / (parts * depth) + 1;
    a->offset += (size_t)(*step * depth);
    if (a->offset >= a->length) a->offset = 0, a->next++;
    return from;
}

/* VL rows of a group, of which the matrix may not have all: VL columns of the source, from rows of it */
INLINE void pack_square(const real *b, ptrdiff_t row, int64_t columns, int64_t depth, real *out, ptrdiff_t width) {
    vec r[VL];
    load_transposed(b, row, columns, depth, r);
    if (depth >= VL) {
        UNROLL
        for (int i = 0; i < VL; i++, out += width) {
            __asm__("" : "+r"(out)); /* one register for it */
            vec_store(out, r[i]);
        }
        return;
    }
    UNROLL
    for (int i = 0; i < VL; i++)
        if (i < depth) vec_store(out + i * width, r[i]);
}

/* `vectors` vectors of columns, of which the matrix has n at most, in a group of such a width */
static void pack_group(int64_t k, int64_t n, int vectors, const real *b, ptrdiff_t b_row, ptrdiff_t b_column, real *out,
                       ptrdiff_t width) {
    if (b_column == 1) {
        for (int64_t p = 0; p < k; p++, b += b_row, out += width)
            for (int64_t i = 0; i < vectors * VL; i += VL) vec_store(out + i, load_columns(b + i, n - i));
        return;
    }
    for (int64_t i = 0; i < vectors * VL; i += VL, out += VL)
        for (int64_t p = 0; p < k; p += VL)
            pack_square(b + i * b_column + p, b_column, n - i, k - p, out + p * width, width);
}

/* Some rows of all groups, then the next ones: each row lies in a page of its own, and few of them are at hand. */
enum { PACKED_ROWS = 16 };
static void pack(int full, int64_t k, int64_t n, const void *b, ptrdiff_t b_row, void *packed) {
    for (int64_t p = 0; p < k; p += PACKED_ROWS)
        for (int64_t j = 0, width; j < n; j += width) {
            const int vectors = group_vectors(full, (n - j + VL - 1) / VL);
            width = (int64_t)vectors * VL;
            pack_group(k - p < PACKED_ROWS ? k - p : PACKED_ROWS, n - j, vectors, (const real *)b + p * b_row + j,
                       b_row, 1, (real *)packed + j * k + p * width, width);
        }
}

/* Where the group of B is that begins with column j. Where tiles read one and copy the next, two lie there by turns,
 * half a page further within theirs: a load would wait for the store to an address that ends like its own. */
enum { BETWEEN_ROOMS = 2048 / sizeof(real) };
INLINE const real *group_of(const fbp_block *g, int64_t j, int copying) {
    if (g->b_step) return (const real *)g->b + j;
    if (!g->unpacked || g->kept) return (const real *)g->b + j * g->k;
    return (const real *)g->b + copying * (j / COPY_GROUP % 2) * (g->k * COPY_GROUP + BETWEEN_ROOMS);
}

/* What tiles leave unfinished is finished while it is in the first-level cache, with the elements of A beside it. */
enum { FINISHED_AT_ONCE = 24 * 1024 / sizeof(real) };

/* A group of columns of C and B, and what there is to do for the next one beside it. */
typedef struct {
    int64_t first, width, tiles; /* column, columns with padding, tiles one below the other */
    const real *b, *next;        /* the group; what the next one will be read or packed from */
    ptrdiff_t b_step;
    int64_t parts;  /* of the next one, for tiles to ask for: a power of two, or the lines of a row */
    int halvings;   /* their logarithm, if it is one */
    int64_t copied; /* columns of the next one that these tiles copy */
} column_group;

/* What a tile asks for, or copies: see tile. */
typedef struct {
    const char *ahead;
    ptrdiff_t step;
    int64_t pauses;
} question;

#if TURN > 1
/* Each of the last tiles of a group asks for a part of the next one, a line each turn. In a weight gradient those
 * before ask for what comes after this product; in other products they ask, where B lies in place, for its rows a
 * little ahead. */
INLINE question question_of(const fbp_block *g, const column_group *group, int64_t t, int64_t i, int rows,
                            int copying) {
    (void)i, (void)rows, (void)copying;
    const ptrdiff_t own = group->b_step * (ptrdiff_t)sizeof(real), unpacked = g->b_row * (ptrdiff_t)sizeof(real);
    const ptrdiff_t row = g->b_step ? own : g->unpacked && g->b_column == 1 ? unpacked : FBP_CACHE_LINE;
    const int64_t part = t - (group->tiles - group->parts);
    question q = {.ahead = (const char *)group->b + AHEAD * own, .step = TURN * own};
    if (t > 0 && part >= 0) {
        q = (question){(const char *)group->next + part * (g->k >> group->halvings) * row, row, 1};
    } else if (t > 0 && g->a_step != 1) {
        const char *later = take_ahead(g->ahead, g->k / TURN, &q.step);
        if (later) q.ahead = later;
    }
    return q;
}
#else
/* The first tile of a group asks for rows of B a little ahead. The last ones ask for the next group, a part each and
 * slowly, since memory answers so many questions at a time only: for some of its rows, or in brief loops, where B lies
 * in place, a tile for each line of a row; and brief tiles of the first group ask for the rows of A that come next,
 * which another core may have written. In a weight gradient, which has many short tiles, the last one asks for the next
 * group, and those before for what comes after this product. */
INLINE question question_of(const fbp_block *g, const column_group *group, int64_t t, int64_t i, int rows,
                            int copying) {
    const int along_columns = g->a_step != 1, brief = g->brief && !along_columns, by_lines = brief && g->b_step;
    const int64_t part = t - (group->tiles - group->parts);
    question q = {.ahead = (const char *)(group->b + AHEAD * group->b_step),
                  .step = group->b_step * (ptrdiff_t)sizeof(real),
                  .pauses = brief && (t > 0 || !by_lines) ? BRIEF : 0};
    if (t * COPIED < group->copied) {
        const real *to = group_of(g, group->first + group->width, copying);
        q.ahead = (const char *)(group->next + t * COPIED * g->b_column);
        q.step = (const char *)(to + t * COPIED) - (const char *)group->b;
        q.pauses = COPYING;
    } else if (group->first == 0 && q.pauses == BRIEF && t < group->tiles - 1 && !g->rows) {
        q.ahead = (const char *)((const real *)g->a + (i + rows) * g->a_row);
        q.step = rows * g->a_row * (ptrdiff_t)sizeof(real) / (g->k | 1);
    } else if (t > 0 && by_lines && group->first + group->width >= g->n) {
        /* what follows the last block belongs to another member */
        const int known = g->after && part >= 0;
        q.ahead = known ? (const char *)g->after + part * FBP_CACHE_LINE : (const char *)group->b;
        if (!known) q.step = 0;
    } else if (t > 0 && part >= 0 && group->copied < COPY_GROUP) {
        const int64_t begin = by_lines ? 0 : part * (g->k >> group->halvings) * group->b_step;
        q.ahead = (const char *)(group->next + begin) + (by_lines ? part * FBP_CACHE_LINE : 0);
        if (!brief) q.pauses = group->parts - 1;
        if (brief && !by_lines) q.step >>= group->halvings;
    } else if (t > 0 && along_columns) {
        const char *later = take_ahead(g->ahead, g->k, &q.step);
        if (later) q.ahead = later;
    }
    return q;
}
#endif

/* The columns of A that a tile reads, without the gaps between them. Where they lie, each is a cache line of its own,
 * and many of them fill the first-level cache, which B needs. */
INLINE void copy_panel(const int rows, const fbp_block *g, int64_t i0, real *to) {
    const real *const *row = (const real *const *)g->rows;
    const real *a = (const real *)g->a + i0;
    for (int64_t p = 0; p < g->k; p++, to += rows) {
        if (row) a = row[p] + i0;
        memcpy(to, a, (size_t)rows * sizeof(real));
        if (!row) a += g->a_step;
    }
}

static __attribute__((noinline)) void pack_panel(int rows, const fbp_block *g, int64_t i0, real *to) {
    enum { MOST = TILE_ROWS(VECTORS) };
    switch (rows) { /* nearly all have as many, or one less */
    case MOST: copy_panel(MOST, g, i0, to); break;
    case MOST - 1: copy_panel(MOST - 1, g, i0, to); break;
    default: copy_panel(rows, g, i0, to);
    }
}

/* Column groups outside (a group of B stays in the first-level cache), rows of A inside, cut into tiles of
 * nearly the same height: 32 rows are 11 + 11 + 10, not 14 + 14 + 4. Where `copying`, the first tiles copy as much of
 * the next group as they can. */
INLINE void run_tiles(const fbp_block *g, const tile_shapes *any, const tile_shapes *whole, int copying,
                      const int panels, const int most_rows[VECTORS]) {
    const int along_columns = g->a_step != 1, by_lines = TURN == 1 && g->brief && !along_columns && g->b_step;
    const int most_halvings = TURN > 1 ? 2 : along_columns ? 0 : 3;
    column_group group = {0};
    fbp_block own; /* with the columns of a tile */
    if (panels) own = *g;
    for (int64_t j = 0; j < g->n; j += group.width) {
        const int64_t copied = group.copied; /* by the tiles of the group before */
        const int vectors = group_vectors(g->vectors, (g->n - j + VL - 1) / VL);
        const int64_t width = (int64_t)vectors * VL;
        const int columns = (int)(g->n - j < width ? g->n - j : width);
        group = (column_group){.first = j, .width = width, .b = group_of(g, j, copying)};
        group.b_step = g->b_step ? g->b_step : width;
        group.next = group.b + (g->b_step ? width : width * g->k);
        if (g->unpacked) {
            const real *unpacked = (const real *)g->unpacked + j * g->b_column;
            pack_group(g->k, g->n - j - copied, vectors - (int)(copied / VL), unpacked + copied * g->b_column, g->b_row,
                       g->b_column, (real *)group.b + copied, width);
            group.next = unpacked + width * g->b_column;
        }
        const int most = most_rows[(panels ? VECTORS : vectors) - 1]; /* of panels: those that were copied */
        const int64_t tiles = (g->m + most - 1) / most;
        const int64_t low = tiles ? g->m / tiles : 0, higher = tiles ? g->m % tiles : 0;
        /* a loop would end differently for every product, and be guessed wrong */
        const int halvings = 63 - __builtin_clzll((uint64_t)(tiles - 1) | 1);
        group.tiles = tiles, group.halvings = halvings < most_halvings ? halvings : most_halvings;
        group.parts = by_lines ? (width * (int64_t)sizeof(real) + FBP_CACHE_LINE - 1) / FBP_CACHE_LINE
                               : (int64_t)1 << group.halvings;
        if (copying && vectors == COPY_VECTORS && g->n - j - width >= COPY_GROUP)
            group.copied = tiles * COPIED < COPY_GROUP ? tiles * COPIED / VL * VL : COPY_GROUP;
        const tile_shapes *shapes = whole && columns == width ? whole : any;
        const int unfinished = !in_registers(g->epilogue) && (columns == width || g->padded);
        for (int64_t t = 0, i = 0, finished = 0; t < tiles; t++) {
            const int rows = (int)(low + (t < higher));
            const question q = question_of(g, &group, t, i, rows, copying);
            if (panels) {
                real *panel = (real *)g->panels + i * g->k;
                if (j == 0) pack_panel(rows, g, i, panel);
                own.a = panel - i, own.a_step = rows;
            }
            (*shapes)[vectors - 1][rows - 1](panels ? &own : g, i, j, group.b, group.b_step, q.ahead, q.step, q.pauses,
                                             columns);
            i += rows;
            if (unfinished && (t == tiles - 1 || (i - finished) * (g->k + width) >= FINISHED_AT_ONCE)) {
                finish(g->epilogue, i - finished, columns, (real *)g->c + finished * g->c_row + j, g->c_row, finished,
                       j);
                finished = i;
            }
        }
    }
}

static const int tile_rows[] = {TILE_ROWS(1), TILE_ROWS(2), TILE_ROWS(3)};

static void block(const fbp_block *g) {
    const int end = end_of(g), panels = PANELS > 0 && g->panels;
    const tile_shapes *const *ends = tiles[panels ? COLUMNS : walk_of(g)];
    const int copying = TURN == 1 && ends[end] && is_derivative(end) && g->unpacked && !g->brief;
    if (panels)
        run_tiles(g, ends[ANY_END], ends[end], 0, 1, tile_rows);
    else
        run_tiles(g, ends[ANY_END], ends[end], copying, 0, tile_rows);
}

#ifdef STEP_ROWS
/* the same for a block with a step; A's columns are contiguous, rows of C are padded */
static void step_block(const fbp_block *g) {
    static const int rows[] = {STEP_ROWS(1), STEP_ROWS(2), STEP_ROWS(3)};
    run_tiles(g, &step_tiles[walk_of(g) == LISTED_COLUMNS], NULL, 0, 0, rows);
}
#define STEPS_OR_NULL(function) function
#else
#define STEPS_OR_NULL(function) NULL
#endif

#endif
