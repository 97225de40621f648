/* The team of threads: one OpenMP region per call, our own barrier inside it, our own rules for its size. */
#ifndef FBP_TEAM_H
#define FBP_TEAM_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
    _Alignas(64) atomic_int arrived;
    _Alignas(64) atomic_int round;
    int pauses; /* of a member that waits, before it lets others have its core */
} fbp_barrier;

struct fbp_ahead;
typedef struct {
    int index, size;
    fbp_barrier *barrier;
    char *scratch;           /* this member's own */
    struct fbp_ahead *ahead; /* what it will read soon, FBP_NEXTS of them; NULL: not known */
    void *unstepped;         /* room for gradients that wait for their step */
} fbp_member;

/* Calls work(context, member) on each member; the floating-point environment is set (subnormals are zero)
 * and restored on every one. scratch: `bytes` for each member, or NULL. Returns how many they were: other teams may
 * have left less than `size`. */
int fbp_team_run(int size, char *scratch, size_t bytes, void (*work)(void *context, const fbp_member *member),
                 void *context);
void fbp_team_wait(const fbp_member *member);
/* A clock, in seconds; it stands still without OpenMP. */
double fbp_team_clock(void);

/* Elements to cut flat arrays at: a whole number of cache lines for both element types. */
enum { FBP_LINE = 64 };
/* Part `index` of `parts` of 0 .. total, cut at multiples of `unit`. */
typedef struct {
    int64_t begin, end;
} fbp_range;
fbp_range fbp_share(int64_t total, int64_t unit, int parts, int index);

#endif
