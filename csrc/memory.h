/* Memory of the engine: zeroed, at cache lines, large pieces on huge pages. */
#ifndef FBP_MEMORY_H
#define FBP_MEMORY_H

#include <stddef.h>

enum { FBP_ALIGNMENT = 64 }; /* bytes of a cache line */

/* NULL when there is none. */
void *fbp_allocate(size_t bytes);
void fbp_free(void *memory);

#endif
