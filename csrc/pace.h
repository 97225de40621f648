/* The size of a team that turned out fastest: what a core's distance from another costs is known by trying only. */
#ifndef FBP_PACE_H
#define FBP_PACE_H

#include <stdint.h>

typedef struct {
    int size;        /* the best so far; 0: nothing is known */
    int last;        /* that ran: the first run after another size finds its data in other cores' caches */
    int growing;     /* the next trial is of twice as many members, else of half */
    int64_t doubled; /* the time to the next trial: so many times the shortest one */
    double spent;    /* seconds at the best size since the last trial */
    double seconds;  /* for each row, of the best size, an average; 0: not measured */
    double judged;   /* what it was when the best size was last found to be that */
} fbp_pace;

/* Members for the next run of batches of so many rows, at most `most`. */
int fbp_pace_size(fbp_pace *pace, int most, int64_t batch);
/* Rows of the next `left` ones, in batches of so many, that a run with `size` members is for: a trial is short. */
int64_t fbp_pace_rows(const fbp_pace *pace, int size, int64_t batch, int64_t left);
/* A run with `size` members took so many seconds for its rows. */
void fbp_pace_note(fbp_pace *pace, int size, int most, int64_t batch, int64_t rows, double seconds);

#endif
