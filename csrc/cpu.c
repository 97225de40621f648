/* Which kernel tables were compiled, and which of them this processor and operating system can run. The
 * processor is asked directly: what compilers offer for it returns zeros with some of their runtimes. */
#include <string.h>

#include "fastbp.h"

#if defined(__x86_64__)
#include <cpuid.h>

extern const fbp_kernels fbp_kernels_x86_v2_f32, fbp_kernels_x86_v2_f64;
extern const fbp_kernels fbp_kernels_x86_v3_f32, fbp_kernels_x86_v3_f64;
extern const fbp_kernels fbp_kernels_x86_v4_f32, fbp_kernels_x86_v4_f64;

static unsigned long long enabled_state(void) { /* XCR0: registers that the operating system saves */
    unsigned low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (unsigned long long)high << 32 | low;
}

static int has(unsigned value, unsigned bits) { return (value & bits) == bits; }

/* level of x86-64: 1 to 4 */
static int ask_level(void) {
    unsigned a, b, c, d, b7 = 0, c81 = 0, unused;
    if (!__get_cpuid(1, &a, &b, &c, &d)) return 1;
    __get_cpuid_count(7, 0, &unused, &b7, &unused, &unused);
    __get_cpuid(0x80000001, &unused, &unused, &c81, &unused);
    /* SSE3, SSSE3, CMPXCHG16B, SSE4.1, SSE4.2, POPCNT */
    if (!has(c, 1u << 0 | 1u << 9 | 1u << 13 | 1u << 19 | 1u << 20 | 1u << 23)) return 1;
    /* FMA, MOVBE, OSXSAVE, AVX, F16C; BMI1, AVX2, BMI2; LZCNT */
    if (!has(c, 1u << 12 | 1u << 22 | 1u << 27 | 1u << 28 | 1u << 29)) return 2;
    if (!has(b7, 1u << 3 | 1u << 5 | 1u << 8) || !has(c81, 1u << 5)) return 2;
    if ((enabled_state() & 0x6) != 0x6) return 2; /* XMM, YMM */
    /* AVX-512 F, DQ, CD, BW, VL */
    if (!has(b7, 1u << 16 | 1u << 17 | 1u << 28 | 1u << 30 | 1u << 31)) return 3;
    if ((enabled_state() & 0xe6) != 0xe6) return 3; /* and opmask, upper ZMM */
    return 4;
}

/* asked for once: in a virtual machine each question to the processor takes microseconds */
static int level(void) {
    static _Atomic int found;
    if (!found) found = ask_level();
    return found;
}

static int ask_maker(void) {
    unsigned a, b, c, d;
    return __get_cpuid(0, &a, &b, &c, &d) && b == signature_INTEL_ebx && c == signature_INTEL_ecx;
}

static const struct {
    const fbp_kernels *f32, *f64;
    int level;
} compiled[] = {
    {&fbp_kernels_x86_v4_f32, &fbp_kernels_x86_v4_f64, 4},
    {&fbp_kernels_x86_v3_f32, &fbp_kernels_x86_v3_f64, 3},
    {&fbp_kernels_x86_v2_f32, &fbp_kernels_x86_v2_f64, 2},
};
#elif defined(__aarch64__)
extern const fbp_kernels fbp_kernels_neon_f32, fbp_kernels_neon_f64;

static int level(void) { return 1; } /* part of the base architecture */

static int ask_maker(void) { return 0; }

static const struct {
    const fbp_kernels *f32, *f64;
    int level;
} compiled[] = {{&fbp_kernels_neon_f32, &fbp_kernels_neon_f64, 1}};
#else
#error "fastbp has kernels for x86-64 and AArch64; elsewhere install it with FASTBP_PURE=1"
#endif

static _Atomic int maker = -1; /* 1: Intel, 0: another one, -1: not asked */

void fbp_set_intel(int intel) { maker = intel < 0 ? -1 : intel; }

int fbp_is_intel(void) {
    if (maker < 0) maker = ask_maker();
    return maker;
}

enum { COMPILED = sizeof compiled / sizeof *compiled };

const char *const *fbp_isas(void) {
    static const char *names[COMPILED + 1];
    int n = 0, here = level();
    for (int i = 0; i < COMPILED; i++)
        if (compiled[i].level <= here) names[n++] = compiled[i].f32->isa;
    names[n] = NULL;
    return names;
}

const fbp_kernels *fbp_find_kernels(const char *isa, size_t element) {
    int here = level();
    for (int i = 0; i < COMPILED; i++)
        if (compiled[i].level <= here && !strcmp(compiled[i].f32->isa, isa))
            return element == sizeof(float) ? compiled[i].f32 : compiled[i].f64;
    return NULL;
}
