/* The only header that the Python extension sees: machine, threads, plans and programs, eager kernels.
 * Functions return 0 or a status code; nothing here prints, aborts, or calls Python. */
#ifndef FASTBP_H
#define FASTBP_H

#include "kernels/kernels.h"

enum fbp_status { FBP_OK, FBP_NO_MEMORY, FBP_BAD_PLAN };

/* ---- machine (cpu.c) ---- */
/* Names of the compiled instruction sets that this machine runs, best first, NULL at the end. */
const char *const *fbp_isas(void);
/* Kernels by name and element size (4 or 8 bytes); NULL when this machine or build has no such. */
const fbp_kernels *fbp_find_kernels(const char *isa, size_t element);
/* Two things go by the maker, as measured on a Xeon and a Zen 4. Intel's processors keep few translations of addresses:
 * virtual machines do not say how many, and some have none but those of pages of 4 KiB, whatever pages they asked for.
 * And they start two multiply-adds of 64 bytes in a cycle. */
int fbp_is_intel(void);
/* As if it were one (1) or not (0), to test both anywhere; negative: as it is. */
void fbp_set_intel(int intel);

/* ---- threads (team.c) ---- */
int fbp_has_openmp(void);
void fbp_set_threads(int limit);
int fbp_get_threads(void);
/* Threads that are at work now, of all runs in this process. */
int fbp_members_in_use(void);
/* Threads for a pass of that many floating-point operations: 1 <= size <= the limit. */
int fbp_team_size(double flops);
/* Work that makes one more thread worth its barriers, in floating-point operations per pass. */
void fbp_set_grain(double flops);
double fbp_get_grain(void);

/* ---- what the machine can do (machine.c) ---- */
/* Each member of the largest team does so many rounds of fused multiply-adds in registers; returns the
 * floating-point operations of all. */
double fbp_multiply_adds(const fbp_kernels *kernels, int64_t rounds);
/* The largest team reads and writes each of n elements once. */
void fbp_sweep_memory(const fbp_kernels *kernels, int64_t n, void *x);

/* ---- plans ---- */
enum fbp_arena {
    FBP_PARAMETERS,
    FBP_GRADIENTS,
    FBP_STATE,
    FBP_WORKSPACE,
    FBP_INPUTS,
    FBP_TARGETS,
    FBP_OUTPUTS,
    FBP_OUTPUT_GRADIENTS,
    FBP_INPUT_GRADIENTS,
    FBP_SAMPLE_WEIGHTS,
    FBP_ARENAS
};

/* Bits of a phase mask, in order of execution. */
enum fbp_phase {
    FBP_GATHER,
    FBP_GATHER_TARGETS,
    FBP_FORWARD,
    FBP_OUTPUT,
    FBP_LOSS,
    FBP_OUTPUT_BACKWARD,
    FBP_BACKWARD,
    FBP_INPUT_GRADIENT,
    FBP_UPDATE,
    FBP_PHASES
};

typedef struct {
    int arena; /* -1: absent */
    int per_row;
    int64_t offset, rows, columns, stride;
} fbp_tensor;

enum { FBP_OPERANDS = 7, FBP_ATTRIBUTES = 6 };

typedef struct fbp_op {
    int kind, phase;
    fbp_tensor operand[FBP_OPERANDS];
    double attribute[FBP_ATTRIBUTES];
    double flops;
    /* merge.h sets these, of a product whose gradient is used up by the optimizer's step, and of the first and the last
     * one of them; the caller's are 0 */
    const struct fbp_op *step;
    int begins_steps, ends_steps;
    int in_place; /* inputs.h sets this */
} fbp_op;

/* What ops.def says of operation number `kind`, NULL past the last one. */
typedef struct {
    const char *name, *operands, *attributes;
    int by_rows; /* ROW_OP */
} fbp_op_schema;
const fbp_op_schema *fbp_schema(int kind);
/* Names of the kinds that attributes `activation` and `loss` take; NULL past the last one. */
const char *fbp_activation_name(int kind);
const char *fbp_loss_name(int kind);
/* Name and bytes of element type number `element`; NULL past the last one. */
const char *fbp_element_name(int element, size_t *bytes);

/* ---- programs (program.c) ---- */
typedef struct fbp_program fbp_program;

/* How a batch goes through the operations: `block` rows at a time. With block == batch the team shares each operation.
 * Otherwise the blocks are dealt out to `lanes` lanes, each with gradients of its own that are added up in their order
 * at the end; a member of the team takes whole lanes. */
typedef struct {
    int64_t batch, block;
    int lanes;
} fbp_schedule;

/* Checks every operand of every operation once. The flat arrays stay the caller's and must outlive the
 * program, and so must the workspace; with NULL the program makes its own, as it must with blocks. On FBP_BAD_PLAN,
 * *bad is the number of the operation and *why names the operand or attribute. */
int fbp_program_create(const fbp_kernels *kernels, const fbp_op *ops, int count, fbp_schedule schedule,
                       const int64_t size[4], void *parameters, void *gradients, void *state, void *workspace,
                       int64_t *counters, uint64_t seed, fbp_program **program, int *bad, const char **why);
void fbp_program_destroy(fbp_program *program);

/* How the caller's inputs lie in memory: rows one after another, or compressed sparse rows. */
typedef struct {
    int element;            /* enum fbp_element */
    int converts;           /* the element is not the model's own */
    const int64_t *starts;  /* sparse: entries starts[i] .. starts[i + 1] belong to row i; else NULL */
    const int32_t *columns; /* sparse: of each entry; one that occurs twice adds up */
    int64_t entries;        /* sparse: how many there are */
} fbp_source;

typedef struct {
    unsigned phases;              /* bit mask of enum fbp_phase */
    int training;                 /* dropout drops */
    int64_t first, count;         /* positions */
    void *data[FBP_ARENAS];       /* the caller's matrices from FBP_INPUTS on; NULL where not given */
    fbp_source source;            /* what data[FBP_INPUTS] is */
    const int64_t *order;         /* sample of each position; NULL: the position itself */
    const double *learning_rates; /* one per batch */
    int goes_on;                  /* another run follows, and nobody reads the gradients of this one */
    double loss_sum, weight_sum;  /* of the positions before; the result goes on from them */
    double *batch_losses;         /* mean loss and penalty of each batch; NULL: not wanted */
} fbp_request;

typedef struct {
    double loss_sum, weight_sum;
} fbp_result;

int fbp_program_run(fbp_program *program, const fbp_request *request, fbp_result *result);

/* ---- the order of samples (shuffle.c) ---- */
/* Where the places first .. first + count of 0 .. n go in the permutation that follows from the key; the team shares
 * them. */
void fbp_permutation(const fbp_kernels *kernels, uint64_t key, int64_t n, int64_t first, int64_t count, int64_t *order);
/* Fisher and Yates' shuffle, drawing as NumPy's RandomState.shuffle does: `draw` gives 32 random bits, of which as many
 * as the last place has are taken, and taken anew while they are beyond it. n <= 2^32. */
void fbp_shuffle(int64_t n, int64_t *values, uint32_t (*draw)(void *), void *generator);

/* ---- eager (gemm.c) ---- */
/* C[m, n] = A[m, k] B[k, n] with any strides of which one is 1, then the epilogue (NULL: none). */
int fbp_matmul(const fbp_kernels *kernels, int64_t m, int64_t n, int64_t k, const void *a, ptrdiff_t a_row,
               ptrdiff_t a_step, const void *b, ptrdiff_t b_row, ptrdiff_t b_column, void *c, ptrdiff_t c_row,
               const fbp_epilogue *epilogue);

#endif
