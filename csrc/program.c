/* A program: a plan that was checked once, its workspace, and the loop that runs it. */
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "fastbp.h"
#include "gemm.h"
#include "inputs.h"
#include "memory.h"
#include "merge.h"
#include "ops/ops.h"
#include "pace.h"

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
enum { OPS = sizeof schemas / sizeof *schemas };

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
    fbp_op *merged; /* what runs instead where nobody reads the gradients; NULL: nothing */
    int merged_count;
    fbp_schedule schedule;
    int64_t size[4]; /* elements of the flat arrays */
    char *flat[3];   /* parameters, gradients, state: the caller's */
    void *memory;    /* what the next three point into */
    double *row_loss;
    double *lane_loss;
    char *workspace;      /* with blocks each member has one of its own, behind its scratch */
    char *lane_gradients; /* NULL until a run goes back in lanes */
    int64_t *counters;    /* the caller's: optimizer steps, training forward passes */
    uint64_t seed;
    int penalties;        /* operations whose sums belong to the loss */
    int64_t accumulation; /* batches whose gradients make one step */
    fbp_table *tables;    /* of embeddings */
    int table_count;
    fbp_pace pace[2]; /* of passes without and with a backward part */
    char *scratch;    /* one piece per member, for the largest team so far */
    int scratch_members;
};

static size_t round_up(size_t bytes) { return (bytes + FBP_ALIGNMENT - 1) / FBP_ALIGNMENT * FBP_ALIGNMENT; }

/* What members have of their own lies equally far from the beginning of a page: which accesses wait for each other
 * because their addresses end alike does not depend on the member. */
enum { PAGE = 4096 };
static size_t whole_pages(size_t bytes) { return (bytes + PAGE - 1) / PAGE * PAGE; }

static int in_blocks(const fbp_program *p) { return p->schedule.block < p->schedule.batch; }

