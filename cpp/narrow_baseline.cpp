// The kernels for one sample, compiled for any processor.
#define GOSSAMER_WIDTH 4
#include "narrow_kernels.inc"

namespace gossamer::narrow {

const Kernels& kernels_baseline() { return kernels; }

}  // namespace gossamer::narrow
