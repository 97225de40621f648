/* A program: a plan that was checked once, its workspace, and the loop that runs it. */
#include <stdlib.h>
#include <string.h>

#include "fastbp.h"
#include "gemm.h"
#include "ops/ops.h"
#include "shapes.h"

static const fbp_op_schema schemas[] = {
#define OP(name, operands, attributes) {#name, operands, attributes},
#include "ops.def"
};
static fbp_op_function *const functions[] = {
#define OP(name, operands, attributes) fbp_op_##name,
#include "ops.def"
};
static const char *const activations[] = {
#define ACTIVATION(name, saved) #name,
#include "kinds.def"
};
static const char *const losses[] = {
#define LOSS(name, reduction) #name,
#include "kinds.def"
};
enum { OPS = sizeof schemas / sizeof *schemas, LONGEST_VECTOR = 16 };

const fbp_op_schema *fbp_schema(int kind) { return kind >= 0 && kind < OPS ? &schemas[kind] : NULL; }
const char *fbp_activation_name(int kind) { return kind >= 0 && kind < FBP_ACTIVATIONS ? activations[kind] : NULL; }
const char *fbp_loss_name(int kind) { return kind >= 0 && kind < FBP_LOSSES ? losses[kind] : NULL; }

struct fbp_program {
    const fbp_kernels *kernels;
    fbp_op *ops;
    int count;
    int64_t batch;
    char *flat[4]; /* parameters, gradients, state: the caller's; workspace: ours */
    void *workspace_memory;
    double *row_loss;
    int64_t *counters; /* the caller's: optimizer steps, training forward passes */
    uint64_t seed;
    const fbp_tensor *batch_weights; /* where the gathered sample weights lie; NULL: the plan has none */
    fbp_table *tables;               /* of embeddings */
    int table_count;
    char *scratch; /* one piece per member, for the largest team so far */
    int scratch_members;
};

/* ---- checking ---- */

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
    const char *names = schemas[op->kind].attributes;
    double first = op->attribute[0];
    if (!strncmp(names, "activation", 10) && !(first >= 0 && first < FBP_ACTIVATIONS)) return "unknown activation";
    if (!strncmp(names, "loss", 4) && !(first >= 0 && first < FBP_LOSSES)) return "unknown loss";
    return NULL;
}

/* which operands have a row per sample, and the shapes that a kernel relies on when it walks several with one count */
static const char *check_shapes(const fbp_op *op) {
    const fbp_tensor *o = op->operand;
    const char *name = schemas[op->kind].name;
    const int copies = !strcmp(name, "gather") || !strcmp(name, "scatter");
    unsigned per_row = strncmp(schemas[op->kind].operands, "parameters", 10) ? ~0u : 0; /* bit mask */
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
    } else {
        for (int i = 1; i < FBP_OPERANDS; i++)
            fits = fits && (!present(&o[i]) || (o[i].columns == o[0].columns && (per_row || o[i].rows == o[0].rows)));
    }
    if (!fits) return "operands of different shapes";
    for (int i = 0; i < FBP_OPERANDS; i++) {
        if (!present(&o[i])) continue;
        if (o[i].per_row != (int)(per_row >> i & 1)) return "operand in an arena of the other kind";
        if (o[i].arena > FBP_WORKSPACE && !copies) return "only gather and scatter reach the caller's matrices";
    }
    if (copies && o[!strcmp(name, "gather")].arena != FBP_WORKSPACE)
        return "gather leads to the workspace, scatter from it";
    if (!strcmp(name, "scatter") && o[1].arena != FBP_OUTPUTS && o[1].arena != FBP_INPUT_GRADIENTS)
        return "scatter to a matrix that is only read";
    return NULL;
}

