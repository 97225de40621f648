/* The kernel table: what one instruction set offers for one element type.
 *
 * Everything above this table is blind to the instruction set and to the element type: it passes
 * untyped pointers, and scalars as double. A kernel knows no threads, layers or arenas. Matrices are
 * row-major with a stride counted in elements. */
#ifndef FBP_KERNELS_H
#define FBP_KERNELS_H

#include <stddef.h>
#include <stdint.h>

enum fbp_activation {
#define ACTIVATION(name, saved) FBP_##name,
#include "../kinds.def"
    FBP_ACTIVATIONS
};

enum fbp_loss {
#define LOSS(name, reduction) FBP_##name,
#include "../kinds.def"
    FBP_LOSSES
};

enum fbp_element {
#define ELEMENT(name, type, number) FBP_##name,
#include "../kinds.def"
    FBP_ELEMENTS
};

/* What happens to a finished tile of C before it leaves the registers. */
typedef struct {
    enum { FBP_STORE, FBP_BIAS_ACTIVATION, FBP_DERIVATIVE } kind;
    int activation;      /* enum fbp_activation */
    double alpha;        /* slope or scale of the activation */
    const void *bias;    /* FBP_BIAS_ACTIVATION: one value per column of C, or NULL */
    const void *saved;   /* FBP_DERIVATIVE: the activation's output, shaped like C */
    ptrdiff_t saved_row; /* its stride */
} fbp_epilogue;

/* Rows that will be read soon, from anywhere in memory: tiles ask for some of their cache lines while they compute. */
typedef struct fbp_ahead {
    const char *rows; /* row i begins at rows + order[i] * step, or without an order at rows + i * step */
    const int64_t *order;
    size_t step, length; /* bytes; of each row so many are read */
    int64_t next, end;   /* what is still to be asked for: i, */
    size_t offset;       /* and from which byte of the first one on */
    const void *replace; /* what they will be copied over */
} fbp_ahead;

typedef struct { /* and those that came of it: Adamax, NAdam, RAdam, Lion */
    double learning_rate, beta_1, beta_2, epsilon, weight_decay;
    int decoupled;          /* AdamW: weights shrink by 1 - learning_rate * weight_decay first */
    int epsilon_hat;        /* epsilon is added to the root of v before its bias is corrected */
    int64_t step;           /* counted from 1 */
    double momentum_factor; /* NAdam: its momentum at step t is beta_1 (1 - momentum_factor^t / 2) */
} fbp_adam;

/* A gradient that nobody reads but Adam (without weight decay): it takes the step with each tile instead of storing it.
 * The arrays are laid out alike. */
typedef struct {
    fbp_adam adam;
    const void *gradients; /* the array that C is a part of */
    void *parameters, *m, *v;
    void *unstepped; /* FBP_UNSTEPPED bytes, a cache line's multiple: what a tile leaves to the next one */
} fbp_step;
enum { FBP_UNSTEPPED = 2048 };

enum { FBP_CACHE_LINE = 64 }; /* bytes */

/* One block of C[m, n] = (accumulate ? C : 0) + A[m, k] B[k, n], then the epilogue.
 * A[i, p] = a[i * a_row + p * a_step]; one of the two strides is 1. Or its rows in memory, which are contiguous, are
 * listed, at most FBP_MOST_ROWS: then only `a_step`, 1 or not, tells whether they are rows of A or its columns.
 * B comes in column groups of `vectors` vectors, the last ones of fewer: group g starts at column j(g) and holds its
 * element [p, j] at b + j(g) * b_group + p * b_step(g) + (j - j(g)).
 *   packed:   b_group = k (groups one after another), b_step(g) = padded width of the group
 *   in place: b_group = 1, b_step = the stride of the matrix; reads run past column n up to the
 *             end of the vector, so that the memory behind the last row must be readable. */
