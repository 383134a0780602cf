// Kernels cannot stop where a number counts no row of a table or place of an axis: they note it,
// and who calls looks whether any did.
#pragma once

#include <cstdint>

namespace gossamer {

void note_refusal();

// How often one was noted in this process, by any engine.
std::int64_t refusals();

}  // namespace gossamer
