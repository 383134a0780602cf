// Weights packed for the loops of batched/strips.hpp.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "batched/strips.hpp"
#include "core/plan.hpp"
#include "core/scratch.hpp"

namespace gossamer::batched {

// How a matrix is cut: panels of `rows` rows, each of one slice of the columns after the other, so
// that the inputs of a slice stay in the first cache while all rows of the panel read them.
struct Cut {
    std::int64_t rows;                        // a multiple of 4
    std::vector<std::int64_t> slice_columns;  // where slices begin, and the end of the last
    std::int64_t share = 0;                   // rows of a panel that one thread computes, or 0: all
};

// Where the input of the weight at (row, column) lies, in floats from the corner of the window.
using OffsetOf = std::function<std::int32_t(std::int64_t, std::int64_t)>;

// Whether it is packed in blocks of 4 rows that read the same inputs, rather than scattered.
bool in_blocks(const Weights& weights, std::int64_t groups);

class PackedMatrix {
  public:
    // The rows are those of so many groups of channels, which read different inputs.
    PackedMatrix(const Weights& weights, std::int64_t groups, const Cut& cut,
                 const OffsetOf& offset);
    PackedMatrix(const PackedMatrix&) = delete;
    PackedMatrix& operator=(const PackedMatrix&) = delete;

    bool blocks() const { return blocks_; }
    const std::vector<Panel>& panels() const { return panels_; }

  private:
    friend class Packer;

    bool blocks_;
    std::vector<Panel> panels_;
    std::vector<std::int32_t> order_;
    std::vector<std::int32_t> starts_;
    LongVector<Entry> entries_;
    std::vector<std::int32_t> offsets_;
    LongVector<float> values_;
};

}  // namespace gossamer::batched
