#include "gemm.h"

#include <stdlib.h>
#include <string.h>

#include "fastbp.h"

/* Loops around a block, outside in:
 *   columns of C by nc | depth by kc: B (kc x nc, second or third cache level), packed or where it lies | rows of C by
 *   mc: A (mc x kc, second level) where it lies | the block itself: column groups, then row tiles.
 * kc is one number per instruction set and element type, because it sets where the sum over k is cut (each
 * cut starts a fresh accumulator, which also keeps the rounding error at kc + k/kc terms instead of k). mc
 * and nc change nothing but speed.
 *
 * Some forward products have their cut in the middle, for teams. Each member steps rows of the weight, and if members
 * share columns, they read rows that others have just written. So of two of them each takes half of the depth: first
 * what it adds to the columns of the other one, then its own columns, to which it adds what it finds there. A sum of
 * two has the same bits either way. */

enum { SHARED_ROWS = 14 }; /* fewest rows of C that are worth a member */

/* Rows so far apart cost translations of addresses. On processors that keep few, a B of such rows is packed earlier
 * (rows of one page each cost nothing there), and along columns of A they are asked for before they are needed. */
enum { TWO_PAGES = 1 << 13, HALF_A_PAGE = 1 << 11, FEW_ROWS = 256 };

enum { PANEL_GROUPS = 8 }; /* fewest column groups that a copy of A's columns pays for */

enum { FAR = 1 << 18 }; /* bytes that do not stay in the second-level cache from one step to the next */

static int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

static int full_group(const fbp_kernels *k) { return k->vectors[fbp_is_intel()]; }

int64_t fbp_gemm_group(const fbp_kernels *k) { return (int64_t)full_group(k) * k->vector; }

int64_t fbp_gemm_middle(const fbp_kernels *kernels, int64_t k) {
    const int64_t half = ((k + 1) / 2 + kernels->vector - 1) / kernels->vector * kernels->vector;
    return half <= kernels->kc ? half : 0;
}

static int64_t cut_of(const fbp_gemm *g) { return g->cut ? g->cut : g->kernels->kc; }

static size_t scratch_b(const fbp_kernels *k) { return (size_t)k->kc * (size_t)(k->nc + k->vector) * k->element; }

/* of a narrow product, transposed */
static size_t scratch_c(const fbp_kernels *k) { return FBP_NARROW * (size_t)(k->nc + k->vector) * k->element; }

/* of a list of rows */
static size_t scratch_rows(void) { return (FBP_MOST_ROWS + FBP_NEXT_ROWS) * sizeof(void *); }

static size_t whole_lines(size_t bytes) { return (bytes + FBP_CACHE_LINE - 1) / FBP_CACHE_LINE * FBP_CACHE_LINE; }

/* where the copy of a block of A begins */
static size_t panels_offset(const fbp_kernels *k) { return whole_lines(scratch_b(k) + scratch_c(k) + scratch_rows()); }
/* Blocks have up to half as many rows again as mc, where what is left would not be worth one. */
static size_t scratch_panels(const fbp_kernels *k) {
    return k->panels ? (size_t)k->kc * (size_t)k->mc * 3 / 2 * k->element : 0;
}

size_t fbp_gemm_scratch(const fbp_kernels *k) { return panels_offset(k) + whole_lines(scratch_panels(k)); }

/* Lists rows of A, as it lies in memory, from number `first` and some column on. One by one: wider stores would keep
 * the loads that follow at once waiting. */
static const void *const *list_rows(const fbp_gemm *g, int64_t first, int64_t count, int64_t column, char *scratch) {
    const void **rows = (const void **)(scratch + scratch_b(g->kernels) + scratch_c(g->kernels));
    const ptrdiff_t element = (ptrdiff_t)g->kernels->element;
    const ptrdiff_t step = (g->a_step == 1 ? g->a_row : g->a_step) * element;
    const char *a = (const char *)g->a + column * element;
    rows[0] = a; /* if there are none */
    for (int64_t r = 0; r < count; r++) rows[r] = a + g->a_order[first + r] * step;
    for (int64_t r = 0; r < FBP_NEXT_ROWS; r++) rows[count + r] = rows[r];
    return rows;
}