int fbp_program_create(const fbp_kernels *kernels, const fbp_op *ops, int count, fbp_schedule schedule,
                       const int64_t size[4], void *parameters, void *gradients, void *state, void *shared,
                       int64_t *counters, uint64_t seed, fbp_program **program, int *bad, const char **why) {
    for (int i = 0; i < count; i++) {
        *why = fbp_check_op(&ops[i], size, schedule.block, schedule.block < schedule.batch);
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
    size_t workspace = lanes || shared ? 0 : (size_t)size[FBP_WORKSPACE] * kernels->element;
    p->ops = malloc((size_t)(count + 1) * sizeof *ops);
    p->memory = fbp_allocate(loss + lane_loss + workspace);
    int tables_status = fbp_tables_create(ops, count, &p->tables, &p->table_count);
    if (!p->ops || !p->memory || tables_status != FBP_OK) {
        fbp_program_destroy(p);
        return FBP_NO_MEMORY;
    }
    memcpy(p->ops, ops, (size_t)count * sizeof *ops);
    if (!shared) fbp_find_readers(kernels, p->ops, count); /* else other programs may read the workspace */
    if (!lanes && fbp_merge_steps(kernels, p->ops, count, &p->merged, &p->merged_count) != FBP_OK) {
        fbp_program_destroy(p);
        return FBP_NO_MEMORY;
    }
    p->row_loss = p->memory;
    p->lane_loss = (double *)((char *)p->memory + loss);
    p->workspace = shared ? shared : (char *)p->lane_loss + lane_loss;
    p->accumulation = 1;
    for (int i = 0; i < count; i++) {
        p->penalties += p->ops[i].kind == FBP_OP_penalty;
        if (p->ops[i].kind == FBP_OP_accumulate) p->accumulation = (int64_t)p->ops[i].attribute[0];
    }
    *program = p;
    return FBP_OK;
}

void fbp_program_destroy(fbp_program *p) {
    if (!p) return;
    free(p->ops);
    free(p->merged);
    fbp_free(p->memory);
    fbp_free(p->lane_gradients);
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

/* four sums side by side: an addition takes four cycles */
static double sum_of(const double *values, int64_t n) {
    double part[4] = {0};
    for (int64_t i = 0; i + 4 <= n; i += 4)
        for (int q = 0; q < 4; q++) part[q] += values[i + q];
    for (int64_t i = n / 4 * 4; i < n; i++) part[0] += values[i];
    return (part[0] + part[1]) + (part[2] + part[3]);
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
        if (p->ops[i].kind == FBP_OP_penalty) total += p->kernels->sum(sums->columns, at(sums, batch, 0), NULL);
    }
    return total;
}

/* The team shares the operation; after it all wait for each other. */
static inline void execute(const fbp_program *p, const fbp_op *op, const fbp_batch *batch, const fbp_member *member) {
    if (op->phase == FBP_UPDATE) {
        /* until all gradients of the step are there */
        if (batch->waiting < p->accumulation - 1 && op->kind != FBP_OP_accumulate) return;
        if (op->operand[0].rows > 1 && op->operand[1].arena == FBP_GRADIENTS) {
            fbp_update_rows(functions[op->kind], op, batch, member);
            fbp_team_wait(member);
            return;
        }
    }
    functions[op->kind](op, batch, member);
    if (op->phase != FBP_GATHER || !op->in_place || !batch->in_place) fbp_team_wait(member);
}

/* Whether gradients may be used up: by this batch's own step, and the next batch has others. */
static int may_merge(const job *j, const fbp_batch *batch) {
    const fbp_request *r = j->request;
    const int follows = r->goes_on || batch->position + batch->rows < batch->end;
    return follows && asked(r, FBP_BACKWARD) && asked(r, FBP_UPDATE) && !asked(r, FBP_INPUT_GRADIENT) &&
           batch->learning_rate > 0;
}

enum { PARTS_AHEAD = 10 }; /* in which the next batch is asked for; a step has about so many operations */

static void run_together(const job *j, const fbp_batch *batch, const fbp_member *member) {
    const fbp_program *p = j->program;
    const int merge = p->merged && may_merge(j, batch), count = merge ? p->merged_count : p->count;
    const fbp_op *ops = merge ? p->merged : p->ops;
    const int64_t some = batch->rows / PARTS_AHEAD + 1;
    for (int i = 0; i < count; i++)
        if (asked(j->request, ops[i].phase)) {
            execute(p, &ops[i], batch, member);
            fbp_ask_ahead(member, some);
        }
}

enum { GATHERS = 3 }; /* at most: inputs, targets, weights; what one of them will read next is known behind it */

/* Each member takes blocks of rows through all operations by itself; then gradients are added up, and the team shares
 * what goes through the flat arrays. */
static void run_lanes(const job *j, const fbp_batch *batch, const fbp_member *member) {
    const fbp_program *p = j->program;
    const int64_t element = (int64_t)p->kernels->element, gradients = p->size[FBP_GRADIENTS];
    const int64_t blocks = (batch->rows + p->schedule.block - 1) / p->schedule.block;
    const int lanes = (int)(blocks < p->schedule.lanes ? blocks : p->schedule.lanes);
    const fbp_range share = fbp_share(lanes, 1, member->size, member->index);
    const fbp_member alone = {.size = 1, .scratch = member->scratch, .ahead = member->ahead};
    int by_rows = 0; /* operations of this run that take blocks */
    for (int i = 0; i < p->count; i++) by_rows += schemas[p->ops[i].kind].by_rows && asked(j->request, p->ops[i].phase);
    /* of the next block's rows after each of them, so that the last one comes to the last row */
    const int64_t some = p->schedule.block / (by_rows > GATHERS ? by_rows - GATHERS : 1) + 1;
    for (int64_t lane = share.begin; lane < share.end; lane++) {
        fbp_batch part = *batch;
        part.in_lane = 1;
        part.arena[FBP_WORKSPACE] = member->scratch + fbp_gemm_scratch(p->kernels);
        if (p->lane_gradients) part.arena[FBP_GRADIENTS] = p->lane_gradients + lane * gradients * element;
        const fbp_range mine = fbp_share(blocks, 1, lanes, (int)lane);
        for (int64_t block = mine.begin; block < mine.end; block++) {
            part.first_row = block * p->schedule.block;
            part.position = batch->position + part.first_row;
            part.row_loss = batch->row_loss + part.first_row;
            part.rows = batch->rows - part.first_row;
            if (part.rows > p->schedule.block) part.rows = p->schedule.block;
            part.accumulate = block > mine.begin;
            for (int i = 0; i < p->count; i++) {
                if (!schemas[p->ops[i].kind].by_rows || !asked(j->request, p->ops[i].phase)) continue;
                functions[p->ops[i].kind](&p->ops[i], &part, &alone);
                fbp_ask_ahead(&alone, some);
            }
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
static void run_batches(void *context, const fbp_member *given) {
    const job *j = context;
    fbp_ahead ahead[FBP_NEXTS] = {{0}};
    fbp_member self = *given, *member = &self;
    _Alignas(64) char unstepped[FBP_UNSTEPPED];
    self.ahead = ahead, self.unstepped = unstepped;
    const fbp_program *p = j->program;
    const fbp_request *request = j->request;
    double penalty_value = 0;
    fbp_batch batch = {.kernels = p->kernels,
                       .source = request->source,
                       .order = request->order,
                       .training = request->training,
                       .seed = p->seed,
                       .in_place = fbp_reads_in_place(request, in_blocks(p)),
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

/* A copy of the gradients for each lane: 32 times the parameters, which networks that never train do without. */
static int reserve_lane_gradients(fbp_program *p) {
    if (!p->lane_gradients)
        p->lane_gradients = fbp_allocate((size_t)(p->schedule.lanes * p->size[FBP_GRADIENTS]) * p->kernels->element);
    return p->lane_gradients ? FBP_OK : FBP_NO_MEMORY;
}

/* Scratch for so many members, of so many bytes each. */
static int reserve(fbp_program *p, int members, size_t bytes) {
    if (members <= p->scratch_members) return FBP_OK;
    fbp_free(p->scratch);
    p->scratch = fbp_allocate(bytes * (size_t)members);
    p->scratch_members = p->scratch ? members : 0;
    return p->scratch ? FBP_OK : FBP_NO_MEMORY;
}

/* Goes on to the positions behind a part, which is whole batches. */
static void skip_part(fbp_request *part, const fbp_result *result, int64_t batch) {
    const int64_t batches = part->count / batch;
    part->first += part->count;
    part->loss_sum = result->loss_sum, part->weight_sum = result->weight_sum;
    if (part->learning_rates) part->learning_rates += batches;
    if (part->batch_losses) part->batch_losses += 2 * batches;
}

/* As a rule in one part; a trial of another team is a part of its own. */
int fbp_program_run(fbp_program *p, const fbp_request *request, fbp_result *result) {
    double flops = 0;
    for (int i = 0; i < p->count; i++)
        if (asked(request, p->ops[i].phase)) flops += p->ops[i].flops;
    const int64_t batch = p->schedule.batch;
    double full = (double)(request->count < batch ? request->count : batch) / (double)batch;
    const int most = fbp_team_size(flops * full);
    size_t bytes = fbp_gemm_scratch(p->kernels);
    if (in_blocks(p)) bytes = whole_pages(bytes + (size_t)p->size[FBP_WORKSPACE] * p->kernels->element);
    if (in_blocks(p) && asked(request, FBP_BACKWARD) && reserve_lane_gradients(p) != FBP_OK) return FBP_NO_MEMORY;
    const int worth = in_blocks(p) && most > p->schedule.lanes ? p->schedule.lanes : most;
    const int forced = worth == 1 || fbp_get_grain() == 0; /* somebody wants to see all of the team */
    fbp_pace *pace = &p->pace[asked(request, FBP_BACKWARD)];
    fbp_request part = *request;
    for (int64_t left = request->count;;) {
        const int size = forced ? worth : fbp_pace_size(pace, worth, batch);
        part.count = forced ? left : fbp_pace_rows(pace, size, batch, left);
        left -= part.count;
        part.goes_on = request->goes_on || left > 0;
        if (reserve(p, size, bytes) != FBP_OK) return FBP_NO_MEMORY;
        result->loss_sum = result->weight_sum = 0;
        job j = {p, &part, result};
        const double begin = forced ? 0 : fbp_team_clock();
        const int members = fbp_team_run(size, p->scratch, bytes, run_batches, &j);
        if (!forced && part.count > 0) fbp_pace_note(pace, members, worth, batch, part.count, fbp_team_clock() - begin);
        if (left == 0) return FBP_OK;
        skip_part(&part, result, batch);
    }
}
