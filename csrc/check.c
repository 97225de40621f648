/* Whether an operation of a plan may run: kinds, operands, places and shapes. */
#include "check.h"

#include <string.h>

#include "ops/ops.h"
#include "shapes.h"

enum { LONGEST_VECTOR = 16 };

/* number of the words of a schema, and of those that may be absent (bit mask) */
static int words(const char *text, unsigned *optional) {
    int n = 0;
    *optional = 0;
    for (const char *p = text; *p; p++)
        if (*p == ' ')
            n++;
        else if (*p == '?')
            *optional |= 1u << n;
    return *text ? n + 1 : 0;
}

static const char *check_tensor(const fbp_tensor *t, const int64_t size[4], int64_t batch) {
    if (t->arena >= FBP_ARENAS) return "unknown arena";
    if (t->columns < 1 || t->rows < 1 || t->stride < t->columns || t->offset < 0) return "bad shape";
    if (t->per_row && t->rows < batch) return "fewer rows than the batch";
    if (t->per_row ? t->arena < FBP_WORKSPACE : t->arena > FBP_WORKSPACE)
        return "operand in an arena of the other kind";
    if (t->arena > FBP_WORKSPACE) return t->offset ? "offset into the caller's matrix" : NULL;
    /* products read rows of weights and activations up to the end of a vector */
    int64_t slack = t->arena == FBP_PARAMETERS || t->arena == FBP_WORKSPACE ? LONGEST_VECTOR : 0;
    int64_t left = size[t->arena] - slack - t->offset;
    if (t->columns > left || (t->rows - 1) > (left - t->columns) / t->stride) return "operand outside its arena";
    return NULL;
}

/* kinds in attributes index tables, so they are checked even though the planner made them */
static const char *check_attributes(const fbp_op *op) {
    const char *names = fbp_schema(op->kind)->attributes;
    double first = op->attribute[0];
    if (!strncmp(names, "activation", 10) && !(first >= 0 && first < FBP_ACTIVATIONS)) return "unknown activation";
    if (!strncmp(names, "loss", 4) && !(first >= 0 && first < FBP_LOSSES)) return "unknown loss";
    if (!strcmp(names, "steps") && !(first >= 1 && first <= 1e15)) return "no number of steps";
    return NULL;
}

int fbp_is_flat(const fbp_op *op) {
    const char *operands = fbp_schema(op->kind)->operands;
    return !strncmp(operands, "parameters", 10) || !strncmp(operands, "gradients", 9);
}

/* which operands have a row per sample, and the shapes that a kernel relies on when it walks several with one count */
static const char *check_shapes(const fbp_op *op) {
    const fbp_tensor *o = op->operand;
    const char *name = fbp_schema(op->kind)->name;
    const int scatters = !strcmp(name, "scatter"), gathers = !strncmp(name, "gather", 6), copies = gathers || scatters;
    const int sparse = !strncmp(name, "sparse", 6);
    unsigned per_row = fbp_is_flat(op) ? 0 : ~0u; /* bit mask */
    int fits = 1;
    if (fbp_known_shapes(op, name, &per_row, &fits)) {
        /* shapes.c said all */
    } else if (!strcmp(name, "dense_forward")) {
        per_row = 1 | 8;
        fits = o[0].columns == o[1].rows && o[3].columns == o[1].columns &&
               (!present(&o[2]) || o[2].columns == o[1].columns);
    } else if (!strcmp(name, "dense_backward_weight")) {
        per_row = 1 | 2;
        fits = o[2].rows == o[0].columns && o[2].columns == o[1].columns &&
               (!present(&o[3]) || o[3].columns == o[1].columns);
    } else if (!strcmp(name, "dense_backward_input")) {
        per_row = 1 | 4 | 8;
        fits =
            o[0].columns == o[1].columns && o[3].columns == o[1].rows && (!present(&o[2]) || o[2].columns == o[1].rows);
    } else if (strstr(name, "loss")) {
        fits = o[1].columns == o[0].columns || (strstr(name, "cross_entropy") && o[1].columns == 1);
        fits = fits && o[3].columns == o[0].columns && (!present(&o[2]) || o[2].stride == 1); /* weights: a vector */
    } else if (!strcmp(name, "penalty") || !strcmp(name, "gradient_norms")) {
        fits = o[1].columns == blocks_of(&o[0]);
    } else if (strcmp(name, "clip_norm") != 0) { /* which takes the norms of other gradients too */
        for (int i = 1; i < FBP_OPERANDS; i++)
            fits = fits && (!present(&o[i]) || (o[i].columns == o[0].columns && (per_row || o[i].rows == o[0].rows)));
    }
    const int gradient = scatters && o[0].arena == FBP_GRADIENTS;
    if (gradient) per_row = 2;
    if (!fits) return "operands of different shapes";
    for (int i = 0; i < FBP_OPERANDS; i++) {
        if (!present(&o[i])) continue;
        if (o[i].per_row != (int)(per_row >> i & 1)) return "operand in an arena of the other kind";
        if (o[i].arena > FBP_WORKSPACE && !copies && (i > 0 || !sparse))
            return "only gather and scatter reach the caller's matrices";
    }
    if (sparse && o[0].arena != FBP_INPUTS) return "sparse operations read the inputs";
    const int own = !gathers ? 0 : !strcmp(name, "gather_normalize") ? 3 : 1; /* operand in the workspace */
    if (copies && !gradient && o[own].arena != FBP_WORKSPACE) return "gather leads to the workspace, scatter from it";
    if (scatters && o[1].arena != FBP_OUTPUTS && o[1].arena != FBP_INPUT_GRADIENTS)
        return "scatter to a matrix that is only read";
    return NULL;
}

const char *fbp_check_op(const fbp_op *op, const int64_t size[4], int64_t batch, int in_blocks) {
    if (!fbp_schema(op->kind)) return "unknown operation";
    if (op->phase < 0 || op->phase >= FBP_PHASES) return "unknown phase";
    if (in_blocks && !fbp_schema(op->kind)->by_rows && !fbp_is_flat(op)) return "operation that needs the whole batch";
    unsigned optional;
    int count = words(fbp_schema(op->kind)->operands, &optional);
    for (int i = 0; i < FBP_OPERANDS; i++) {
        const fbp_tensor *t = &op->operand[i];
        if (!present(t)) {
            if (i < count && !(optional >> i & 1)) return "missing operand";
            continue;
        }
        if (i >= count) return "operand too many";
        const char *why = check_tensor(t, size, batch);
        if (why) return why;
    }
    const char *why = check_attributes(op);
    return why ? why : check_shapes(op);
}