static void run_blocks(const fbp_gemm *g, char *scratch) {
    const fbp_kernels *kernels = g->kernels;
    const ptrdiff_t element = (ptrdiff_t)kernels->element;
    const int intel = fbp_is_intel();
    const int64_t kc = cut_of(g);
    const int64_t group = fbp_gemm_group(kernels), nc = kernels->nc / group * group;
    const int dear = g->b_row * element >= TWO_PAGES && intel;
    const int64_t few = dear ? smaller(FEW_ROWS, kernels->in_place) : kernels->in_place;
    const int pack_b = g->b_column != 1 || !g->b_padded || (g->m > few && g->n > group);
    /* mc rows, of a shallower product as many more; cut evenly, since a rest of a few would read all of B once more */
    int64_t mc = g->m;
    if (g->m > kernels->mc) {
        const int64_t more = kernels->kc / smaller(kernels->kc, g->k > 0 ? g->k : 1);
        const int64_t most = smaller(kernels->mc * more, FBP_MOST_ROWS * 2 / 3);
        const int64_t count = (g->m + most / 2) / most;
        if (count > 1) mc = (g->m + count - 1) / count;
    }
    /* C was last touched a step ago, with much in between, or by another member */
    const int far = g->m * g->n * element > FAR || g->exchanged;

    /* A transposed copy is made group by group, each just before its tiles, or by those of the group before. */
    const int by_groups = pack_b && (g->b_column != 1 || kernels->by_groups);

    fbp_block block = {.vectors = full_group(kernels),
                       .a_row = g->a_row,
                       .a_step = g->a_step,
                       .brief = intel,
                       .far_rows = g->a_step * element > HALF_A_PAGE && intel,
                       .c_row = g->c_row,
                       .padded = g->c_padded,
                       .kept = mc < g->m,
                       .ahead = g->ahead,
                       .step = g->step};
    for (int64_t j = 0; j < g->n; j += nc) {
        block.n = smaller(nc, g->n - j);
        /* an empty sum (k == 0) still passes once, for the epilogue */
        for (int64_t p = 0; p == 0 || p < g->k; p += kc) {
            block.k = smaller(kc, g->k - p);
            const char *b = (const char *)g->b + (p * g->b_row + j * g->b_column) * element;
            if (pack_b && !by_groups) kernels->pack(block.vectors, block.k, block.n, b, g->b_row, scratch);
            block.b = pack_b ? scratch : b;
            block.b_row = g->b_row, block.b_column = g->b_column;
            block.b_step = pack_b ? 0 : g->b_row;
            const int copies_a =
                kernels->panels && g->a_step != 1 && block.k >= kernels->panels && block.n >= PANEL_GROUPS * group;
            block.panels = copies_a ? scratch + panels_offset(kernels) : NULL;
            block.accumulate = p > 0 || g->accumulate;
            block.ask_for_c = far;
            const int last = p + kc >= g->k;
            const int64_t next_p = last ? 0 : p + kc, next_j = last ? j + nc : j;
            const char *after = (const char *)g->b + (next_p * g->b_row + next_j * g->b_column) * element;
            block.after = next_j < g->n ? after : NULL;
            for (int64_t i = 0; i < g->m; i += mc) {
                block.m = smaller(mc, g->m - i);
                block.unpacked = by_groups && i == 0 ? b : NULL;
                if (g->a_order)
                    block.rows =
                        g->a_step == 1 ? list_rows(g, i, block.m, p, scratch) : list_rows(g, p, block.k, i, scratch);
                else
                    block.a = (const char *)g->a + (i * g->a_row + p * g->a_step) * element;
                block.c = (char *)g->c + (i * g->c_row + j) * element;
                fbp_epilogue epilogue;
                block.epilogue = NULL;
                if (last && g->epilogue) {
                    epilogue = *g->epilogue;
                    if (epilogue.bias) epilogue.bias = (const char *)epilogue.bias + j * element;
                    if (epilogue.saved)
                        epilogue.saved = (const char *)epilogue.saved + (i * epilogue.saved_row + j) * element;
                    block.epilogue = &epilogue;
                }
                (last && g->step ? kernels->step_block : kernels->block)(&block);
            }
        }
    }
}