enum { FBP_MOST_ROWS = 1024, FBP_NEXT_ROWS = 4 };
typedef struct {
    int64_t m, n, k;
    int vectors; /* of a full column group */
    const void *a;
    ptrdiff_t a_row, a_step;
    int brief;               /* along A's rows, each instruction of a tile's loop counts */
    int far_rows;            /* along A's columns, translations of addresses are dear */
    const void *const *rows; /* NULL, or where they begin; behind them the first FBP_NEXT_ROWS again */
    void *panels; /* NULL, or room for m * k elements: tiles read their columns of A from a copy without gaps */
    const void *b;
    ptrdiff_t b_step;     /* 0: packed */
    const void *unpacked; /* NULL, or groups are packed into b from [p, j] at unpacked[p * b_row + j * b_column] */
    ptrdiff_t b_column;
    int kept; /* they stay there, else it is room for two */
    void *c;
    ptrdiff_t c_row;
    int accumulate;
    int ask_for_c;                /* C is far away: its cache lines are asked for before they are needed */
    int padded;                   /* rows of C, saved and bias may be touched up to the end of a vector */
    const fbp_epilogue *epilogue; /* NULL: plain store */
    fbp_ahead *ahead;             /* NULL: nothing */
    const void *after;            /* NULL, or where B lies in place for the next block of this product */
    fbp_step *step;               /* of step_block */
    ptrdiff_t b_row;              /* of what is unpacked */
} fbp_block;

/* Products with so few columns, or of so few terms, are no work for tiles. */
enum { FBP_NARROW = 4 };

/* C[m, n] = (accumulate ? C : 0) + A[m, k] B[k, n], then the epilogue. A[i, p] = a[i * a_row + p * a_step],
 * B[p, j] = b[p * b_row + j * b_column]; nothing outside the matrices is touched. */
typedef struct {
    int64_t m, n, k;
    const void *a;
    ptrdiff_t a_row, a_step;
    const void *b;
    ptrdiff_t b_row, b_column;
    void *c;
    ptrdiff_t c_row;
    int64_t cut; /* a sum is cut each time after so many terms, a whole number of vectors */
    int accumulate;
    const fbp_epilogue *epilogue; /* NULL: plain store */
} fbp_product;

/* Position of a block of random numbers: see random.h. */
typedef struct {
    uint64_t seed, draw;
    uint32_t stream;
} fbp_draw;

typedef struct {
    int training; /* moments of the rows; else the moving ones */
    double momentum, epsilon;
    int unbiased; /* moving_variance follows the variance divided by rows - 1 */
} fbp_batch_norm;

typedef struct {
    double learning_rate, momentum, weight_decay;
    int nesterov;
} fbp_sgd;

typedef struct {
    double learning_rate, rho, momentum, epsilon, weight_decay;
} fbp_rmsprop;

typedef struct {
    double learning_rate, initial, epsilon, weight_decay; /* the accumulator is what was added to `initial` */
} fbp_adagrad;

typedef struct {
    double learning_rate, eta_minus, eta_plus, smallest, largest; /* a step size of 0 becomes the learning rate */
} fbp_rprop;

/* Norms and penalties are summed block by block, in double, whatever the number of threads. */
enum { FBP_BLOCK = 4096 };

