// Numbers that only change their place: what the operators that move them have in common.
#pragma once

#include <cstdint>
#include <vector>

#include "ops/layer.hpp"

namespace gossamer {

// How an output finds its numbers: which axis of the input stands where, and from where and in
// which steps it is walked. The strides of an axis that is repeated are 0.
struct Walk {
    std::vector<int> axes;            // of the input, one for each of the output; -1: repeated
    std::vector<std::int64_t> first;  // one for each axis of the input; empty: 0
    std::vector<std::int64_t> steps;  // empty: 1
    int table_axis = -1;              // of the output, where `table` says what is taken
    std::vector<std::int64_t> table;
};

// A layer that does such a walk; all that lies side by side goes at once.
class Moving : public Layer {
  public:
    Prepared prepare(InstructionSet set, bool side_by_side) const override;

  protected:
    Walk walk;  // set by `check`
};

// Copy the numbers of one value to another of its sizes, `lanes` of neighbours at a time.
void copy_numbers(const Strided& from, const Strided& to, std::int64_t lanes, InstructionSet set);

}  // namespace gossamer
