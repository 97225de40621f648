/* Losses: the loss of every row, and the delta, its derivative by the predictions. Losses of short rows are summed side
 * by side, column after column; that of a longer one in double, lane by lane and then over the lanes. NaN in a
 * prediction makes the row's loss and that delta NaN. */
#ifndef FBP_LOSS_H
#define FBP_LOSS_H

#include "kernels.h"
#include "softmax.h"
#include "spans.h"
#include "vec_math.h"

/* Probabilities are clipped to [SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY]: as far as 1 can tell. */
#if REAL_BITS == 32
#define SMALLEST_PROBABILITY 1e-7
#else
#define SMALLEST_PROBABILITY 1e-15
#endif
#define LARGEST_PROBABILITY (1 - SMALLEST_PROBABILITY)
#define POISSON_OFFSET 1e-7

enum { LOSS_sum, LOSS_mean }; /* reductions over the columns */

/* Losses of one element at a time take rows of so many columns side by side: those that do not fill a vector, and where
 * masked loads make a short row cheap, only the shortest ones. */
enum { SIDE_BY_SIDE = VECTOR_BYTES == 64 ? 4 : VL - 1 };

/* one element's loss and its derivative */
typedef struct {
    vec loss, slope;
} loss_pair;

/* parameter: bound of huber, level of quantile. p: prediction, y: target */
INLINE loss_pair loss_vec(int loss, vec parameter, vec p, vec y) {
    const vec zero = vec_set(0), one = vec_set(1);
    vec e = p - y, size = vec_abs(e);
    switch (loss) {
    case FBP_half_squared_error: return (loss_pair){R(0.5) * e * e, e};
    case FBP_mean_absolute_error: return (loss_pair){size, vec_select(size > 0, vec_copysign(one, e), e)};
    case FBP_huber: {
        ivec far = size > parameter;
        return (loss_pair){vec_select(far, parameter * (size - R(0.5) * parameter), R(0.5) * e * e),
                           vec_select(far, vec_copysign(parameter, e), e)};
    }
    case FBP_quantile: {
        vec slope = vec_select(e > 0, one - parameter, -parameter);
        return (loss_pair){slope * e, vec_select(size > 0, slope, e)};
    }
    case FBP_poisson: {
        vec rate = p + R(POISSON_OFFSET);
        return (loss_pair){p - y * vec_log(rate), one - y / rate};
    }
    case FBP_binary_cross_entropy: {
        vec c = vec_clamp(p, R(SMALLEST_PROBABILITY), R(LARGEST_PROBABILITY));
        ivec clipped = (p < R(SMALLEST_PROBABILITY)) | (p > R(LARGEST_PROBABILITY));
        return (loss_pair){-(y * vec_log(c) + (one - y) * vec_log1p(-c)),
                           vec_select(clipped, zero, (c - y) / (c * (one - c)))};
    }
    case FBP_sigmoid_binary_cross_entropy:
    case FBP_multilabel_cross_entropy: { /* p is the logit */
        vec tail = vec_exp(-vec_abs(p));
        return (loss_pair){(vec_max(zero, p) - y * p) + vec_log1p(tail),
                           vec_select(p < 0, tail, one) / (one + tail) - y};
    }
    case FBP_poisson_deviance: { /* p is the logarithm of the rate */
        vec rate = vec_exp(p);
        vec least = vec_select(y > 0, y * vec_log(y) - y, zero);
        return (loss_pair){rate - y * p + least, rate - y};
    }
    default: return (loss_pair){e * e, 2 * e}; /* mean_squared_error */
    }
}

INLINE void elementwise_rows(const int loss, const int reduction, double parameter, double scale, int64_t rows,
                             int64_t columns, const real *p, ptrdiff_t p_row, const real *y, ptrdiff_t y_row,
                             const real *weight, double *row_loss, real *delta, ptrdiff_t delta_row) {
    const double share = reduction == LOSS_mean ? 1 / (double)columns : 1;
    for (int64_t i = 0; i < rows; i++, p += p_row, y += y_row) {
        const double w = weight ? (double)weight[i] : 1;
        const vec factor = vec_set(R(scale * w * share));
        wide_vec total = {0};
        FOR_EACH_SPAN(columns) {
            loss_pair l = loss_vec(loss, vec_set(R(parameter)), load_span(p, span), load_span(y, span));
            total += vec_widen((vec)((ivec)l.loss & lanes_of_span(span)));
            if (delta) store_span(delta + i * delta_row, span, factor * l.slope);
        }
        row_loss[i] = w * share * wide_sum(total);
    }
}

