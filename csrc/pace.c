#include "pace.h"

/* A trial is two runs of about so many seconds, or two batches: the first of them settles the caches. */
static const double trial = 5e-4;

/* Before it, training has taken so many times what the trial will take, or with a smaller team maybe twice that. As
 * long as the best size stands, this time doubles from trial to trial, but not beyond so many seconds. */
static const double patience = 20, longest = 2;

/* Seconds that the average of the pace reaches back: a call that feels its way, or one disturbed batch, says little. */
static const double memory = 0.05;

/* A pace that is so many times another one tells of a machine that has changed: a neighbour came or left. */
static const double changed = 1.2;

/* Another size has to be so much faster: noise alone changes nothing. */
static const double enough = 0.97;

static double larger(double a, double b) { return a > b ? a : b; }

/* The other size that is worth a trial, or the same one if there is none. */
static int rival(const fbp_pace *pace, int most) {
    if (!pace->growing) return pace->size / 2 > 0 ? pace->size / 2 : 1;
    return pace->size <= most / 2 ? 2 * pace->size : most;
}

static int due(const fbp_pace *pace, int64_t batch) {
    const double least = patience * 2 * larger(trial, (double)batch * pace->seconds);
    const double wait = (double)pace->doubled * least;
    return pace->seconds > 0 && pace->spent >= (wait < longest ? wait : larger(least, longest));
}

int fbp_pace_size(fbp_pace *pace, int most, int64_t batch) {
    if (most == 1) return 1;
    if (pace->size == 0 || pace->size > most) *pace = (fbp_pace){.size = most, .doubled = 1};
    if (rival(pace, most) == pace->size) pace->growing = !pace->growing;
    return due(pace, batch) ? rival(pace, most) : pace->size;
}

int64_t fbp_pace_rows(const fbp_pace *pace, int size, int64_t batch, int64_t left) {
    if (size == pace->size) return left;
    const int64_t rows = ((int64_t)(trial / pace->seconds) / batch + 1) * batch;
    return rows < left ? rows : left;
}

void fbp_pace_note(fbp_pace *pace, int size, int most, int64_t batch, int64_t rows, double seconds) {
    const int settled = size == pace->last;
    pace->last = size;
    if (size == pace->size) pace->spent += seconds;
    if (!settled) return;
    const double each = seconds / (double)rows;
    if (size == pace->size) {
        const double part = pace->seconds > 0 ? seconds / (seconds + memory) : 1;
        pace->seconds += part * (each - pace->seconds);
        if (pace->seconds > changed * pace->judged || pace->judged > changed * pace->seconds)
            pace->doubled = 1, pace->judged = pace->seconds;
        return;
    }
    if (size != rival(pace, most) || !due(pace, batch)) return; /* other teams left fewer threads */
    pace->spent = 0;
    if (each < enough * pace->seconds) {
        pace->size = size, pace->doubled = 1, pace->seconds = pace->judged = each;
    } else {
        pace->growing = !pace->growing, pace->judged = pace->seconds;
        if (pace->doubled < 1 << 20) pace->doubled *= 2;
    }
}
