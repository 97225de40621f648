/* Tiles of a weight gradient whose elements are used up by the optimizer: nobody else reads this gradient, so it is not
 * stored in its matrix. A tile leaves it in the first-level cache, and the next tile takes Adam's step with it between
 * its own multiply-adds: one vector for each p. Roots and divisions have a unit of their own, and what memory has to
 * bring was asked for a tile before, so that a step costs its few products and stores only. The last tile of a product
 * leaves its gradient to the first one of the next. */
#ifndef FBP_GEMM_STEP_H
#define FBP_GEMM_STEP_H

#include "gemm_tile.h"
#include "optimizer.h"

#ifdef STEP_ROWS /* the instruction set has registers enough for both */

/* What a tile leaves to do: `left` vectors of a gradient, one after another, and where their parameters are. From
 * there to the averages it is equally far everywhere. */
typedef struct {
    adam_numbers numbers;
    char *parameters;        /* of the first of them */
    ptrdiff_t to_m, to_v;    /* bytes */
    ptrdiff_t skip[VECTORS]; /* after each vector of a row, or of two rows of one */
    int turn;                /* vectors until the skips repeat */
    int64_t left;
    _Alignas(FBP_CACHE_LINE) real gradient[STEP_ROWS(VECTORS) * GROUP];
} fbp_unstepped;

/* The step of a vector in two parts, the root between them: each waits for one long operation only. */
INLINE vec begin_step(const fbp_unstepped *u, char *parameters, const real *gradient) {
    real *m = (real *)(parameters + u->to_m), *v = (real *)(parameters + u->to_v);
    vec first = vec_load(m), second = vec_load(v);
    const vec root = adam_averages(&u->numbers, vec_load(gradient), &first, &second);
    vec_store(m, first);
    vec_store(v, second);
    return root;
}

INLINE void end_step(const fbp_unstepped *u, char *parameters, vec root) {
    const vec first = vec_load((real *)(parameters + u->to_m)), p = vec_load((real *)parameters);
    vec_store((real *)parameters, adam_parameters(&u->numbers, p, first, root));
}

INLINE void ask_for_vector(const fbp_unstepped *u, const char *parameters) {
    __builtin_prefetch(parameters, 1);
    __builtin_prefetch(parameters + u->to_m, 1);
    __builtin_prefetch(parameters + u->to_v, 1);
}

INLINE void step_rest(const fbp_unstepped *u, char *parameters, const real *gradient, int64_t left) {
    for (int v = 0; left > 0; left--, gradient += VL) {
        end_step(u, parameters, begin_step(u, parameters, gradient));
        parameters += u->skip[v];
        v = v + 1 < u->turn ? v + 1 : 0;
    }
}

static __attribute__((noinline)) void step_all(fbp_unstepped *u) {
    step_rest(u, u->parameters, u->gradient, u->left);
    u->left = 0;
}

static void begin_steps(const fbp_step *step) {
    fbp_unstepped *u = step->unstepped;
    _Static_assert(sizeof *u <= FBP_UNSTEPPED, "");
    u->numbers = adam_numbers_of(step->adam);
    u->to_m = (char *)step->m - (char *)step->parameters;
    u->to_v = (char *)step->v - (char *)step->parameters;
    u->left = u->turn = 0;
}

static void end_steps(const fbp_step *step) { step_all(step->unstepped); }