/* one weight for each of these rows */
INLINE vec load_weights(const real *weight, int64_t row, int64_t count) {
    return weight ? load_span(weight, (span_t){row, count}) : vec_set(1);
}

/* Rows that do not fill a vector are computed as they lie, some at a time; only their sums ask which is which. */
enum { SOME_ROWS = 4 * VL, SOME_ELEMENTS = SOME_ROWS * SIDE_BY_SIDE + VL };

/* weight times the sum of the losses of each row; the rows follow each other */
INLINE void sum_rows_of(const int columns, int64_t rows, const real *loss, const real *weight, double share,
                        double *row_loss) {
    FOR_EACH_VECTOR_OF_ROWS(rows) {
        vec v[ABREAST], total = {0};
        if (is_shuffled(columns, columns))
            load_rows(columns, loss + row * columns, count, v);
        else
            rows_to_lanes(columns, loss + row * columns, columns, count, v);
        UNROLL
        for (int j = 0; j < columns; j++) total += v[j];
        store_doubles(row_loss + row, count, load_weights(weight, row, count) * R(share) * total);
    }
}

static __attribute__((noinline)) void sum_rows(int columns, int64_t rows, const real *loss, const real *weight,
                                               double share, double *row_loss) {
    switch (columns) {
    case 1: sum_rows_of(1, rows, loss, weight, share, row_loss); break;
    case 2: sum_rows_of(2, rows, loss, weight, share, row_loss); break;
    case 4: sum_rows_of(4, rows, loss, weight, share, row_loss); break;
    default: sum_rows_of(columns, rows, loss, weight, share, row_loss);
    }
}

INLINE void elementwise_short_rows(const int loss, const int reduction, double parameter, double scale, int64_t rows,
                                   int64_t columns, const real *p, ptrdiff_t p_row, const real *y, ptrdiff_t y_row,
                                   const real *weight, double *row_loss, real *delta, ptrdiff_t delta_row) {
    const double share = reduction == LOSS_mean ? 1 / (double)columns : 1;
    const int dense = p_row == columns && y_row == columns && (!delta || delta_row == columns);
    _Alignas(64) real losses[SOME_ELEMENTS], factors[SOME_ELEMENTS];
    for (int64_t first = 0, count; first < rows; first += count) {
        count = rows - first < SOME_ROWS ? rows - first : SOME_ROWS;
        const int64_t together = dense ? count : 1; /* rows in a walk */
        for (int64_t i = 0; weight && i < count; i++)
            for (int64_t j = 0; j < columns; j++) factors[i * columns + j] = weight[first + i] * R(share) * R(scale);
        for (int64_t i = 0; i < count; i += together) {
            const int64_t row = first + i;
            real *const out = losses + i * columns;
            FOR_EACH_SPAN(together * columns) {
                loss_pair l = loss_vec(loss, vec_set(R(parameter)), load_span(p + row * p_row, span),
                                       load_span(y + row * y_row, span));
                const vec factor =
                    weight ? vec_load(factors + i * columns + span.offset) : vec_set(R(share)) * R(scale);
                vec_store(out + span.offset, l.loss); /* what is too much, the next one writes over */
                if (delta) store_span(delta + row * delta_row, span, factor * l.slope);
            }
        }
        sum_rows((int)columns, count, losses, weight ? weight + first : NULL, share, row_loss + first);
    }
}