static const char *check_op(const fbp_op *op, const int64_t size[4], int64_t batch) {
    if (op->kind < 0 || op->kind >= OPS) return "unknown operation";
    if (op->phase < 0 || op->phase >= FBP_PHASES) return "unknown phase";
    unsigned optional;
    int count = words(schemas[op->kind].operands, &optional);
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

int fbp_program_create(const fbp_kernels *kernels, const fbp_op *ops, int count, int64_t batch, const int64_t size[4],
                       void *parameters, void *gradients, void *state, int64_t *counters, uint64_t seed,
                       fbp_program **program, int *bad, const char **why) {
    for (int i = 0; i < count; i++) {
        *why = check_op(&ops[i], size, batch);
        *bad = i;
        if (*why) return FBP_BAD_PLAN;
    }
    if ((uint64_t)size[FBP_WORKSPACE] > SIZE_MAX / 16) return FBP_NO_MEMORY; /* its bytes would overflow */
    fbp_program *p = calloc(1, sizeof *p);
    if (!p) return FBP_NO_MEMORY;
    p->kernels = kernels, p->count = count, p->batch = batch, p->counters = counters, p->seed = seed;
    p->ops = malloc((size_t)(count + 1) * sizeof *ops);
    p->row_loss = calloc((size_t)batch + 1, sizeof *p->row_loss);
    p->workspace_memory = calloc((size_t)size[FBP_WORKSPACE] * kernels->element + 64, 1);
    int tables_status = fbp_tables_create(ops, count, &p->tables, &p->table_count);
    if (!p->ops || !p->row_loss || !p->workspace_memory || tables_status != FBP_OK) {
        fbp_program_destroy(p);
        return FBP_NO_MEMORY;
    }
    memcpy(p->ops, ops, (size_t)count * sizeof *ops);
    p->flat[FBP_PARAMETERS] = parameters, p->flat[FBP_GRADIENTS] = gradients, p->flat[FBP_STATE] = state;
    p->flat[FBP_WORKSPACE] = (char *)(((uintptr_t)p->workspace_memory + 63) & ~(uintptr_t)63);
    for (int i = 0; i < count; i++)
        if (p->ops[i].operand[0].arena == FBP_SAMPLE_WEIGHTS) p->batch_weights = &p->ops[i].operand[1];
    *program = p;
    return FBP_OK;
}

void fbp_program_destroy(fbp_program *p) {
    if (!p) return;
    free(p->ops);
    free(p->row_loss);
    free(p->workspace_memory);
    free(p->scratch);
    fbp_tables_destroy(p->tables, p->table_count);
    free(p);
}

/* ---- running ---- */

typedef struct {
    fbp_program *program;
    const fbp_request *request;
    fbp_result *result;
} job;

static int asked(const fbp_request *r, int phase) { return r->phases >> phase & 1; }

/* Every member runs this with its own copy of the batch; between operations all wait for each other. */
static void run_batches(void *context, const fbp_member *member) {
    const job *j = context;
    const fbp_program *p = j->program;
    const fbp_request *request = j->request;
    fbp_batch batch = {.kernels = p->kernels,
                       .order = request->order,
                       .training = request->training,
                       .seed = p->seed,
                       .row_loss = p->row_loss};
    memcpy(batch.arena, request->data, sizeof batch.arena);
    memcpy(batch.arena, p->flat, sizeof p->flat);
    batch.step = p->counters[0], batch.draw = (uint64_t)p->counters[1];
    if (request->training && asked(request, FBP_FORWARD) && asked(request, FBP_BACKWARD))
        batch.tables = p->tables, batch.table_count = p->table_count;
    fbp_team_wait(member); /* all have read the counters before the first member writes them */
    double loss_sum = 0, weight_sum = 0;

    const int64_t end = request->first + request->count;
    for (int64_t number = 0, position = request->first; position < end; number++, position += p->batch) {
        batch.position = position;
        batch.follows = number > 0;
        batch.rows = end - position < p->batch ? end - position : p->batch;
        batch.draw += asked(request, FBP_FORWARD) && request->training;
        batch.step += asked(request, FBP_UPDATE);
        if (request->learning_rates) batch.learning_rate = request->learning_rates[number];
        for (int i = 0; i < p->count; i++) {
            const fbp_op *op = &p->ops[i];
            if (!asked(request, op->phase)) continue;
            if (op->phase == FBP_LOSS)
                batch.weight_sum = batch.arena[FBP_SAMPLE_WEIGHTS] && p->batch_weights
                                       ? p->kernels->sum(batch.rows, at(p->batch_weights, &batch, 0))
                                       : (double)batch.rows;
            if (op->phase == FBP_UPDATE && op->operand[0].rows > 1 && op->operand[1].arena == FBP_GRADIENTS)
                fbp_update_rows(functions[op->kind], op, &batch, member);
            else
                functions[op->kind](op, &batch, member);
            fbp_team_wait(member);
            if (op->phase == FBP_LOSS && member->index == 0) {
                for (int64_t row = 0; row < batch.rows; row++) loss_sum += p->row_loss[row];
                weight_sum += batch.weight_sum;
            }
        }
    }
    if (member->index == 0) {
        p->counters[0] = batch.step, p->counters[1] = (int64_t)batch.draw;
        j->result->loss_sum = loss_sum, j->result->weight_sum = weight_sum;
    }
}

int fbp_program_run(fbp_program *p, const fbp_request *request, fbp_result *result) {
    double flops = 0;
    for (int i = 0; i < p->count; i++)
        if (asked(request, p->ops[i].phase)) flops += p->ops[i].flops;
    double full = (double)(request->count < p->batch ? request->count : p->batch) / (double)p->batch;
    int size = fbp_team_size(flops * full);
    size_t bytes = fbp_gemm_scratch(p->kernels);
    if (size > p->scratch_members) {
        free(p->scratch);
        p->scratch_members = 0;
        p->scratch = malloc(bytes * (size_t)size);
        if (!p->scratch) return FBP_NO_MEMORY;
        p->scratch_members = size;
    }
    result->loss_sum = result->weight_sum = 0;
    job j = {p, request, result};
    fbp_team_run(size, p->scratch, bytes, run_batches, &j);
    return FBP_OK;
}
