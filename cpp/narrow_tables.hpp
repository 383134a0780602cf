// Sparse rows for one sample whose inputs are looked up in registers.
//
// A table is a few neighbouring inputs in two vectors. Rows, one in each lane, pick theirs out of
// it with one instruction, where loading them takes one for each. All rows take as many steps for
// each table, so that no branch depends on the pattern; what they do not get to is left to other
// kernels.
#pragma once

#include <cstdint>
#include <vector>

#include "narrow_kernels.hpp"
#include "plan.hpp"

namespace gossamer::narrow {

class Tables {
  public:
    Tables() = default;
    // Take out of sparse weights the non-zeros for which tables are faster, perhaps none.
    explicit Tables(Weights& weights);

    std::int64_t slices() const { return slices_; }  // 0 where no weights lie in tables
    TabledTask task(const float* input, float* output) const {
        return {input, output, tables_, steps_, lines_.data()};
    }

  private:
    std::int64_t slices_ = 0;
    std::int64_t tables_ = 0;
    int steps_ = 0;
    std::vector<TableLine> lines_;
};

}  // namespace gossamer::narrow
