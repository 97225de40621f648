#include "fastbp.h"
#include "team.h"

enum { PLACE_FLOPS = 64 }; /* as many take as long as one place of a permutation */

typedef struct {
    const fbp_kernels *kernels;
    uint64_t key;
    int64_t n, first, count;
    int64_t *order;
} places;

static void permute_share(void *context, const fbp_member *member) {
    const places *p = context;
    const fbp_range share = fbp_share(p->count, FBP_LINE, member->size, member->index);
    if (share.end > share.begin)
        p->kernels->permutation(p->key, p->n, p->first + share.begin, share.end - share.begin, p->order + share.begin);
}

void fbp_permutation(const fbp_kernels *kernels, uint64_t key, int64_t n, int64_t first, int64_t count,
                     int64_t *order) {
    places p = {kernels, key, n, first, count, order};
    fbp_team_run(fbp_team_size(PLACE_FLOPS * (double)count), NULL, 0, permute_share, &p);
}

void fbp_shuffle(int64_t n, int64_t *values, uint32_t (*draw)(void *), void *generator) {
    for (int64_t last = n - 1; last > 0;) {
        const int64_t number = draw(generator) & UINT32_MAX >> __builtin_clz((uint32_t)last);
        /* -1 for a number that is too large, else 0: a branch could not be foreseen */
        const int64_t beyond = (last - number) >> 63, place = number + ((last - number) & beyond);
        const int64_t value = values[place];
        values[place] = values[last];
        values[last] = value;
        last -= 1 + beyond;
    }
}
