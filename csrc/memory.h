/* Memory of the engine: zeroed, at cache lines, large pieces on huge pages. */
#ifndef FBP_MEMORY_H
#define FBP_MEMORY_H

#include <stddef.h>

enum { FBP_LINE = 64 }; /* bytes of a cache line; as elements, a whole number of lines for both element types */

/* NULL when there is none. */
void *fbp_allocate(size_t bytes);
void fbp_free(void *memory);

#endif
