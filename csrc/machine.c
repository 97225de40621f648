/* The limits that a benchmark compares with, run by the largest team; the caller holds the watch. */
#include <math.h>

#include "fastbp.h"
#include "team.h"

typedef struct {
    const fbp_kernels *kernels;
    int64_t n; /* rounds, or elements of x */
    char *x;
} measurement;

static void multiply_add_member(void *context, const fbp_member *member) {
    const measurement *m = context;
    (void)member;
    m->kernels->multiply_add_chains(m->n, 0.5, 1.0); /* tends to 2: no value overflows or gets tiny */
}

double fbp_multiply_adds(const fbp_kernels *kernels, int64_t rounds) {
    measurement m = {kernels, rounds, NULL};
    int size = fbp_team_size(HUGE_VAL);
    fbp_team_run(size, NULL, 0, multiply_add_member, &m);
    return 2.0 * (double)rounds * kernels->chains * kernels->vector * size;
}

static void sweep_member(void *context, const fbp_member *member) {
    const measurement *m = context;
    fbp_range part = fbp_share(m->n, 4096, member->size, member->index); /* at least a page */
    m->kernels->scale(0.5, part.end - part.begin, m->x + (size_t)part.begin * m->kernels->element);
}

void fbp_sweep_memory(const fbp_kernels *kernels, int64_t n, void *x) {
    measurement m = {kernels, n, x};
    fbp_team_run(fbp_team_size(HUGE_VAL), NULL, 0, sweep_member, &m);
}
