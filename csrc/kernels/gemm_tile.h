/* Matrix product, the part that lives in registers.
 *
 * A tile is `rows` x `vectors` accumulators of C. Every element of C is one chain of multiply-adds over
 * ascending p, whatever the shape of its tile, so that a result does not depend on how the matrix was cut:
 * not on the batch size, not on the number of threads.
 *
 * Widest tiles per instruction set are chosen so that accumulators, one group of B and a broadcast of A fit
 * the register file, and so that at least 8 independent chains hide the latency of the multiply-add. */
#ifndef FBP_GEMM_TILE_H
#define FBP_GEMM_TILE_H

#include "activation.h"
#include "gemm_column.h"
#include "kernels.h"

#define GROUP (VECTORS * VL)

/* Rows of B to ask for ahead: where B lies in place they are too far apart for the machine to guess. */
#define AHEAD 6

/* Elements of the depth in one turn of a tile's loop: several, where a row of B has few multiply-adds. */
#ifndef TURN
#define TURN 1
#endif

/* Vectors of the next column group, at most `full`, when `left` vectors remain: as wide as possible, but the last two
 * groups even (4 is 2 + 2, not 3 + 1), because narrow tiles have too few chains. */
INLINE int group_vectors(int full, int64_t left) {
    if (left <= full) return (int)left;
    return left < 2 * full ? (int)(left + 1) / 2 : full;
}

/* The activations and derivatives that a tile applies in registers; the others are applied to the stored tile while
 * it is still in the first-level cache (finish): a call from here would spill every accumulator anyway. */
INLINE int in_registers(const fbp_epilogue *e) {
    return !e || e->activation == FBP_linear || e->activation == FBP_relu ||
           (e->activation == FBP_tanh && e->kind == FBP_DERIVATIVE);
}

static __attribute__((noinline)) void finish(const fbp_epilogue *e, int64_t rows, int64_t columns, real *c,
                                             ptrdiff_t c_row, int64_t i0, int64_t j0) {
    if (e->kind == FBP_BIAS_ACTIVATION)
        activation_forward(e->activation, e->alpha, rows, columns, c, c_row, c, c_row);
    else
        activation_backward(e->activation, e->alpha, rows, columns, (const real *)e->saved + i0 * e->saved_row + j0,
                            e->saved_row, c, c_row, c, c_row);
}

/* The last columns of a matrix that ends in the middle of a vector and must not be touched beyond: the tile was
 * computed into `z`, the rest is done here, row by row. */
static __attribute__((noinline)) void finish_edge(const fbp_block *g, int rows, int columns, const real *z,
                                                  ptrdiff_t z_row, int64_t i0, int64_t j0) {
    const fbp_epilogue *e = g->epilogue;
    real *c = (real *)g->c + i0 * g->c_row + j0;
    const real *bias = e && e->bias ? (const real *)e->bias + j0 : NULL;
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < columns; j++) {
            real value = z[i * z_row + j];
            if (g->accumulate) value += c[i * g->c_row + j];
            if (bias) value += bias[j];
            c[i * g->c_row + j] = value;
        }
    if (e) finish(e, rows, columns, c, g->c_row, i0, j0);
}

/* acc += a column of A, the one `q` further, times a row of B; asks for so many lines from `ahead` on */
INLINE void multiply_add(const int walk, const int rows, const int vectors, const int lines, const column *at,
                         const int q, const real *b, const char *ahead, vec acc[MAX_TILE_ROWS][VECTORS]) {
    vec bv[VECTORS];
    UNROLL
    for (int v = 0; v < vectors; v++) {
        bv[v] = vec_load(b + v * VL);
        if (v * VECTOR_BYTES % FBP_CACHE_LINE == 0 && v * VECTOR_BYTES < lines * FBP_CACHE_LINE)
            __builtin_prefetch(ahead + v * VECTOR_BYTES);
    }
    ask_for_next_tile(walk, rows, at, q);
    UNROLL
    for (int i = 0; i < rows; i++) {
        const vec ai = vec_set(*element(walk, at, q, i));
        UNROLL
        for (int v = 0; v < vectors; v++) ADD_PRODUCT(acc[i][v], ai, bv[v]);
    }
}

