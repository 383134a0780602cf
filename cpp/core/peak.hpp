// What one core can do at most, to state the speed of layers as a share of it.
#pragma once

#include <cstdint>

#include "core/plain.hpp"

namespace gossamer {

// Floating-point operations a second, all in registers.
double multiply_add_peak(InstructionSet set, double seconds);

// Bytes a second read from an array of so many bytes, over and over.
double read_bandwidth(InstructionSet set, std::int64_t bytes, double seconds);

}  // namespace gossamer