/* C^T = B^T A^T, for a C with few columns whose A has contiguous ones: the weight gradient of a narrow layer. */
static void run_transposed(const fbp_gemm *g, char *scratch) {
    const fbp_kernels *kernels = g->kernels;
    char *transposed = scratch + scratch_b(kernels);
    const ptrdiff_t element = (ptrdiff_t)kernels->element, row = kernels->nc + kernels->vector;
    for (int64_t i = 0; i < g->m; i += kernels->nc) {
        fbp_gemm part = {.kernels = kernels,
                         .m = g->n,
                         .n = smaller(kernels->nc, g->m - i),
                         .k = g->k,
                         .a = g->b,
                         .a_row = g->b_column,
                         .a_step = g->b_row,
                         .b = (const char *)g->a + i * element,
                         .b_row = g->a_step,
                         .b_column = 1,
                         .b_padded = g->a_padded,
                         .c = transposed,
                         .c_row = row,
                         .c_padded = 1};
        run_blocks(&part, scratch);
        kernels->add_transposed(part.n, g->n, transposed, row, g->accumulate, (char *)g->c + i * g->c_row * element,
                                g->c_row);
    }
}

/* Of listed rows it takes the first one. */
static void run_product(const fbp_gemm *g, void (*kernel)(const fbp_product *)) {
    const ptrdiff_t first = g->a_order ? g->a_order[0] * g->a_row * (ptrdiff_t)g->kernels->element : 0;
    const fbp_product product = {.m = g->m,
                                 .n = g->n,
                                 .k = g->k,
                                 .a = (const char *)g->a + first,
                                 .a_row = g->a_row,
                                 .a_step = g->a_step,
                                 .b = g->b,
                                 .b_row = g->b_row,
                                 .b_column = g->b_column,
                                 .c = g->c,
                                 .c_row = g->c_row,
                                 .cut = cut_of(g),
                                 .accumulate = g->accumulate,
                                 .epilogue = g->epilogue};
    kernel(&product);
}

static void run(const fbp_gemm *g, char *scratch) {
    const int few_terms = g->k > 0 && g->k <= FBP_NARROW && g->k <= g->kernels->vector;
    const int derives = g->epilogue && g->epilogue->kind == FBP_DERIVATIVE;
    const int adds_first = g->accumulate && g->epilogue; /* C, then the bias: no narrow product does */
    if (g->m == 1 && g->a_step == 1 && g->b_column == 1 && !derives && !g->step)
        run_product(g, g->kernels->row);
    else if (g->a_order)
        run_blocks(g, scratch);
    else if (g->n > FBP_NARROW && few_terms && !g->accumulate && !g->step)
        run_product(g, g->kernels->shallow);
    else if (g->n <= FBP_NARROW && g->a_step == 1 && !adds_first)
        run_product(g, g->kernels->narrow);
    else if (g->n <= FBP_NARROW && g->a_row == 1 && !g->epilogue)
        run_transposed(g, scratch);
    else
        run_blocks(g, scratch);
}

/* some rows and columns of C */
static void run_part(const fbp_gemm *gemm, fbp_range rows, fbp_range columns, char *scratch) {
    fbp_gemm g = *gemm;
    const ptrdiff_t element = (ptrdiff_t)g.kernels->element;
    fbp_epilogue epilogue;
    if (g.epilogue) {
        epilogue = *g.epilogue;
        if (epilogue.bias) epilogue.bias = (const char *)epilogue.bias + columns.begin * element;
        if (epilogue.saved)
            epilogue.saved = (const char *)epilogue.saved + (rows.begin * epilogue.saved_row + columns.begin) * element;
        g.epilogue = &epilogue;
    }
    g.m = rows.end - rows.begin, g.n = columns.end - columns.begin;
    if (g.a_order && g.a_step == 1)
        g.a_order += rows.begin;
    else
        g.a = (const char *)g.a + rows.begin * g.a_row * element;
    g.b = (const char *)g.b + columns.begin * g.b_column * element;
    g.c = (char *)g.c + (rows.begin * g.c_row + columns.begin) * element;
    if (g.m && g.n) run(&g, scratch);
}

