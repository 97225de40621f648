/* Which rows of an embedding's table a batch uses: so that a step need not look at the others. */
#ifndef FBP_TABLES_H
#define FBP_TABLES_H

#include "fastbp.h"

typedef struct {
    int64_t offset;         /* of the table and of its gradient */
    int64_t count, before;  /* rows that the batch uses; that the batch before used */
    int32_t *row, *earlier; /* their numbers, each once */
    unsigned char *used;    /* for each row of the table: whether it is among row */
} fbp_table;

/* Makes one fbp_table for each embedding of the plan. None at all when an operation that is neither the embedding's nor
 * its optimizer's reaches a table's gradient: then nothing is known of its rows. */
int fbp_tables_create(const fbp_op *ops, int count, fbp_table **tables, int *tables_count);
void fbp_tables_destroy(fbp_table *tables, int count);
/* NULL without one at that offset. */
fbp_table *fbp_tables_find(fbp_table *tables, int count, int64_t offset);

#endif