#if TURN > 1
/* The loop in turns: `count` of them over rows of B that lie in place or packed. It asks for one line each turn, or
 * `each` time it comes to a row of B. Addresses reach two of equally distant rows, and all of rows without gaps. */
INLINE void turns(const int packed, const int each, const int walk, const int rows, const int vectors, int64_t count,
                  column *at, const char **b_row, ptrdiff_t b_step, const char *ahead, ptrdiff_t ahead_step,
                  vec acc[MAX_TILE_ROWS][VECTORS]) {
    const int along_columns = goes_along_columns(walk);
    const int columns = along_columns ? 2 : TURN, rows_of_b = packed ? TURN : 2;
    const char *b = *b_row;
    for (; count > 0; count--) {
        if (!each) {
            __builtin_prefetch(ahead);
            ahead += ahead_step;
            ONE_REGISTER(ahead);
        }
        UNROLL
        for (int q = 0; q < TURN; q++) {
            ONE_REGISTER(at->step);
            if (!packed) ONE_REGISTER(b_step);
            if (each) __builtin_prefetch(ahead + q % 2 * b_step);
            const ptrdiff_t step = packed ? vectors * VECTOR_BYTES : b_step;
            multiply_add(walk, rows, vectors, 0, at, q % columns, (const real *)(b + q % rows_of_b * step), NULL, acc);
            if (q % columns == columns - 1) next_columns(walk, rows, columns, at);
            if (q % rows_of_b != rows_of_b - 1) continue;
            b += rows_of_b * step;
            ONE_REGISTER(b);
            if (!each) continue;
            ahead += rows_of_b * b_step;
            ONE_REGISTER(ahead);
        }
    }
    *b_row = b;
}
#endif

enum { LAST = 2 };

/* How a tile ends. Where whole vectors of new sums are stored, one of the known ends goes row by row; ANY_END does
 * everything else, for all rows together. */
enum { ANY_END, STORED, BIASED, BIASED_RELU, RELU_DERIVATIVE, TANH_DERIVATIVE, ENDS };

INLINE int end_of(const fbp_block *g) {
    const fbp_epilogue *e = g->epilogue;
    const int relu = e && e->activation == FBP_relu, tanh = e && e->activation == FBP_tanh;
    if (g->accumulate || g->k < LAST) return ANY_END;
    if (e && e->kind == FBP_DERIVATIVE) return relu ? RELU_DERIVATIVE : tanh ? TANH_DERIVATIVE : STORED;
    if (e && e->bias) return relu ? BIASED_RELU : BIASED;
    return relu ? ANY_END : STORED;
}

/* Deltas alone end so: products with a transposed weight, whose tiles may copy the next group of it meanwhile. */
INLINE int is_derivative(const int end) { return end == RELU_DERIVATIVE || end == TANH_DERIVATIVE; }

/* relu' is 1 where not saved <= 0 */
INLINE vec times_derivative(const int activation, vec sum, const real *saved) {
    vec s = vec_load(saved);
    ONE_VECTOR(s);
    if (activation == FBP_relu) return (vec)((ivec)sum & ~(ivec)(s <= 0));
    return sum * derivative_vec(activation, vec_set(0), s);
}

/* The last columns of A are multiplied row by row, and each row is stored at once. Stores that follow each other keep
 * the multipliers waiting, 28 of them for 48 cycles; two after every fourth multiply-add cost nothing. */
