/* x86-64-v3 (AVX2 and FMA): 16 registers of 32 bytes, of which full tiles keep 12 as accumulators. */
#define ISA x86_v3
#define VECTORS 2
#define TILE_ROWS(v) ((v) == 1 ? 12 : 6)
#define TURN 4
#define KC 512
#define MC (3072 / REAL_BITS)
#define NC 512
#define IN_PLACE 200
#define PANELS 192
#include "../kernels/table.h"
