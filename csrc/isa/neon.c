/* AArch64 (Advanced SIMD): 32 registers of 16 bytes, 24 of them accumulators. */
#define ISA neon
#define VECTORS 3
#define TILE_ROWS(v) ((v) == 1 ? 14 : (v) == 2 ? 12 : 8)
#define KC 256
#define MC 192
#define NC 1024
#define IN_PLACE 256
#define PANELS 0
#include "../kernels/table.h"