INLINE void last_columns(const int end, const int walk, const int rows, const int vectors, column at, const real *b,
                         ptrdiff_t b_step, const fbp_epilogue *e, int64_t i0, int64_t j0,
                         vec acc[MAX_TILE_ROWS][VECTORS], real *out, ptrdiff_t out_row) {
    const int derivative = is_derivative(end), biased = end == BIASED || end == BIASED_RELU;
    const int along_columns = goes_along_columns(walk);
    const real *bias = biased ? (const real *)e->bias + j0 : NULL;
    const ptrdiff_t saved_row = derivative ? e->saved_row : 0;
    const real *saved = derivative ? (const real *)e->saved + i0 * saved_row + j0 : NULL;
    column after = at;
    ask_for_next_tile(walk, rows, &at, 0);
    next_columns(walk, rows, 1, &after);
    ask_for_next_tile(walk, rows, &after, 0);
    vec last[VECTORS];
    UNROLL
    for (int v = 0; v < vectors; v++) last[v] = vec_load(b + b_step + v * VL);
    UNROLL
    for (int i = 0; i < rows; i++, out += out_row, saved += saved_row) {
        const vec first = vec_set(*element(walk, &at, 0, i));
        const vec second = vec_set(*element(walk, along_columns ? &after : &at, !along_columns, i));
        ONE_REGISTER(b); /* there are registers for one row of B, the other one is read from memory */
        UNROLL
        for (int v = 0; v < vectors; v++) {
            acc[i][v] += first * vec_load(b + v * VL);
            acc[i][v] += second * last[v];
        }
        if (biased) ONE_REGISTER(bias);
        UNROLL
        for (int v = 0; v < vectors; v++) {
            vec y = acc[i][v];
            if (biased) y += vec_load(bias + v * VL);
            if (end == BIASED_RELU) y = vec_max(vec_set(0), y);
            if (end == RELU_DERIVATIVE) y = times_derivative(FBP_relu, y, saved + v * VL);
            if (end == TANH_DERIVATIVE) y = times_derivative(FBP_tanh, y, saved + v * VL);
            vec_store(out + v * VL, y);
        }
    }
}

#define FOR_EACH_ACCUMULATOR UNROLL for (int i = 0; i < rows; i++) UNROLL for (int v = 0; v < vectors; v++)

/* padding is 0 and stays 0: the last vector has columns of C in its first lanes only */
INLINE void clear_padding(const int rows, const int vectors, int columns, vec acc[MAX_TILE_ROWS][VECTORS]) {
    const ivec lanes = lane_numbers() < vec_bits((integer)(columns - (vectors - 1) * VL));
    UNROLL
    for (int i = 0; i < rows; i++) acc[i][vectors - 1] = (vec)((ivec)acc[i][vectors - 1] & lanes);
}

/* Four columns of B, each of which begins at `first` or so many bytes further: one element of each goes to `to`, by
 * loads and stores of integers, which the multipliers do not notice. Two pointers reach them, as in first_column.
 * Only where a full group has COPY_VECTORS vectors. */
enum { COPIED = 4, COPY_VECTORS = 2, COPY_GROUP = COPY_VECTORS * VL };
INLINE void copy_columns(const char *first, const char *third, ptrdiff_t column, char *to) {
    UNROLL
    for (int q = 0; q < COPIED; q++) {
        integer element;
        memcpy(&element, (q < 2 ? first : third) + q % 2 * column, sizeof element);
        ONE_REGISTER(element);
        memcpy(to + q * (ptrdiff_t)sizeof element, &element, sizeof element);
    }
}