typedef struct fbp_kernels {
    const char *isa;
    size_t element; /* bytes */
    int vector;     /* elements of one vector */
    int vectors[2]; /* of a full column group; on Intel's processors */
    int kc, mc, nc; /* block sizes of the loops around fbp_block */
    int in_place;   /* most rows of A for which B is used where it lies */
    int panels;     /* fewest columns of A that blocks copy; 0: they do not */
    int by_groups;  /* a packed B is made group by group, each just before its tiles, also of rows */

    /* convert.h: n elements of another type in a row */
    void (*convert)(int element, int64_t n, const void *x, void *y);
    /* y[column[i]] += x[i] for n entries of a sparse row; a column that is not in 0 .. columns is passed over */
    void (*add_at)(int element, int64_t n, const void *x, const int32_t *column, int64_t columns, void *y);

    /* sparse.h: n entries of a row X, values of the model's type. y += X M for rows of M from 0 to `rows`; and
     * Y[column[e]] += value[e] x for columns from begin to end */
    void (*add_weighted_rows)(int64_t n, const void *value, const int32_t *column, int64_t rows, int64_t columns,
                              const void *m, ptrdiff_t m_row, void *y);
    void (*add_to_rows)(int64_t n, const void *value, const int32_t *column, int64_t begin, int64_t end,
                        int64_t columns, const void *x, void *y, ptrdiff_t y_row);

    /* gemm_tile.h */
    void (*block)(const fbp_block *block);
    /* gemm_step.h: for weight gradients, between the beginning and the end of a member's steps; NULL where registers
     * are too few */
    void (*begin_steps)(const fbp_step *step);
    void (*step_block)(const fbp_block *block);
    void (*end_steps)(const fbp_step *step);
    /* packs B[k, n] (element [p, j] at b[p * b_row + j]) into groups of so many vectors, each padded with zeros to
     * whole ones; out holds k * round_up(n, vector) elements */
    void (*pack)(int vectors, int64_t k, int64_t n, const void *b, ptrdiff_t b_row, void *out);

    /* gemm_narrow.h: at most FBP_NARROW columns, a_step is 1 */
    void (*narrow)(const fbp_product *product);
    /* C[i, j] = (accumulate ? C[i, j] : 0) + x[j, i] for m rows and n <= FBP_NARROW columns */
    void (*add_transposed)(int64_t m, int64_t n, const void *x, ptrdiff_t x_row, int accumulate, void *c,
                           ptrdiff_t c_row);

    /* gemm_shallow.h: at most FBP_NARROW terms, and not more than a vector has elements */
    void (*shallow)(const fbp_product *product);

    /* gemm_row.h: one row, a_step and b_column are 1, the epilogue no derivative */
    void (*row)(const fbp_product *product);

    /* activation.h: saved is the output of the activation or its input, as kinds.def says; y may be x, dx may be dy. */
    void (*activation_forward)(int activation, double alpha, int64_t rows, int64_t columns, const void *x,
                               ptrdiff_t x_row, void *y, ptrdiff_t y_row);
    void (*activation_backward)(int activation, double alpha, int64_t rows, int64_t columns, const void *saved,
                                ptrdiff_t saved_row, const void *dy, ptrdiff_t dy_row, void *dx, ptrdiff_t dx_row);

    /* softmax.h: one call handles a block of rows. y may be x, dx may be dy. */
    void (*softmax_forward)(int64_t rows, int64_t columns, const void *x, ptrdiff_t x_row, void *y, ptrdiff_t y_row);
    void (*softmax_backward)(int64_t rows, int64_t columns, const void *y, ptrdiff_t y_row, const void *dy,
                             ptrdiff_t dy_row, void *dx, ptrdiff_t dx_row);

    /* dropout.h: rows first_row .. first_row + rows of the batch; y = x * keep / (1 - rate), the rate
     * rounded to 16 bits. y may be x. The backward pass is the same call on the delta. */
    void (*dropout)(fbp_draw draw, double rate, int64_t first_row, int64_t rows, int64_t columns, const void *x,
                    ptrdiff_t x_row, void *y, ptrdiff_t y_row);

    /* noise.h: y = x + stddev * a normal number; rows as for dropout. y may be x. */
    void (*gaussian_noise)(fbp_draw draw, double stddev, int64_t first_row, int64_t rows, int64_t columns,
                           const void *x, ptrdiff_t x_row, void *y, ptrdiff_t y_row);

    /* permutation.h: where the places first .. first + count of 0 .. n go */
    void (*permutation)(uint64_t key, int64_t n, int64_t first, int64_t count, int64_t *order);

    /* norm.h: gamma, beta and their gradients may be NULL. mean, inverse: one element per column; saved: mean and
     * inverse deviation of each row. */
    void (*batch_norm_forward)(fbp_batch_norm h, int64_t rows, int64_t columns, const void *x, ptrdiff_t x_row,
                               const void *gamma, const void *beta, void *moving_mean, void *moving_variance,
                               void *mean, void *inverse, void *y, ptrdiff_t y_row);
    void (*batch_norm_backward)(int training, int64_t rows, int64_t columns, const void *x, ptrdiff_t x_row,
                                const void *gamma, const void *mean, const void *inverse, const void *dy,
                                ptrdiff_t dy_row, void *gamma_grad, void *beta_grad, void *dx, ptrdiff_t dx_row);
    void (*layer_norm_forward)(double epsilon, int64_t rows, int64_t columns, const void *x, ptrdiff_t x_row,
                               const void *gamma, const void *beta, void *saved, ptrdiff_t saved_row, void *y,
                               ptrdiff_t y_row);
    void (*layer_norm_backward_parameters)(int64_t rows, int64_t columns, const void *x, ptrdiff_t x_row,
                                           const void *saved, ptrdiff_t saved_row, const void *dy, ptrdiff_t dy_row,
                                           int accumulate, void *gamma_grad, void *beta_grad);
    void (*layer_norm_backward_input)(int64_t rows, int64_t columns, const void *x, ptrdiff_t x_row, const void *gamma,
                                      const void *saved, ptrdiff_t saved_row, const void *dy, ptrdiff_t dy_row,
                                      void *dx, ptrdiff_t dx_row);

    /* elementwise.h: alpha, mean, variance hold one element per column; mean may be NULL (zeros). In rescale and
     * normalize y may be x. */
    void (*prelu_forward)(int64_t rows, int64_t columns, const void *x, ptrdiff_t x_row, const void *alpha, void *y,
                          ptrdiff_t y_row);
    void (*prelu_backward)(int64_t rows, int64_t columns, const void *x, ptrdiff_t x_row, const void *alpha,
                           const void *dy, ptrdiff_t dy_row, int accumulate, void *alpha_grad, void *dx,
                           ptrdiff_t dx_row);
    void (*rescale)(double scale, double offset, int64_t rows, int64_t columns, const void *x, ptrdiff_t x_row, void *y,
                    ptrdiff_t y_row);
    void (*normalize)(int64_t rows, int64_t columns, const void *x, ptrdiff_t x_row, const void *mean,
                      const void *variance, void *y, ptrdiff_t y_row);
    /* n elements in a row; out may be a */
    void (*add)(int64_t n, const void *a, const void *b, void *out);

    /* embedding.h: index[rows, columns] names rows of a table[table_rows, width], which follow each other without
     * padding. Backward adds to the rows begin .. end of table_grad. */
    void (*embedding_forward)(int64_t rows, int64_t columns, const void *index, ptrdiff_t index_row, int64_t table_rows,
                              int64_t width, const void *table, void *y, ptrdiff_t y_row);
    void (*embedding_backward)(int64_t begin, int64_t end, int64_t rows, int64_t columns, const void *index,
                               ptrdiff_t index_row, int64_t table_rows, int64_t width, const void *dy, ptrdiff_t dy_row,
                               void *table_grad);
    int64_t (*row_number)(const void *index, int64_t table_rows);
    /* whether one of n elements is not 0 */
    int (*any)(int64_t n, const void *x);

    /* loss.h: row_loss[i] = weight[i] * l(prediction[i], target[i]) in double, delta = scale * weight[i] *
     * dl/dprediction. weight (stride 1) may be NULL (ones); delta may be NULL (not wanted) or prediction.
     * Cross-entropy targets have one column (labels) or as many as the predictions (probabilities). */
    void (*elementwise_loss)(int loss, double parameter, double scale, int64_t rows, int64_t columns,
                             const void *prediction, ptrdiff_t prediction_row, const void *target, ptrdiff_t target_row,
                             const void *weight, double *row_loss, void *delta, ptrdiff_t delta_row);
    void (*cross_entropy)(int from_logits, double label_smoothing, double scale, int64_t rows, int64_t columns,
                          const void *prediction, ptrdiff_t prediction_row, const void *target, ptrdiff_t target_row,
                          int64_t target_columns, const void *weight, double *row_loss, void *delta,
                          ptrdiff_t delta_row);

    /* reduce.h: out[j] = (accumulate ? out[j] : 0) + sum over rows of x[i, j], rows added in ascending order */
    void (*column_sum)(int64_t rows, int64_t columns, const void *x, ptrdiff_t x_row, int accumulate, void *out);
    int (*all_finite)(int64_t n, const void *x);
    /* sum of n elements in double, ascending order: x[0], x[1], ... or with an order x[order[0]], ... */
    double (*sum)(int64_t n, const void *x, const int64_t *order);
    /* sum of their squares in double, in an order that n fixes */
    double (*sum_squares)(int64_t n, const void *x);

    /* gradient.h: n gradients in a row, in place */
    void (*clip_value)(double limit, int64_t n, void *gradients);
    void (*scale)(double factor, int64_t n, void *gradients);
    /* out[b] = the Euclidean norm of block b, of FBP_BLOCK elements but the last one */
    void (*block_norms)(int64_t n, const void *x, void *out);
    /* total += gradients; the first time it becomes them, the last time gradients = total / count */
    void (*accumulate)(int first, int last, int64_t count, int64_t n, void *gradients, void *total);
    /* out[b] = l1 sum |x| + l2 sum x^2 of block b; and what it adds to the gradient */
    void (*penalty)(double l1, double l2, int64_t n, const void *x, void *out);
    void (*penalty_gradient)(double l1, double l2, int64_t n, const void *x, void *gradients);

    /* optimizer.h: n parameters in a row, in place. An optional state pointer may be NULL. */
    void (*sgd)(fbp_sgd h, int64_t n, void *parameters, const void *gradients, void *momentum_buffer);
    void (*adam)(fbp_adam h, int64_t n, void *parameters, const void *gradients, void *m, void *v, void *v_max);
    void (*adamax)(fbp_adam h, int64_t n, void *parameters, const void *gradients, void *m, void *u);
    void (*nadam)(fbp_adam h, int64_t n, void *parameters, const void *gradients, void *m, void *v);
    void (*radam)(fbp_adam h, int64_t n, void *parameters, const void *gradients, void *m, void *v);
    void (*lion)(fbp_adam h, int64_t n, void *parameters, const void *gradients, void *m);
    void (*adagrad)(fbp_adagrad h, int64_t n, void *parameters, const void *gradients, void *accumulator);
    /* of h.momentum nothing is used */
    void (*adadelta)(fbp_rmsprop h, int64_t n, void *parameters, const void *gradients, void *v, void *delta_average);
    void (*rprop)(fbp_rprop h, int64_t n, void *parameters, const void *gradients, void *previous, void *step_size);
    void (*rmsprop)(fbp_rmsprop h, int64_t n, void *parameters, const void *gradients, void *v, void *momentum_buffer,
                    void *gradient_average);

    /* constraint.h */
    /* average = momentum average + (1 - momentum) parameters; the first time it becomes them */
    void (*moving_average)(int first, double momentum, int64_t n, const void *parameters, void *average);
    /* columns whose Euclidean norm is larger than the limit shrink to it */
    void (*max_norm)(double limit, int64_t rows, int64_t columns, void *x, ptrdiff_t x_row);

    /* machine.h: so many rounds of x = factor * x + term on that many vectors in registers; returns their sum */
    int chains;
    double (*multiply_add_chains)(int64_t rounds, double factor, double term);
} fbp_kernels;

#endif
