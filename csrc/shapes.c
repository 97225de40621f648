/* The shapes of operands, for operations that work on more than matrices of one shape. */
#include "shapes.h"

#include <string.h>

/* Rows and columns of each operand in order. b: a row per sample of the batch; a digit: so many; any other letter: the
 * same number wherever it stands in the line. The t rows of a table follow each other without padding. */
static const struct {
    const char *operation, *shapes;
} table[] = {
    {"sparse_forward", "bi io 1o bo"},
    {"sparse_backward_weight", "bi bo io 1o"},
    {"batch_norm_forward", "bc 1c 1c 1c 1c 2c bc"},
    {"batch_norm_backward", "bc 1c 2c bc 1c 1c bc"},
    {"layer_norm_forward", "bc 1c 1c b2 bc"},
    {"layer_norm_backward_parameters", "bc b2 bc 1c 1c"},
    {"layer_norm_backward_input", "bc 1c b2 bc bc"},
    {"prelu_forward", "bc 1c bc"},
    {"prelu_backward", "bc 1c bc 1c bc"},
    {"normalize", "bc 1c 1c bc"},
    {"gather_normalize", "bc 1c 1c bc"},
    {"copy_columns", "bs bo"},
    {"embedding_forward", "bk tw by"},
    {"embedding_backward", "bk by tw"},
};

static int same(char letter, int64_t size, int64_t sizes[128]) {
    if (letter >= '0' && letter <= '9') return size == letter - '0';
    if (!sizes[(int)letter]) sizes[(int)letter] = size;
    return size == sizes[(int)letter];
}

int fbp_known_shapes(const fbp_op *op, const char *name, unsigned *per_row, int *fits) {
    const char *shape = NULL;
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (!strcmp(name, table[i].operation)) shape = table[i].shapes;
    if (!shape) return 0;
    int64_t sizes[128] = {0};
    *per_row = 0, *fits = 1;
    for (int i = 0; i < FBP_OPERANDS && *shape; i++, shape += shape[2] ? 3 : 2) {
        const fbp_tensor *t = &op->operand[i];
        if (shape[0] == 'b') *per_row |= 1u << i;
        if (t->arena < 0) continue;
        if (shape[0] == 't') *fits = *fits && t->stride == t->columns;
        *fits = *fits && same(shape[1], t->columns, sizes) && (shape[0] == 'b' || same(shape[0], t->rows, sizes));
    }
    if (sizes['k'] && sizes['y']) *fits = *fits && sizes['y'] == sizes['k'] * sizes['w'];
    if (!strcmp(name, "copy_columns")) {
        const double begin = op->attribute[0], place = op->attribute[1], count = op->attribute[2];
        *fits = *fits && begin >= 0 && place >= 0 && count >= 1 && begin + count <= (double)sizes['s'] &&
                place + count <= (double)sizes['o'];
    }
    return 1;
}