/* The loop over `depth` columns of A and rows of a packed B, and LAST more rows copied behind it. */
INLINE void multiply_and_copy(const int rows, ptrdiff_t column_of_b, int64_t depth, column *at, const real **b_row,
                              const char *from, ptrdiff_t to, vec acc[MAX_TILE_ROWS][VECTORS]) {
    const real *b = *b_row;
    const char *first = from, *third = from + 2 * column_of_b;
    for (; depth > 0; depth--, b += COPY_GROUP, first += sizeof(real), third += sizeof(real)) {
        ONE_REGISTER(first);
        ONE_REGISTER(third);
        ONE_REGISTER(column_of_b); /* none for multiples of it */
        ONE_REGISTER(at->step);
        multiply_add(ROWS, rows, COPY_VECTORS, 0, at, 0, b, NULL, acc);
        copy_columns(first, third, column_of_b, (char *)b + to);
        next_columns(ROWS, rows, 1, at);
    }
    ONE_REGISTER(column_of_b);
    ONE_REGISTER(at->step);
    UNROLL
    for (ptrdiff_t q = 0; q < LAST; q++) {
        const ptrdiff_t skip = q * (ptrdiff_t)sizeof(real);
        copy_columns(first + skip, third + skip, column_of_b, (char *)(b + q * COPY_GROUP) + to);
    }
    *b_row = b;
}

/* The lines of a matrix that belong to a tile, to be read or written */
INLINE void ask_for_tile(const int rows, const int vectors, const real *first, ptrdiff_t row, const int write) {
    const char *at = (const char *)first;
    UNROLL
    for (int i = 0; i < rows; i++, at += row * (ptrdiff_t)sizeof(real)) {
        UNROLL
        for (int v = 0; v < vectors; v++)
            if (v * VECTOR_BYTES % FBP_CACHE_LINE == 0) __builtin_prefetch(at + v * VECTOR_BYTES, write);
    }
}

/* One tile of whole vectors. (In turns it asks for a line each turn, or if `pauses` is 0 and B lies in place, for each
 * p. Otherwise:) From `ahead` on lies what somebody will read soon: `ahead_step` bytes further for each p, as many
 * lines as a row of the group or, if `pauses` is BRIEF, one; else along rows as far as a row of B, for one p of a few
 * if `pauses` is not 0 but one less than a power of two. If it is COPYING, columns of the next group of B are copied
 * from there to `ahead_step` bytes behind this group. */
