# What the extension sees of the C core, declared once.
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t


cdef extern from "fastbp.h":
    enum:
        FBP_OK
        FBP_NO_MEMORY
        FBP_BAD_PLAN
        FBP_OPERANDS
        FBP_ATTRIBUTES
        FBP_ARENAS
        FBP_INPUTS

    ctypedef enum fbp_epilogue_kind "int":
        FBP_STORE
        FBP_BIAS_ACTIVATION
        FBP_DERIVATIVE

    ctypedef struct fbp_epilogue:
        fbp_epilogue_kind kind
        int activation
        double alpha
        const void *bias
        const void *saved
        ptrdiff_t saved_row

    ctypedef struct fbp_kernels:
        const char *isa
        size_t element
        int vector
        int kc
        int mc
        int nc
        void (*activation_forward)(
            int, double, int64_t, int64_t, const void *, ptrdiff_t, void *, ptrdiff_t
        ) noexcept nogil
        void (*activation_backward)(
            int, double, int64_t, int64_t, const void *, ptrdiff_t, const void *, ptrdiff_t, void *, ptrdiff_t
        ) noexcept nogil
        void (*softmax_forward)(int64_t, int64_t, const void *, ptrdiff_t, void *, ptrdiff_t) noexcept nogil
        void (*softmax_backward)(
            int64_t, int64_t, const void *, ptrdiff_t, const void *, ptrdiff_t, void *, ptrdiff_t
        ) noexcept nogil
        void (*cross_entropy)(
            int, double, double, int64_t, int64_t, const void *, ptrdiff_t, const void *, ptrdiff_t, int64_t,
            const void *, double *, void *, ptrdiff_t
        ) noexcept nogil
        void (*permutation)(uint64_t, int64_t, int64_t, int64_t, int64_t *) noexcept nogil
        void (*column_sum)(int64_t, int64_t, const void *, ptrdiff_t, int, void *) noexcept nogil
        int (*all_finite)(int64_t, const void *) noexcept nogil

    const char *const *fbp_isas()
    const fbp_kernels *fbp_find_kernels(const char *isa, size_t element)
    void fbp_set_intel(int intel)

    int fbp_has_openmp()
    void fbp_set_threads(int limit)
    int fbp_get_threads()
    int fbp_members_in_use()
    int fbp_team_size(double flops)
    void fbp_set_grain(double flops)
    double fbp_get_grain()

    double fbp_multiply_adds(const fbp_kernels *kernels, int64_t rounds) nogil
    void fbp_sweep_memory(const fbp_kernels *kernels, int64_t n, void *x) nogil

    ctypedef struct fbp_tensor:
        int arena
        int per_row
        int64_t offset
        int64_t rows
        int64_t columns
        int64_t stride

    ctypedef struct fbp_op:
        int kind
        int phase
        fbp_tensor operand[7]
        double attribute[6]
        double flops

    ctypedef struct fbp_op_schema:
        const char *name
        const char *operands
        const char *attributes
        int by_rows

    const fbp_op_schema *fbp_schema(int kind)
    const char *fbp_activation_name(int kind)
    const char *fbp_loss_name(int kind)
    const char *fbp_element_name(int element, size_t *bytes)

    ctypedef struct fbp_program:
        pass

    ctypedef struct fbp_schedule:
        int64_t batch, block
        int lanes

    int fbp_program_create(
        const fbp_kernels *kernels, const fbp_op *ops, int count, fbp_schedule schedule, const int64_t *size,
        void *parameters, void *gradients, void *state, void *workspace, int64_t *counters, uint64_t seed,
        fbp_program **program, int *bad, const char **why
    )
    void fbp_program_destroy(fbp_program *program)

    ctypedef struct fbp_source:
        int element
        int converts
        const int64_t *starts
        const int32_t *columns
        int64_t entries

    ctypedef struct fbp_request:
        unsigned phases
        int training
        int64_t first
        int64_t count
        void *data[10]
        fbp_source source
        const int64_t *order
        const double *learning_rates
        bint goes_on
        double loss_sum
        double weight_sum
        double *batch_losses

    ctypedef struct fbp_result:
        double loss_sum
        double weight_sum

    int fbp_program_run(fbp_program *program, const fbp_request *request, fbp_result *result) nogil

    void fbp_permutation(
        const fbp_kernels *kernels, uint64_t key, int64_t n, int64_t first, int64_t count, int64_t *order
    ) nogil
    void fbp_shuffle(
        int64_t n, int64_t *values, uint32_t (*draw)(void *) noexcept nogil, void *generator
    ) nogil
    int fbp_matmul(
        const fbp_kernels *kernels, int64_t m, int64_t n, int64_t k, const void *a, ptrdiff_t a_row,
        ptrdiff_t a_step, const void *b, ptrdiff_t b_row, ptrdiff_t b_column, void *c, ptrdiff_t c_row,
        const fbp_epilogue *epilogue
    ) nogil

cdef extern from "gemm.h":
    int64_t fbp_gemm_group(const fbp_kernels *kernels)

cdef extern from "pace.h" nogil:
    ctypedef struct fbp_pace:
        pass

    int fbp_pace_size(fbp_pace *pace, int most, int64_t batch)
    int64_t fbp_pace_rows(const fbp_pace *pace, int size, int64_t batch, int64_t left)
    void fbp_pace_note(fbp_pace *pace, int size, int most, int64_t batch, int64_t rows, double seconds)
