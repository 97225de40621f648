#include "pace.h"

/* As long as the best size stands, the time to the next trial doubles, from 1 run to 256: a machine that changes is
 * noticed within some 13 s of runs of 50 ms. */
enum { MOST_RUNS = 256 };

/* A trial is two runs of about so many seconds, or two batches: the first of them settles the caches. */
static const double trial = 5e-4;

/* Another size has to be so much faster: noise alone changes nothing. */
static const double enough = 0.97;

/* The other size that is worth a trial, or the same one if there is none. */
static int rival(const fbp_pace *pace, int most) {
    if (!pace->growing) return pace->size / 2 > 0 ? pace->size / 2 : 1;
    return pace->size <= most / 2 ? 2 * pace->size : most;
}

int fbp_pace_size(fbp_pace *pace, int most) {
    if (most == 1) return 1;
    if (pace->size == 0 || pace->size > most) *pace = (fbp_pace){.size = most, .interval = 1};
    if (rival(pace, most) == pace->size) pace->growing = !pace->growing;
    return pace->seconds > 0 && pace->runs >= pace->interval ? rival(pace, most) : pace->size;
}

int64_t fbp_pace_rows(const fbp_pace *pace, int size, int64_t batch, int64_t left) {
    if (size == pace->size) return left;
    const int64_t rows = ((int64_t)(trial / pace->seconds) / batch + 1) * batch;
    return rows < left ? rows : left;
}

void fbp_pace_note(fbp_pace *pace, int size, int most, double seconds) {
    const int settled = size == pace->last;
    pace->last = size;
    if (!settled) return;
    if (size == pace->size) {
        pace->runs++;
        pace->seconds = pace->seconds > 0 ? 0.75 * pace->seconds + 0.25 * seconds : seconds;
        return;
    }
    if (size != rival(pace, most) || pace->runs < pace->interval) return; /* other teams left fewer threads */
    pace->runs = 0;
    if (seconds < enough * pace->seconds) {
        pace->size = size, pace->interval = 1, pace->seconds = seconds;
    } else {
        pace->growing = !pace->growing;
        if (pace->interval < MOST_RUNS) pace->interval *= 2;
    }
}