static void elementwise_loss(int loss, double parameter, double scale, int64_t rows, int64_t columns,
                             const void *prediction, ptrdiff_t prediction_row, const void *target, ptrdiff_t target_row,
                             const void *weight, double *row_loss, void *delta, ptrdiff_t delta_row) {
    switch (loss) {
#define LOSS(name, reduction)                                                                                 \
    case FBP_##name:                                                                                          \
        if (columns <= SIDE_BY_SIDE)                                                                          \
            elementwise_short_rows(FBP_##name, LOSS_##reduction, parameter, scale, rows, columns, prediction, \
                                   prediction_row, target, target_row, weight, row_loss, delta, delta_row);   \
        else                                                                                                  \
            elementwise_rows(FBP_##name, LOSS_##reduction, parameter, scale, rows, columns, prediction,       \
                             prediction_row, target, target_row, weight, row_loss, delta, delta_row);         \
        break;
#include "../kinds.def"
    }
}

/* What a row ought to be: kept times its probabilities or the unit vector of its label, plus uniform. */
typedef struct {
    const real *probabilities; /* NULL: label */
    integer label;
    vec kept, uniform;
} row_target;

INLINE vec target_vec(const row_target *t, span_t span) {
    if (t->probabilities) return t->kept * load_span(t->probabilities, span) + t->uniform;
    ivec here = lane_numbers() + (integer)span.offset == vec_bits(t->label);
    return vec_select(here, t->kept + t->uniform, t->uniform);
}

/* -sum of t log p; returns the loss */
INLINE double probability_row(int64_t columns, const real *p, const row_target *target, vec factor, real *delta) {
    wide_vec total = {0};
    FOR_EACH_SPAN(columns) {
        vec v = load_span(p, span), t = target_vec(target, span);
        vec loss = t * vec_log(vec_max(vec_set(R(SMALLEST_PROBABILITY)), v));
        total += vec_widen((vec)((ivec)loss & lanes_of_span(span)));
        vec slope = vec_select(v < R(SMALLEST_PROBABILITY), vec_set(0), -t / v);
        if (delta) store_span(delta, span, factor * slope);
    }
    return -wide_sum(total);
}

/* sum of t (logsumexp(z) - z) = mass log(total) - distance, with mass = sum of t, total = sum of exp(z - largest) and
 * distance = sum of t (z - largest). delta holds the exponentials in between, z is not needed any more then. A t of 0
 * counts nothing even for an infinite z. */
typedef struct {
    real mass, total;
    double distance;
} logits_sums;

INLINE logits_sums logits_row(int64_t columns, const real *z, const row_target *target, vec factor, real *delta) {
    const vec largest = row_largest(columns, z);
    wide_vec distance = {0};
    vec total = {0}, mass = {0};
    FOR_EACH_SPAN(columns) {
        ivec lanes = lanes_of_span(span);
        vec below = load_span(z, span) - largest, t = target_vec(target, span), e = vec_exp(below);
        total += (vec)((ivec)e & lanes);
        mass += (vec)((ivec)t & lanes);
        distance += vec_widen((vec)((ivec)(t * below) & lanes & (t != 0)));
        if (delta) store_span(delta, span, e);
    }
    logits_sums sums = {target->probabilities ? vec_sum(mass) : 1, vec_sum(total), wide_sum(distance)};
    const vec share = vec_set(sums.mass / sums.total);
    if (delta) FOR_EACH_SPAN(columns) {
            vec e = load_span(delta, span), t = target_vec(target, span);
            store_span(delta, span, factor * (e * share - t));
        }
    return sums;
}

/* ---- cross-entropy of rows side by side ---- */

/* the losses as probability_row has them; p becomes the slopes */
INLINE vec probability_columns(int64_t columns, vec p[ABREAST], const vec target[ABREAST]) {
    vec total = {0};
    for (int64_t j = 0; j < columns; j++) {
        ivec clipped = p[j] < R(SMALLEST_PROBABILITY);
        total += target[j] * vec_log(vec_max(vec_set(R(SMALLEST_PROBABILITY)), p[j]));
        p[j] = vec_select(clipped, vec_set(0), -target[j] / p[j]);
    }
    return -total;
}

/* the losses as logits_row has them; z becomes the slopes */
INLINE vec logits_columns(int64_t columns, vec z[ABREAST], const vec target[ABREAST], int labels) {
    vec e[ABREAST], mass = {0}, distance = {0};
    const vec total = softmax_of_columns(columns, z, e);
    for (int64_t j = 0; j < columns; j++) {
        mass += target[j];
        distance += (vec)((ivec)(target[j] * z[j]) & (target[j] != 0));
    }
    if (labels) mass = vec_set(1);
    const vec share = mass / total;
    for (int64_t j = 0; j < columns; j++) z[j] = e[j] * share - target[j];
    return mass * vec_log1p(total - 1) - distance;
}

