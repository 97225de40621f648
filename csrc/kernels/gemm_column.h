/* Matrix product: where the columns of A are, which a tile multiplies with the rows of B, one after another. */
#ifndef FBP_GEMM_COLUMN_H
#define FBP_GEMM_COLUMN_H

#include "kernels.h"

#define MAX_TILE_ROWS 14

/* Hides where a value came from: the compiler keeps it, instead of anything it could make of it before a loop. */
#define ONE_REGISTER(value) __asm__("" : "+r"(value))
#if defined(X86_PREFIX)
#define ONE_VECTOR(value) __asm__("" : "+v"(value))
#else
#define ONE_VECTOR(value)
#endif

/* A pointer goes on behind everything that is read: the compiler mixes neither with the other. */
#define AFTER_READING(pointer) __asm__ volatile("" : "+r"(pointer) : : "memory")

/* Rows of memory are rows of A or its columns, equally far apart or, like samples in random order, listed. */
enum { ROWS, COLUMNS, LISTED_ROWS, LISTED_COLUMNS, WALKS };
INLINE int walk_of(const fbp_block *g) { return (g->a_step != 1 ? COLUMNS : ROWS) + (g->rows ? LISTED_ROWS : 0); }
INLINE int goes_along_columns(const int walk) { return walk == COLUMNS || walk == LISTED_COLUMNS; }

/* Rows that lie far apart: four pointers reach 14 of them by the factors that an address can have. Left to itself the
 * compiler multiplies the distance of two rows by every number and keeps the products on the stack. */
enum { ANCHORS = 4 };
static const int anchor_row[ANCHORS] = {0, 3, 5, 10};
static const int anchor_of[MAX_TILE_ROWS] = {0, 0, 0, 1, 0, 2, 2, 1, 0, 2, 3, 1, 3, 2};
static const int factor_of[MAX_TILE_ROWS] = {0, 1, 2, 0, 4, 0, 1, 4, 8, 4, 0, 8, 2, 8};

typedef struct {
    const char *anchor[ANCHORS]; /* ROWS */
    const real *column;          /* COLUMNS, LISTED_COLUMNS */
    const real *const *row;      /* listed: the tile's, or from this column's on */
    ptrdiff_t step;              /* bytes between equally distant rows */
    ptrdiff_t next;              /* COLUMNS: from one to what is asked for */
    ptrdiff_t skip;              /* LISTED_ROWS: which column it is; LISTED_COLUMNS: where in their rows they begin */
} column;

/* The first column for a tile of rows i0 .. i0 + rows */
INLINE column first_column(const int walk, const int rows, const fbp_block *g, int64_t i0) {
    const real *const *row = (const real *const *)g->rows;
    column at;
    if (walk == ROWS) {
        at.step = g->a_row * (ptrdiff_t)sizeof(real);
        UNROLL
        for (int q = 0; q < ANCHORS; q++) at.anchor[q] = (const char *)g->a + (i0 + anchor_row[q]) * at.step;
    }
    if (walk == COLUMNS) {
        const ptrdiff_t to_last = (2 * rows - 1) * (ptrdiff_t)sizeof(real); /* of the next tile */
        at.column = (const real *)g->a + i0;
        at.step = g->a_step * (ptrdiff_t)sizeof(real);
        at.next = to_last + (g->far_rows ? FBP_NEXT_ROWS * at.step : 0);
    }
    if (walk == LISTED_ROWS) at.row = row + i0, at.skip = 0;
    if (walk == LISTED_COLUMNS) at.row = row, at.skip = i0, at.column = *row + i0;
    return at;
}

/* of the column `q` further */
INLINE const real *element(const int walk, const column *at, const int q, const int i) {
    if (walk == ROWS) return (const real *)(at->anchor[anchor_of[i]] + factor_of[i] * at->step) + q;
    if (walk == LISTED_ROWS) return at->row[i] + at->skip + q;
    if (walk == LISTED_COLUMNS && q > 0) return at->row[q] + at->skip + i;
    return (const real *)((const char *)at->column + q * at->step) + i;
}

/* Along columns each step is another cache line, and what the next tile needs there is asked for: of rows whose
 * addresses are dear, and of listed ones, some further down, which brings the translations before this tile comes
 * there. */
INLINE void ask_for_next_tile(const int walk, const int rows, const column *at, const int q) {
    if (walk == COLUMNS) __builtin_prefetch((const char *)at->column + q * at->step + at->next);
    if (walk == LISTED_COLUMNS) __builtin_prefetch(at->row[q + FBP_NEXT_ROWS] + at->skip + 2 * rows - 1);
}

/* so many columns further */
INLINE void next_columns(const int walk, const int rows, const int columns, column *at) {
    if (walk == ROWS) {
        UNROLL
        for (int q = 0; q < ANCHORS; q++) {
            if (anchor_row[q] >= rows) continue;
            at->anchor[q] += columns * sizeof(real);
            ONE_REGISTER(at->anchor[q]);
        }
    }
    if (walk == COLUMNS) {
        at->column = (const real *)((const char *)at->column + columns * at->step);
        if (columns > 1) ONE_REGISTER(at->column);
    }
    if (walk == LISTED_ROWS) {
        at->skip += columns;
        ONE_REGISTER(at->skip);
        ONE_REGISTER(at->row); /* addresses read from memory each time cost nothing, spilled ones do */
    }
    if (walk == LISTED_COLUMNS) at->row += columns, at->column = *at->row + at->skip;
}

/* Along rows */
INLINE void after_reading(const int walk, const int rows, column *at) {
    if (walk == LISTED_ROWS) AFTER_READING(at->skip);
    UNROLL
    for (int q = 0; q < ANCHORS; q++)
        if (walk == ROWS && anchor_row[q] < rows) AFTER_READING(at->anchor[q]);
}

#endif
