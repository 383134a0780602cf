// A matrix times a vector, stored as the loops of single/linear.hpp walk it.
#pragma once

#include <cstdint>
#include <vector>

#include "core/plan.hpp"
#include "single/linear.hpp"
#include "single/steps.hpp"
#include "single/tables.hpp"

namespace gossamer::single {

// Weights as the kernels walk them; `starts` are steps, blocks or nothing.
struct Packed {
    Tables tables;  // of sparse weights, some or all; the rest is in slices
    LongVector<float> values;
    std::vector<std::int64_t> starts;
    LongVector<std::uint16_t> short_indices;
    LongVector<std::int32_t> long_indices;
    std::vector<std::int32_t> rows;  // of the output, for each lane of each slice
    std::int64_t stride = 0;         // of dense rows

    void add_index(std::int64_t columns, std::int32_t column);
    const void* indices() const {
        if (!long_indices.empty()) return long_indices.data();
        return short_indices.data();
    }
};

class MatrixVector {
  public:
    MatrixVector(const Weights& weights, InstructionSet set);

    // The part of a worker of the sums; all that run together call it. Behind the input lie zeros
    // for the slack, and the output has room for it.
    void multiply(const Worker& worker, const float* input, float* output) const;

    double nanoseconds() const;

  private:
    const LinearLoops& loops_;
    WeightsKind kind_;
    std::int64_t rows_;
    std::int64_t stored_;
    Packed packed_;
};

}  // namespace gossamer::single
