#include "memory.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#ifdef __linux__
#include <sys/mman.h>
#endif

/* Products walk down columns whose rows lie pages apart: with pages of 4 KiB the machine runs out of address
 * translations before it runs out of cache, and chance decides which pages share its sets. From a quarter of a huge
 * page on, memory is made of whole ones. */
enum { HUGE_PAGE = 1 << 21 };

void *fbp_allocate(size_t bytes) {
    const size_t alignment = bytes >= HUGE_PAGE / 4 ? HUGE_PAGE : FBP_ALIGNMENT;
    if (bytes > SIZE_MAX - 3 * alignment) return NULL;
    const size_t whole = (bytes + alignment - 1) / alignment * alignment;
    /* the pointer that malloc gave lies in front of the memory */
    char *given = malloc(whole + alignment + sizeof(void *));
    if (!given) return NULL;
    uintptr_t start = ((uintptr_t)given + sizeof(void *) + alignment - 1) / alignment * alignment;
    char *memory = (char *)start;
    memcpy(memory - sizeof(void *), &given, sizeof given);
#ifdef __linux__
    if (alignment == HUGE_PAGE) madvise(memory, whole, MADV_HUGEPAGE);
#endif
    return memset(memory, 0, bytes);
}

void fbp_free(void *memory) {
    if (!memory) return;
    void *given;
    memcpy(&given, (char *)memory - sizeof(void *), sizeof given);
    free(given);
}