enum { BRIEF = -1, COPYING = -2 };
INLINE void tile(const int end, const int walk, const int rows, const int vectors, const fbp_block *g, int64_t i0,
                 int64_t j0, const real *b, ptrdiff_t b_step, const char *ahead, ptrdiff_t ahead_step, int64_t pauses,
                 int columns) {
    const int along_columns = goes_along_columns(walk);
    /* a register of its own only where the addresses of A need few */
    const ptrdiff_t step = along_columns ? ahead_step : b_step * (ptrdiff_t)sizeof(real);
    vec acc[MAX_TILE_ROWS][VECTORS];
    if (g->ask_for_c) {
        ask_for_tile(rows, vectors, (const real *)g->c + i0 * g->c_row + j0, g->c_row, 1);
        const fbp_epilogue *e = g->epilogue;
        if (!along_columns && (end == ANY_END || is_derivative(end)) && e && e->kind == FBP_DERIVATIVE)
            ask_for_tile(rows, vectors, (const real *)e->saved + i0 * e->saved_row + j0, e->saved_row, 0);
    }
    FOR_EACH_ACCUMULATOR
        acc[i][v] = (vec){0};

    column at = first_column(walk, rows, g, i0);
    int64_t p = end != ANY_END ? g->k - LAST : g->k;
    if (TURN == 1 && is_derivative(end) && vectors == COPY_VECTORS && pauses == COPYING) {
        multiply_and_copy(rows, g->b_column * (ptrdiff_t)sizeof(real), p, &at, &b, ahead, ahead_step, acc);
        p = 0;
    }
#if TURN > 1
    if (vectors == VECTORS && p >= TURN) { /* narrower tiles are rare */
        const char *row = (const char *)b;
        const ptrdiff_t row_step = b_step * (ptrdiff_t)sizeof(real);
        if (b_step == vectors * VL)
            turns(1, 0, walk, rows, vectors, p / TURN, &at, &row, row_step, ahead, ahead_step, acc);
        else if (along_columns || pauses)
            turns(0, 0, walk, rows, vectors, p / TURN, &at, &row, row_step, ahead, ahead_step, acc);
        else
            turns(0, 1, walk, rows, vectors, p / TURN, &at, &row, row_step, ahead, 0, acc);
        b = (const real *)row, p %= TURN;
    }
#endif
    /* Where two multiply-adds go in a cycle, what else a step takes may keep them waiting: a second line asked for, or
     * additions between them, cost 6 %. Behind a group of one vector comes no other one. */
    if (TURN == 1 && !along_columns && pauses == BRIEF)
        for (; p > 0; p--, b += b_step, ahead += ahead_step) {
            multiply_add(walk, rows, vectors, vectors > 1, &at, 0, b, ahead, acc);
            AFTER_READING(b);
            AFTER_READING(ahead);
            after_reading(walk, rows, &at);
            next_columns(walk, rows, 1, &at);
        }
    for (; p > 0; p--, b += b_step, ahead += !along_columns && p & pauses ? 0 : step) {
        ONE_REGISTER(ahead); /* the compiler would take one for each prefetch */
        multiply_add(walk, rows, vectors, TURN > 1 ? 0 : vectors, &at, 0, b, ahead, acc);
        next_columns(walk, rows, 1, &at);
    }

    real *c = (real *)g->c + i0 * g->c_row + j0;
    const fbp_epilogue *e = g->epilogue;
    if (end != ANY_END) {
        last_columns(end, walk, rows, vectors, at, b, b_step, e, i0, j0, acc, c, g->c_row);
        return;
    }
    if (columns < vectors * VL && !g->padded) {
        real z[MAX_TILE_ROWS * GROUP];
        FOR_EACH_ACCUMULATOR
            vec_store(z + (i * vectors + v) * VL, acc[i][v]);
        finish_edge(g, rows, columns, z, vectors * VL, i0, j0);
        return;
    }
    if (columns < vectors * VL) clear_padding(rows, vectors, columns, acc);
    if (g->accumulate)
        FOR_EACH_ACCUMULATOR
            acc[i][v] += vec_load(c + i * g->c_row + v * VL);
    if (e && e->bias) {
        UNROLL
        for (int v = 0; v < vectors; v++) {
            vec bias = vec_load((const real *)e->bias + j0 + v * VL);
            UNROLL
            for (int i = 0; i < rows; i++) acc[i][v] += bias;
        }
    }
    if (e && e->activation == FBP_relu) {
        if (e->kind == FBP_BIAS_ACTIVATION) {
            FOR_EACH_ACCUMULATOR
                acc[i][v] = vec_max(vec_set(0), acc[i][v]);
        } else {
            const real *saved = (const real *)e->saved + i0 * e->saved_row + j0;
            FOR_EACH_ACCUMULATOR
                acc[i][v] = times_derivative(FBP_relu, acc[i][v], saved + i * e->saved_row + v * VL);
        }
    }
    if (!along_columns && e && e->activation == FBP_tanh && e->kind == FBP_DERIVATIVE) {
        const real *saved = (const real *)e->saved + i0 * e->saved_row + j0;
        FOR_EACH_ACCUMULATOR
            acc[i][v] = times_derivative(FBP_tanh, acc[i][v], saved + i * e->saved_row + v * VL);
    }
    real *row = c;
    const ptrdiff_t c_row = g->c_row;
    UNROLL
    for (int i = 0; i < rows; i++, row += c_row) {
        ONE_REGISTER(row); /* or it multiplies the distance of two rows by every number, and reads it again each time */
        UNROLL
        for (int v = 0; v < vectors; v++) vec_store(row + v * VL, acc[i][v]);
    }
}

// clang-format off
/* One function per shape; shapes beyond the instruction set's tile compile to nothing. */
typedef void tile_function(const fbp_block *g, int64_t i0, int64_t j0, const real *b, ptrdiff_t b_step,
                           const char *ahead, ptrdiff_t ahead_step, int64_t pauses, int columns);
