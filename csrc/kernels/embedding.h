/* Rows of a table by their numbers. A number is a real; one that names no row names the nearest one. */
#ifndef FBP_EMBEDDING_H
#define FBP_EMBEDDING_H

#include "kernels.h"
#include "spans.h"

static int64_t row_number(const void *index, int64_t table_rows) {
    const real number = *(const real *)index;
    if (!(number > 0)) return 0; /* NaN too */
    return number < (real)(table_rows - 1) ? (int64_t)number : table_rows - 1;
}

static void embedding_forward(int64_t rows, int64_t columns, const void *index, ptrdiff_t index_row, int64_t table_rows,
                              int64_t width, const void *table, void *y, ptrdiff_t y_row) {
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < columns; j++) {
            const int64_t number = row_number((const real *)index + i * index_row + j, table_rows);
            const real *from = (const real *)table + number * width;
            real *to = (real *)y + i * y_row + j * width;
            FOR_EACH_SPAN(width) store_span(to, span, load_span(from, span));
        }
}

static void embedding_backward(int64_t begin, int64_t end, int64_t rows, int64_t columns, const void *index,
                               ptrdiff_t index_row, int64_t table_rows, int64_t width, const void *dy, ptrdiff_t dy_row,
                               void *table_grad) {
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < columns; j++) {
            const int64_t number = row_number((const real *)index + i * index_row + j, table_rows);
            if (number < begin || number >= end) continue;
            const real *from = (const real *)dy + i * dy_row + j * width;
            real *to = (real *)table_grad + number * width;
            FOR_EACH_SPAN(width) store_span(to, span, load_span(to, span) + load_span(from, span));
        }
}

/* whether one of n elements is not 0 */
static int any(int64_t n, const void *x) {
    ivec found = {0};
    FOR_EACH_SPAN(n) found |= load_span(x, span) != 0;
    integer lanes[VL], all = 0;
    memcpy(lanes, &found, sizeof lanes);
    for (int i = 0; i < VL; i++) all |= lanes[i];
    return all != 0;
}

#endif
