#include "team.h"

#include <stddef.h>

#include "fastbp.h"

#ifdef _OPENMP
#include <omp.h>
#endif
#ifndef _WIN32
#include <pthread.h>
#include <sched.h>
#define yield_processor() sched_yield()
#else
#include <windows.h>
#define yield_processor() SwitchToThread()
#endif
#if defined(__x86_64__)
#include <xmmintrin.h>
#define pause_processor() _mm_pause()
#elif defined(__aarch64__)
#define pause_processor() __asm__ volatile("yield")
#endif

/* A barrier costs 0.3 us between quiet cores and 4 us beside a busy neighbour, and a pass has some ten of
 * them; one core does this many operations in about 20 us. Where that is too few, pace.c finds out. */
static const double default_grain = 2e6;

/* A member that waits longer than this many pauses (some 20 us) gives its core away; at once where there are
 * more members than cores, for whoever it waits for may need it. */
static const int most_pauses = 1000;

static atomic_int limit = 1;
static _Atomic double grain = 2e6;
static atomic_int region_entered = 0; /* this process or its parent has an OpenMP pool */
static atomic_int forked = 0;         /* ... and it was the parent: entering libgomp would hang for ever */

static atomic_int in_use = 0; /* members of all teams at work in this process */
static atomic_int usual = 0;  /* OpenMP's own limit when ours was first set */

/* OpenMP's limit for the calling thread, where somebody (threadpoolctl, say) has lowered it since; else ours. */
static int present_limit(void) {
#ifdef _OPENMP
    int theirs = omp_get_max_threads();
    if (theirs < usual && theirs < limit) return theirs;
#endif
    return limit;
}

void fbp_set_threads(int n) {
    limit = n < 1 ? 1 : n;
#ifdef _OPENMP
    if (!usual) usual = omp_get_max_threads();
#endif
}
int fbp_members_in_use(void) { return in_use; }
int fbp_get_threads(void) { return limit; }
void fbp_set_grain(double flops) { grain = flops < 0 ? default_grain : flops; }
double fbp_get_grain(void) { return grain; }

int fbp_has_openmp(void) {
#ifdef _OPENMP
    return 1;
#else
    return 0;
#endif
}

int fbp_team_size(double flops) {
#ifdef _OPENMP
    const int most = present_limit();
    if (forked || most == 1 || omp_in_parallel()) return 1;
    double worth = grain > 0 ? flops / grain : most;
    return worth >= most ? most : worth <= 1 ? 1 : (int)worth;
#else
    (void)flops;
    return 1;
#endif
}

double fbp_team_clock(void) {
#ifdef _OPENMP
    return omp_get_wtime();
#else
    return 0;
#endif
}

fbp_range fbp_share(int64_t total, int64_t unit, int parts, int index) {
    if (parts == 1) return (fbp_range){0, total}; /* four divisions less in the step of a small network */
    int64_t units = (total + unit - 1) / unit;
    int64_t begin = units * index / parts * unit, end = units * (index + 1) / parts * unit;
    fbp_range range = {begin < total ? begin : total, end < total ? end : total};
    return range;
}

void fbp_team_wait(const fbp_member *member) {
    if (member->size == 1) return;
    fbp_barrier *b = member->barrier;
    int round = atomic_load_explicit(&b->round, memory_order_relaxed);
    if (atomic_fetch_add_explicit(&b->arrived, 1, memory_order_acq_rel) == member->size - 1) {
        atomic_store_explicit(&b->arrived, 0, memory_order_relaxed);
        atomic_store_explicit(&b->round, round + 1, memory_order_release);
        return;
    }
    for (int n = 0; atomic_load_explicit(&b->round, memory_order_acquire) == round; n++) {
        if (n < b->pauses)
            pause_processor();
        else
            yield_processor();
    }
}

/* Subnormal numbers as zero (they cost a hundred times a normal operation): on for the work, then as before. */
#if defined(__x86_64__)
typedef unsigned int environment;
static environment flush_subnormals(void) {
    environment before = _mm_getcsr();
    _mm_setcsr(before | 0x8040); /* FTZ and DAZ */
    return before;
}
static void restore_environment(environment before) { _mm_setcsr(before); }
#elif defined(__aarch64__)
typedef uint64_t environment;
static environment flush_subnormals(void) {
    environment before;
    __asm__ volatile("mrs %0, fpcr" : "=r"(before));
    __asm__ volatile("msr fpcr, %0" : : "r"(before | (1u << 24))); /* FZ */
    return before;
}
static void restore_environment(environment before) { __asm__ volatile("msr fpcr, %0" : : "r"(before)); }
#endif

typedef struct {
    char *scratch;
    size_t bytes;
    void (*work)(void *context, const fbp_member *member);
    void *context;
    fbp_barrier *barrier;
} task;

static void run_member(const task *t, int index, int size) {
    fbp_member member = {.index = index, .size = size, .barrier = t->barrier};
    if (t->scratch) member.scratch = t->scratch + (size_t)index * t->bytes;
    environment before = flush_subnormals();
    t->work(t->context, &member);
    restore_environment(before);
}

#if defined(_OPENMP) && !defined(_WIN32)
static void in_child(void) {
    if (region_entered) forked = 1;
    in_use = 0; /* whatever was at work stayed with the parent */
}
static void watch_forks(void) { pthread_atfork(NULL, NULL, in_child); }
#endif

/* Teams of several Python threads share the limit: a team gets what the others leave, at least its own thread. */
static int reserve(int size) {
    int others = in_use, granted;
    do {
        const int left = limit - others;
        granted = size <= left ? size : left < 1 ? 1 : left;
    } while (!atomic_compare_exchange_weak(&in_use, &others, others + granted));
    return granted;
}

int fbp_team_run(int size, char *scratch, size_t bytes, void (*work)(void *context, const fbp_member *member),
                 void *context) {
    fbp_barrier barrier = {0};
    task t = {scratch, bytes, work, context, &barrier};
    size = reserve(size);
#ifdef _OPENMP
    if (size > 1) {
#ifndef _WIN32
        static pthread_once_t once = PTHREAD_ONCE_INIT;
        pthread_once(&once, watch_forks);
#endif
        region_entered = 1;
        barrier.pauses = size <= omp_get_num_procs() ? most_pauses : 0;
#pragma omp parallel num_threads(size)
        run_member(&t, omp_get_thread_num(), omp_get_num_threads());
        atomic_fetch_sub(&in_use, size);
        return size;
    }
#endif
    run_member(&t, 0, 1);
    atomic_fetch_sub(&in_use, size);
    return size;
}
