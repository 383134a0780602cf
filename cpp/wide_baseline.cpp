// For any processor that the compiler takes for granted.
#define GOSSAMER_WIDTH 4
#define GOSSAMER_BLOCK_PIXELS 2
#define GOSSAMER_TABLE wide_kernels_baseline
#include "wide_kernels.inc"