/* Member `index` of `size`: its columns of C, all rows of them, or where there are few columns some rows */
static void run_share(const fbp_gemm *g, int size, int index, char *scratch) {
    /* columns first, because members that share rows would pack the same part of B */
    const int64_t group = fbp_gemm_group(g->kernels);
    const int64_t most = g->whole_rows ? (g->m + SHARED_ROWS - 1) / SHARED_ROWS : (g->n + group - 1) / group;
    const int first = (int)smaller(size, most), second = size / first;
    if (index >= first * second) return;
    const int across = g->whole_rows ? second : first, down = g->whole_rows ? first : second;
    /* Columns that would be one more vector for some: all share their rows. */
    const int64_t even = g->n / g->kernels->vector / across * g->kernels->vector;
    if (down == 1 && even * across < g->n && even > 0 && g->m >= across * SHARED_ROWS) {
        const fbp_range mine = {index * even, (index + 1) * even}, rest = {across * even, g->n};
        run_part(g, (fbp_range){0, g->m}, mine, scratch);
        run_part(g, fbp_share(g->m, 1, across, index), rest, scratch);
        return;
    }
    run_part(g, fbp_share(g->m, 1, down, index / across), fbp_share(g->n, g->kernels->vector, across, index % across),
             scratch);
}

/* Two members, half of a team apart, share the depth of what both have of C. */
static void run_half(const fbp_gemm *gemm, const fbp_member *member) {
    const int half = member->size / 2, second = member->index >= half, other = (member->index + half) % member->size;
    const int64_t skip = second ? gemm->cut : 0;
    const ptrdiff_t element = (ptrdiff_t)gemm->kernels->element;
    fbp_gemm g = *gemm;
    g.a = (const char *)g.a + skip * g.a_step * element;
    g.b = (const char *)g.b + skip * g.b_row * element;
    g.k = second ? g.k - g.cut : g.cut;
    g.epilogue = NULL, g.exchanged = 1;
    run_share(&g, member->size, other, member->scratch);
    fbp_team_wait(member);
    g.epilogue = gemm->epilogue, g.accumulate = 1;
    run_share(&g, member->size, member->index, member->scratch);
}

void fbp_gemm_share(const fbp_gemm *g, const fbp_member *member) {
    if (!g->m || !g->n) return;
    /* the depth on Intel's processors only, where another core's cache is far away */
    if (member->size == 1)
        run(g, member->scratch);
    else if (g->by_depth && g->cut && member->size % 2 == 0 && fbp_is_intel())
        run_half(g, member);
    else
        run_share(g, member->size, member->index, member->scratch);
}

static void matmul_member(void *gemm, const fbp_member *member) { fbp_gemm_share(gemm, member); }

int fbp_matmul(const fbp_kernels *kernels, int64_t m, int64_t n, int64_t k, const void *a, ptrdiff_t a_row,
               ptrdiff_t a_step, const void *b, ptrdiff_t b_row, ptrdiff_t b_column, void *c, ptrdiff_t c_row,
               const fbp_epilogue *epilogue) {
    fbp_gemm gemm = {.kernels = kernels,
                     .m = m,
                     .n = n,
                     .k = k,
                     .a = a,
                     .a_row = a_row,
                     .a_step = a_step,
                     .b = b,
                     .b_row = b_row,
                     .b_column = b_column,
                     .c = c,
                     .c_row = c_row,
                     .epilogue = epilogue};
    int size = fbp_team_size(2.0 * (double)m * (double)n * (double)k);
    size_t bytes = fbp_gemm_scratch(kernels);
    char *scratch = malloc(bytes * (size_t)size);
    if (!scratch) return FBP_NO_MEMORY;
    fbp_team_run(size, scratch, bytes, matmul_member, &gemm);
    free(scratch);
    return FBP_OK;
}
