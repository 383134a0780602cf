// For AVX2 with FMA: vectors of 8 floats, 16 registers.
#define GOSSAMER_WIDTH 8
#define GOSSAMER_BLOCK_PIXELS 3
#define GOSSAMER_TABLE wide_kernels_avx2
#include "wide_kernels.inc"
