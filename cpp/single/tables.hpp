// Sparse rows for one sample whose inputs are looked up in registers.
//
// A table is a few neighbouring inputs in two vectors. Rows, one in each lane, pick theirs out of
// it with one instruction, where loading them takes one for each. All rows take as many steps for
// each table, so that no branch depends on the pattern; what they do not get to is left to other
// kernels.
#pragma once

#include <cstdint>
#include <vector>

#include "core/plan.hpp"
#include "core/scratch.hpp"
#include "single/linear.hpp"

namespace gossamer::single {

// Non-zeros that lie in tables; none unless `in_tables` found some.
class Tables {
  public:
    Tables() = default;
    Tables(std::int64_t bands, std::int64_t tables, int steps);

    std::int64_t bands() const { return bands_; }
    void put_in_large_pages() const { gossamer::put_in_large_pages(lines_); }
    void put(std::int64_t row, std::int64_t column, int step, float value);
    TabledTask task(const float* input, float* output) const {
        return {input, output, tables_, steps_, lines_.data()};
    }

  private:
    std::int64_t bands_ = 0;
    std::int64_t tables_ = 0;
    int steps_ = 0;
    LongVector<TableLine> lines_;
};

struct Tabled {
    Tables tables;
    Weights others;
};

// Sparse weights, of which those lie in tables that are faster there, perhaps none.
Tabled in_tables(const Weights& weights);

}  // namespace gossamer::single
