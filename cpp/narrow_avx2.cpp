// The kernels for one sample, compiled for AVX2 and FMA.
#define GOSSAMER_WIDTH 8
#include "narrow_kernels.inc"

namespace gossamer::narrow {

const Kernels& kernels_avx2() { return kernels; }

}  // namespace gossamer::narrow
