/* x86-64-v4 (AVX-512 F, BW, CD, DQ, VL): 32 registers of 64 bytes, 28 of them accumulators. */
#define ISA x86_v4
#define VECTORS 2
#define TILE_ROWS(v) 14
#define KC 512
#define MC 98
#define NC 1024
#include "../kernels/table.h"
