// For AVX-512: vectors of 16 floats, 32 registers.
#define GOSSAMER_WIDTH 16
#define GOSSAMER_BLOCK_PIXELS 4
#define GOSSAMER_TABLE wide_kernels_avx512
#include "wide_kernels.inc"
