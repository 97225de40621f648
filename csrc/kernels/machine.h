/* What the machine can do at most, for benchmarks: arithmetic without memory. */
#ifndef FBP_MACHINE_H
#define FBP_MACHINE_H

#include "../isa/vec.h"

/* Chains that do not wait for each other. Two units of four cycles want 8, four of four 16; this many leave room
 * in the registers for the two constants. Without a fused instruction a link takes twice the time in twice the
 * units, which comes to the same. */
enum { CHAINS = VECTOR_REGISTERS == 32 ? 24 : 12 };

static double multiply_add_chains(int64_t rounds, double factor, double term) {
    const vec a = vec_set((real)factor), b = vec_set((real)term);
    vec x[CHAINS];
    UNROLL
    for (int c = 0; c < CHAINS; c++) x[c] = vec_set((real)c); /* all different: equal ones would be computed once */
    for (; rounds > 0; rounds--) {
        UNROLL
        for (int c = 0; c < CHAINS; c++) x[c] = vec_fma(x[c], a, b);
    }
    UNROLL
    for (int c = 1; c < CHAINS; c++) x[0] += x[c];
    return (double)vec_sum(x[0]);
}

#endif
