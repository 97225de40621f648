#include "fastbp.h"

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