INLINE void step_tile(const int walk, const int rows, const int vectors, const fbp_block *g, int64_t i0, int64_t j0,
                      const real *b, ptrdiff_t b_step, const char *ahead, ptrdiff_t ahead_step, int columns) {
    fbp_unstepped *u = g->step->unstepped;
    const real *gradient = u->gradient, *c = (const real *)g->c + i0 * g->c_row + j0;
    char *parameters = u->parameters; /* of the tile before */
    char *own = (char *)g->step->parameters + ((const char *)c - (const char *)g->step->gradients);
    const ptrdiff_t c_row = g->c_row * (ptrdiff_t)sizeof(real);
    const ptrdiff_t to_next_row = c_row - (vectors - 1) * VECTOR_BYTES;
    const char *asked = own;
    const int turn = vectors > 1 ? vectors : 2;
    if (u->turn != turn) step_all(u); /* the tile before was of another width */
    vec acc[MAX_TILE_ROWS][VECTORS];
    FOR_EACH_ACCUMULATOR
        acc[i][v] = (vec){0};

    column at = first_column(walk, rows, g, i0);
    const int plain = columns == vectors * VL && !g->accumulate && g->k >= LAST;
    int64_t p = plain ? g->k - LAST : g->k;
    const int lines = vectors > 2 ? 1 : 2; /* three at once keep the multipliers waiting */
#define MULTIPLY_ADD                                                 \
    ONE_REGISTER(ahead); /* see tile */                              \
    multiply_add(walk, rows, vectors, lines, &at, 0, b, ahead, acc); \
    next_columns(walk, rows, 1, &at);                                \
    p--, b += b_step, ahead += ahead_step
    /* the steps are spread evenly: memory answers so many questions at a time only */
    const int64_t turns = (u->left < p ? u->left : p) / turn, pause = turns ? p / turns - turn : 0;
    const real *const last = gradient + turn * turns * VL;
    while (gradient < last) {
        UNROLL
        for (int q = 0; q < turn; q++) {
            const vec root = begin_step(u, parameters, gradient);
            MULTIPLY_ADD;
            end_step(u, parameters, root);
            ask_for_vector(u, asked);
            parameters += u->skip[q], gradient += VL;
            asked += q % vectors < vectors - 1 ? VECTOR_BYTES : to_next_row;
        }
        for (int64_t rest = pause; rest > 0; rest--) {
            MULTIPLY_ADD;
        }
    }
    while (p > 0) {
        MULTIPLY_ADD;
    }
    step_rest(u, parameters, gradient, u->left - turn * turns);
#undef MULTIPLY_ADD

    if (plain) {
        last_columns(STORED, walk, rows, vectors, at, b, b_step, NULL, i0, j0, acc, u->gradient, vectors * VL);
    } else {
        if (columns < vectors * VL) clear_padding(rows, vectors, columns, acc);
        if (g->accumulate)
            FOR_EACH_ACCUMULATOR
                acc[i][v] += vec_load(c + i * g->c_row + v * VL);
        FOR_EACH_ACCUMULATOR
            vec_store(u->gradient + (i * vectors + v) * VL, acc[i][v]);
    }
    u->parameters = own, u->left = rows * vectors, u->turn = turn;
    UNROLL
    for (int q = 0; q < turn; q++) u->skip[q] = q % vectors < vectors - 1 ? VECTOR_BYTES : to_next_row;
}

// clang-format off
#define STEP_TILE(end, walk, vectors, rows)                                                                        \
    static void step_tile_##walk##_##vectors##_##rows(                                                             \
        const fbp_block *g, int64_t i0, int64_t j0, const real *b, ptrdiff_t b_step,                               \
        const char *ahead, ptrdiff_t ahead_step, int64_t pauses, int columns) {                                    \
        (void)pauses;                                                                                              \
        if ((rows) <= STEP_ROWS(vectors))                                                                          \
            step_tile(walk, rows, vectors, g, i0, j0, b, b_step, ahead, ahead_step, columns);                      \
    }
#define STEP_SHAPES(walk)                                                                                          \
    EACH_ROWS(STEP_TILE, STORED, walk, 1) EACH_ROWS(STEP_TILE, STORED, walk, 2) EACH_ROWS(STEP_TILE, STORED, walk, 3)
STEP_SHAPES(COLUMNS) STEP_SHAPES(LISTED_COLUMNS)

#define STEP_TILE_ENTRY(end, walk, vectors, rows) step_tile_##walk##_##vectors##_##rows,
#define STEP_ENTRIES(walk)                                                                                         \
    {                                                                                                              \
        {EACH_ROWS(STEP_TILE_ENTRY, STORED, walk, 1)}, {EACH_ROWS(STEP_TILE_ENTRY, STORED, walk, 2)},              \
        {EACH_ROWS(STEP_TILE_ENTRY, STORED, walk, 3)},                                                             \
    }
static const tile_shapes step_tiles[2] = {STEP_ENTRIES(COLUMNS), STEP_ENTRIES(LISTED_COLUMNS)};
// clang-format on
#endif
#endif
