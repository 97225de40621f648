/* A program: a plan that was checked once, its workspace, and the loop that runs it. */
#include <stdlib.h>
#include <string.h>

#include "fastbp.h"
#include "gemm.h"
#include "memory.h"
#include "ops/ops.h"
#include "shapes.h"

static const fbp_op_schema schemas[] = {
#define OP(name, operands, attributes) {#name, operands, attributes, 0},
#define ROW_OP(name, operands, attributes) {#name, operands, attributes, 1},
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
static const char *const elements[] = {
#define ELEMENT(name, type, number) #name,
#include "kinds.def"
};
static const size_t element_bytes[] = {
#define ELEMENT(name, type, number) sizeof(type),
#include "kinds.def"
};
enum { OPS = sizeof schemas / sizeof *schemas, LONGEST_VECTOR = 16 };

const fbp_op_schema *fbp_schema(int kind) { return kind >= 0 && kind < OPS ? &schemas[kind] : NULL; }
const char *fbp_activation_name(int kind) { return kind >= 0 && kind < FBP_ACTIVATIONS ? activations[kind] : NULL; }
const char *fbp_loss_name(int kind) { return kind >= 0 && kind < FBP_LOSSES ? losses[kind] : NULL; }
const char *fbp_element_name(int element, size_t *bytes) {
    if (element < 0 || element >= FBP_ELEMENTS) return NULL;
    *bytes = element_bytes[element];
    return elements[element];
}

struct fbp_program {
    const fbp_kernels *kernels;
    fbp_op *ops;
    int count;
    fbp_schedule schedule;
    int64_t size[4]; /* elements of the flat arrays */
    char *flat[3];   /* parameters, gradients, state: the caller's */
    void *memory;    /* what the next four point into */
    double *row_loss;
    double *lane_loss;
    char *lane_gradients;
    char *workspace;   /* with blocks each member has one of its own, behind its scratch */
    int64_t *counters; /* the caller's: optimizer steps, training forward passes */
    uint64_t seed;
    int penalties;        /* operations whose sums belong to the loss */
    int64_t accumulation; /* batches whose gradients make one step */
    fbp_table *tables;    /* of embeddings */
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
    if (!strcmp(names, "steps") && !(first >= 1 && first <= 1e15)) return "no number of steps";
    return NULL;
}

/* whether it goes through the flat arrays: once per batch, whatever the schedule */
static int is_flat(const fbp_op *op) {
    const char *operands = schemas[op->kind].operands;
    return !strncmp(operands, "parameters", 10) || !strncmp(operands, "gradients", 9);
}

/* which operands have a row per sample, and the shapes that a kernel relies on when it walks several with one count */
static const char *check_shapes(const fbp_op *op) {
    const fbp_tensor *o = op->operand;
    const char *name = schemas[op->kind].name;
    const int scatters = !strcmp(name, "scatter"), gathers = !strncmp(name, "gather", 6), copies = gathers || scatters;
    const int sparse = !strncmp(name, "sparse", 6);
    unsigned per_row = is_flat(op) ? 0 : ~0u; /* bit mask */
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

static const char *check_op(const fbp_op *op, const int64_t size[4], int64_t batch, int in_blocks) {
    if (op->kind < 0 || op->kind >= OPS) return "unknown operation";
    if (op->phase < 0 || op->phase >= FBP_PHASES) return "unknown phase";
    if (in_blocks && !schemas[op->kind].by_rows && !is_flat(op)) return "operation that needs the whole batch";
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

static size_t round_up(size_t bytes) { return (bytes + FBP_ALIGNMENT - 1) / FBP_ALIGNMENT * FBP_ALIGNMENT; }

static int in_blocks(const fbp_program *p) { return p->schedule.block < p->schedule.batch; }

int fbp_program_create(const fbp_kernels *kernels, const fbp_op *ops, int count, fbp_schedule schedule,
                       const int64_t size[4], void *parameters, void *gradients, void *state, void *shared,
                       int64_t *counters, uint64_t seed, fbp_program **program, int *bad, const char **why) {
    for (int i = 0; i < count; i++) {
        *why = check_op(&ops[i], size, schedule.block, schedule.block < schedule.batch);
        *bad = i;
        if (*why) return FBP_BAD_PLAN;
    }
    if ((uint64_t)size[FBP_WORKSPACE] > SIZE_MAX / 16) return FBP_NO_MEMORY; /* its bytes would overflow */
    fbp_program *p = calloc(1, sizeof *p);
    if (!p) return FBP_NO_MEMORY;
    p->kernels = kernels, p->count = count, p->schedule = schedule, p->counters = counters, p->seed = seed;
    p->flat[FBP_PARAMETERS] = parameters, p->flat[FBP_GRADIENTS] = gradients, p->flat[FBP_STATE] = state;
    memcpy(p->size, size, sizeof p->size);
    const int lanes = in_blocks(p);
    size_t loss = round_up((size_t)schedule.batch * sizeof(double));
    size_t lane_loss = round_up((size_t)schedule.lanes * sizeof(double));
    size_t gradient = lanes ? round_up((size_t)(schedule.lanes * size[FBP_GRADIENTS]) * kernels->element) : 0;
    size_t workspace = lanes || shared ? 0 : (size_t)size[FBP_WORKSPACE] * kernels->element;
    p->ops = malloc((size_t)(count + 1) * sizeof *ops);
    p->memory = fbp_allocate(loss + lane_loss + gradient + workspace);
    int tables_status = fbp_tables_create(ops, count, &p->tables, &p->table_count);
    if (!p->ops || !p->memory || tables_status != FBP_OK) {
        fbp_program_destroy(p);
        return FBP_NO_MEMORY;
    }
    memcpy(p->ops, ops, (size_t)count * sizeof *ops);
    p->row_loss = p->memory;
    p->lane_loss = (double *)((char *)p->memory + loss);
    p->lane_gradients = (char *)p->lane_loss + lane_loss;
    p->workspace = shared ? shared : p->lane_gradients + gradient;
    p->accumulation = 1;
    for (int i = 0; i < count; i++) {
        p->penalties += functions[p->ops[i].kind] == fbp_op_penalty;
        if (functions[p->ops[i].kind] == fbp_op_accumulate) p->accumulation = (int64_t)p->ops[i].attribute[0];
    }
    *program = p;
    return FBP_OK;
}

void fbp_program_destroy(fbp_program *p) {
    if (!p) return;
    free(p->ops);
    fbp_free(p->memory);
    fbp_free(p->scratch);
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

static double sum_of(const double *values, int64_t n) {
    double total = 0;
    for (int64_t i = 0; i < n; i++) total += values[i];
    return total;
}

static double weight_of(const fbp_batch *batch) {
    const char *weights = batch->arena[FBP_SAMPLE_WEIGHTS];
    if (!weights) return (double)batch->rows;
    if (batch->order) return batch->kernels->sum(batch->rows, weights, batch->order + batch->position);
    return batch->kernels->sum(batch->rows, weights + batch->position * (int64_t)batch->kernels->element, NULL);
}

/* of the weights: the same for each sample of the batch */
static double penalty(const fbp_program *p, const fbp_batch *batch) {
    double total = 0;
    for (int i = 0; p->penalties && i < p->count; i++) {
        const fbp_tensor *sums = &p->ops[i].operand[1];
        if (functions[p->ops[i].kind] == fbp_op_penalty)
            total += p->kernels->sum(sums->columns, at(sums, batch, 0), NULL);
    }
    return total;
}

/* The team shares the operation; after it all wait for each other. */
static void execute(const fbp_program *p, const fbp_op *op, const fbp_batch *batch, const fbp_member *member) {
    fbp_op_function *function = functions[op->kind];
    if (op->phase == FBP_UPDATE) {
        /* until all gradients of the step are there */
        if (batch->waiting < p->accumulation - 1 && function != fbp_op_accumulate) return;
        if (op->operand[0].rows > 1 && op->operand[1].arena == FBP_GRADIENTS) {
            fbp_update_rows(function, op, batch, member);
            fbp_team_wait(member);
            return;
        }
    }
    function(op, batch, member);
    fbp_team_wait(member);
}

static void run_together(const job *j, const fbp_batch *batch, const fbp_member *member) {
    const fbp_program *p = j->program;
    for (int i = 0; i < p->count; i++)
        if (asked(j->request, p->ops[i].phase)) execute(p, &p->ops[i], batch, member);
}

/* Each member takes blocks of rows through all operations by itself; then gradients are added up, and the team shares
 * what goes through the flat arrays. */
static void run_lanes(const job *j, const fbp_batch *batch, const fbp_member *member) {
    const fbp_program *p = j->program;
    const int64_t element = (int64_t)p->kernels->element, gradients = p->size[FBP_GRADIENTS];
    const int64_t blocks = (batch->rows + p->schedule.block - 1) / p->schedule.block;
    const int lanes = (int)(blocks < p->schedule.lanes ? blocks : p->schedule.lanes);
    const fbp_range share = fbp_share(lanes, 1, member->size, member->index);
    const fbp_member alone = {0, 1, NULL, member->scratch};
    for (int64_t lane = share.begin; lane < share.end; lane++) {
        fbp_batch part = *batch;
        part.arena[FBP_WORKSPACE] = member->scratch + fbp_gemm_scratch(p->kernels);
        part.arena[FBP_GRADIENTS] = p->lane_gradients + lane * gradients * element;
        const fbp_range mine = fbp_share(blocks, 1, lanes, (int)lane);
        for (int64_t block = mine.begin; block < mine.end; block++) {
            part.first_row = block * p->schedule.block;
            part.position = batch->position + part.first_row;
            part.row_loss = batch->row_loss + part.first_row;
            part.rows = batch->rows - part.first_row;
            if (part.rows > p->schedule.block) part.rows = p->schedule.block;
            part.accumulate = block > mine.begin;
            for (int i = 0; i < p->count; i++)
                if (schemas[p->ops[i].kind].by_rows && asked(j->request, p->ops[i].phase))
                    functions[p->ops[i].kind](&p->ops[i], &part, &alone);
        }
        const int64_t first = mine.begin * p->schedule.block;
        p->lane_loss[lane] = sum_of(batch->row_loss + first, part.first_row + part.rows - first);
    }
    fbp_team_wait(member);
    if (asked(j->request, FBP_BACKWARD)) {
        const fbp_range some = fbp_share(gradients, FBP_LINE, member->size, member->index);
        p->kernels->column_sum(lanes, some.end - some.begin, p->lane_gradients + some.begin * element, gradients, 0,
                               p->flat[FBP_GRADIENTS] + some.begin * element);
        fbp_team_wait(member);
    }
    for (int i = 0; i < p->count; i++)
        if (!schemas[p->ops[i].kind].by_rows && asked(j->request, p->ops[i].phase))
            execute(p, &p->ops[i], batch, member);
    if (member->index == 0) batch->row_loss[0] = sum_of(p->lane_loss, lanes);
}

/* Every member runs this with its own copy of the batch. */
static void run_batches(void *context, const fbp_member *member) {
    const job *j = context;
    const fbp_program *p = j->program;
    const fbp_request *request = j->request;
    double penalty_value = 0;
    fbp_batch batch = {.kernels = p->kernels,
                       .source = request->source,
                       .order = request->order,
                       .training = request->training,
                       .seed = p->seed,
                       .row_loss = p->row_loss,
                       .penalty = &penalty_value};
    memcpy(batch.arena, request->data, sizeof batch.arena);
    memcpy(batch.arena, p->flat, sizeof p->flat);
    batch.arena[FBP_WORKSPACE] = p->workspace;
    int64_t turn = p->counters[0]; /* batches that took part in an update */
    batch.draw = (uint64_t)p->counters[1];
    if (!in_blocks(p) && request->training && asked(request, FBP_FORWARD) && asked(request, FBP_BACKWARD))
        batch.tables = p->tables, batch.table_count = p->table_count;
    fbp_team_wait(member); /* all have read the counters before the first member writes them */
    double loss_sum = request->loss_sum, weight_sum = request->weight_sum;

    const int64_t end = request->first + request->count, size = p->schedule.batch;
    for (int64_t number = 0, position = request->first; position < end; number++, position += size) {
        batch.position = position, batch.end = end;
        batch.rows = end - position < size ? end - position : size;
        batch.follows = number > 0;
        batch.draw += asked(request, FBP_FORWARD) && request->training;
        turn += asked(request, FBP_UPDATE);
        batch.step = (turn + p->accumulation - 1) / p->accumulation;
        batch.waiting = p->accumulation > 1 ? (turn - 1) % p->accumulation : 0;
        penalty_value = 0;
        if (request->learning_rates) batch.learning_rate = request->learning_rates[number];
        if (asked(request, FBP_LOSS)) batch.weight_sum = weight_of(&batch);
        (in_blocks(p) ? run_lanes : run_together)(j, &batch, member);
        if (asked(request, FBP_LOSS) && member->index == 0) {
            double batch_loss = in_blocks(p) ? p->row_loss[0] : sum_of(p->row_loss, batch.rows);
            batch_loss += batch.weight_sum * penalty(p, &batch);
            loss_sum += batch_loss, weight_sum += batch.weight_sum;
            if (request->batch_losses) {
                request->batch_losses[2 * number] = batch.weight_sum > 0 ? batch_loss / batch.weight_sum : 0;
                request->batch_losses[2 * number + 1] = penalty_value;
            }
        }
        fbp_team_wait(member); /* the next batch may write over the losses now */
    }
    if (member->index == 0) {
        p->counters[0] = turn, p->counters[1] = (int64_t)batch.draw;
        j->result->loss_sum = loss_sum, j->result->weight_sum = weight_sum;
    }
}

int fbp_program_run(fbp_program *p, const fbp_request *request, fbp_result *result) {
    double flops = 0;
    for (int i = 0; i < p->count; i++)
        if (asked(request, p->ops[i].phase)) flops += p->ops[i].flops;
    const int64_t batch = p->schedule.batch;
    double full = (double)(request->count < batch ? request->count : batch) / (double)batch;
    int size = fbp_team_size(flops * full);
    size_t bytes = fbp_gemm_scratch(p->kernels);
    if (in_blocks(p)) {
        bytes = round_up(bytes + (size_t)p->size[FBP_WORKSPACE] * p->kernels->element);
        if (size > p->schedule.lanes) size = p->schedule.lanes;
    }
    if (size > p->scratch_members) {
        fbp_free(p->scratch);
        p->scratch_members = 0;
        p->scratch = fbp_allocate(bytes * (size_t)size);
        if (!p->scratch) return FBP_NO_MEMORY;
        p->scratch_members = size;
    }
    result->loss_sum = result->weight_sum = 0;
    job j = {p, request, result};
    fbp_team_run(size, p->scratch, bytes, run_batches, &j);
    return FBP_OK;
}
