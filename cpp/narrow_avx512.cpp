// The kernels for one sample, compiled for AVX-512.
#define GOSSAMER_WIDTH 16
#include "narrow_kernels.inc"

namespace gossamer::narrow {

const Kernels& kernels_avx512() { return kernels; }

}  // namespace gossamer::narrow
