/* x86-64-v4 (AVX-512 F, BW, CD, DQ, VL): 32 registers of 64 bytes, 27 or 28 of them accumulators. Tiles three vectors
 * wide load 12 vectors for 27 multiply-adds instead of 16 for 28, which pays where two of these start in a cycle. KC is
 * long because each cut of the depth reads and writes all of C; MC x KC elements of A take 400 KB of the second-level
 * cache. */
#define ISA x86_v4
#define VECTORS 3
#define FULL_GROUP(intel) ((intel) ? 3 : 2)
#define TILE_ROWS(v) ((v) == 3 ? 9 : 14)
#define STEP_ROWS(v) ((v) == 1 ? 14 : (v) == 2 ? 12 : 8)
#define KC 1024
#define MC (3136 / REAL_BITS)
#define NC 512
#define IN_PLACE 1024
#define PANELS 0
#include "../kernels/table.h"