INLINE void cross_entropy_columns(const int from_logits, double label_smoothing, double scale, int64_t rows,
                                  int64_t columns, const real *p, ptrdiff_t p_row, const real *y, ptrdiff_t y_row,
                                  int labels, const real *weight, double *row_loss, real *delta, ptrdiff_t delta_row) {
    const vec kept = vec_set(R(1 - label_smoothing)), uniform = vec_set(R(label_smoothing / (double)columns));
    FOR_EACH_VECTOR_OF_ROWS(rows) {
        vec prediction[ABREAST], target[ABREAST];
        rows_to_lanes(columns, p + row * p_row, p_row, count, prediction);
        rows_to_lanes(labels ? 1 : columns, y + row * y_row, y_row, count, target);
        if (labels) { /* one that is none, which the caller rules out, becomes the nearest one */
            const vec label = vec_min(vec_max(target[0], vec_set(0)), vec_set(R(columns - 1)));
            for (int64_t j = 0; j < columns; j++)
                target[j] = vec_select((label >= R(j)) & (label < R(j + 1)), kept + uniform, uniform);
        } else
            for (int64_t j = 0; j < columns; j++) target[j] = kept * target[j] + uniform;
        const vec loss = from_logits ? logits_columns(columns, prediction, target, labels)
                                     : probability_columns(columns, prediction, target);
        const vec w = load_weights(weight, row, count), factor = w * R(scale);
        for (int64_t j = 0; j < columns; j++) prediction[j] *= factor;
        if (delta) lanes_to_rows(columns, delta + row * delta_row, delta_row, count, prediction);
        store_doubles(row_loss + row, count, w * loss);
    }
}

static void cross_entropy(int from_logits, double label_smoothing, double scale, int64_t rows, int64_t columns,
                          const void *prediction, ptrdiff_t prediction_row, const void *target, ptrdiff_t target_row,
                          int64_t target_columns, const void *weight, double *row_loss, void *delta,
                          ptrdiff_t delta_row) {
    if (columns <= ABREAST) {
#define COLUMNS(from_logits)                                                                                      \
    cross_entropy_columns(from_logits, label_smoothing, scale, rows, columns, prediction, prediction_row, target, \
                          target_row, target_columns == 1, weight, row_loss, delta, delta_row)
        if (from_logits)
            COLUMNS(1);
        else
            COLUMNS(0);
        return;
    }
    row_target t = {.kept = vec_set(R(1 - label_smoothing)), .uniform = vec_set(R(label_smoothing / (double)columns))};
    logits_sums sums[VL];
    real totals[VL] = {0};
    for (int64_t i = 0; i < rows; i++) {
        const real *p = (const real *)prediction + i * prediction_row, *y = (const real *)target + i * target_row;
        const double w = weight ? (double)((const real *)weight)[i] : 1;
        const vec factor = vec_set(R(scale * w));
        real *d = delta ? (real *)delta + i * delta_row : NULL;
        if (target_columns > 1)
            t.probabilities = y;
        else /* a label that is none, which the caller rules out, becomes the nearest one */
            t.label = y[0] >= 0 ? (integer)(y[0] < R(columns) ? y[0] : R(columns - 1)) : 0;
        row_loss[i] = w;
        if (!from_logits) {
            row_loss[i] *= probability_row(columns, p, &t, factor, d);
            continue;
        }
        const int lane = (int)(i % VL);
        sums[lane] = logits_row(columns, p, &t, factor, d);
        totals[lane] = sums[lane].total;
        if (lane < VL - 1 && i < rows - 1) continue;
        const vec logs = vec_log(vec_load(totals)); /* of as many rows at once as a vector holds */
        for (int k = 0; k <= lane; k++)
            row_loss[i - lane + k] *= (double)sums[k].mass * (double)logs[k] - sums[k].distance;
    }
}

#endif
