/* x86-64-v2 (SSE4.2): 16 registers of 16 bytes, no fused multiply-add. */
#define ISA x86_v2
#define VECTORS 3
#define TILE_ROWS(v) ((v) == 1 ? 12 : (v) == 2 ? 6 : 4)
#define KC 256
#define MC 192
#define NC 1024
#define IN_PLACE 256
#define PANELS 0
#include "../kernels/table.h"