typedef tile_function *tile_shapes[3][MAX_TILE_ROWS];
#define TILE(end, walk, vectors, rows)                                                                             \
    static void tile_##end##_##walk##_##vectors##_##rows(                                                          \
        const fbp_block *g, int64_t i0, int64_t j0, const real *b, ptrdiff_t b_step,                               \
        const char *ahead, ptrdiff_t ahead_step, int64_t pauses, int columns) {                                    \
        if ((vectors) <= VECTORS && (rows) <= TILE_ROWS(vectors))                                                  \
            tile(end, walk, rows, (vectors) <= VECTORS ? (vectors) : 1, g, i0, j0, b, b_step, ahead, ahead_step,   \
                 pauses, columns);                                                                                 \
    }
#define TILE_ENTRY(end, walk, vectors, rows) tile_##end##_##walk##_##vectors##_##rows,
#define EACH_ROWS(DO, end, walk, vectors)                                                                          \
    DO(end, walk, vectors, 1) DO(end, walk, vectors, 2) DO(end, walk, vectors, 3) DO(end, walk, vectors, 4)         \
    DO(end, walk, vectors, 5) DO(end, walk, vectors, 6) DO(end, walk, vectors, 7) DO(end, walk, vectors, 8)         \
    DO(end, walk, vectors, 9) DO(end, walk, vectors, 10) DO(end, walk, vectors, 11) DO(end, walk, vectors, 12)      \
    DO(end, walk, vectors, 13) DO(end, walk, vectors, 14)
#define SHAPES(end, walk)                                                                                          \
    EACH_ROWS(TILE, end, walk, 1) EACH_ROWS(TILE, end, walk, 2) EACH_ROWS(TILE, end, walk, 3)                       \
    static const tile_shapes tiles_##end##_##walk = {                                                              \
        {EACH_ROWS(TILE_ENTRY, end, walk, 1)}, {EACH_ROWS(TILE_ENTRY, end, walk, 2)},                              \
        {EACH_ROWS(TILE_ENTRY, end, walk, 3)},                                                                     \
    };
SHAPES(ANY_END, ROWS) SHAPES(ANY_END, COLUMNS) SHAPES(ANY_END, LISTED_ROWS) SHAPES(ANY_END, LISTED_COLUMNS)
SHAPES(STORED, COLUMNS) SHAPES(STORED, LISTED_COLUMNS)
#define ENTRY(end, walk) [walk][end] = &tiles_##end##_##walk
#if VECTOR_BYTES > 16 /* half as many bytes are stored as fast as they are multiplied */
SHAPES(STORED, ROWS) SHAPES(BIASED, ROWS) SHAPES(BIASED_RELU, ROWS) SHAPES(RELU_DERIVATIVE, ROWS)
SHAPES(TANH_DERIVATIVE, ROWS) SHAPES(BIASED, LISTED_ROWS) SHAPES(BIASED_RELU, LISTED_ROWS)
#define ENDS_OF_ROWS                                                                                               \
    ENTRY(STORED, ROWS), ENTRY(BIASED, ROWS), ENTRY(BIASED_RELU, ROWS), ENTRY(RELU_DERIVATIVE, ROWS),              \
    ENTRY(TANH_DERIVATIVE, ROWS), ENTRY(BIASED, LISTED_ROWS), ENTRY(BIASED_RELU, LISTED_ROWS),
#else
#define ENDS_OF_ROWS
#endif
/* NULL: such a block ends like any other */
static const tile_shapes *const tiles[WALKS][ENDS] = {
    ENTRY(ANY_END, ROWS), ENTRY(ANY_END, COLUMNS), ENTRY(ANY_END, LISTED_ROWS), ENTRY(ANY_END, LISTED_COLUMNS),
    ENTRY(STORED, COLUMNS), ENTRY(STORED, LISTED_COLUMNS), ENDS_OF_ROWS
};
// clang-format on

#endif
