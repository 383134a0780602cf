// Where the non-zeros of a sparse layer stand, by rows and by columns.
#pragma once

#include <cstdint>
#include <vector>

#include "core/plain.hpp"
#include "core/scratch.hpp"
#include "training/loops.hpp"

namespace gossamer::training {

// The non-zeros of a matrix row by row, cut into slices of the columns whose inputs stay in a cache
// while all rows read them.
struct Sorted {
    std::int64_t rows;
    std::int64_t columns;
    std::int64_t slices;
    std::vector<std::int32_t> bounds;    // [slices + 1][rows] where a row has those of a slice
    LongVector<std::int32_t> column_of;  // [non-zeros]

    Part part(std::int64_t slice, Range rows) const;

    // Where what these rows have begins and ends.
    Range non_zeros(Range rows) const;

    // The rows of one of so many members, each of which have about as much to do.
    Range share(int member, int members) const;
};

// How many of the numbers are below each one up to `most`: [most + 1].
std::vector<std::int32_t> starts_of(const std::vector<std::int32_t>& numbers, std::int64_t most);

// Where the numbers stand, ascending ones, equal ones in order; `starts` as above.
std::vector<std::int32_t> ordered(const std::vector<std::int32_t>& numbers,
                                  const std::vector<std::int32_t>& starts);

// Rows that are not cut, from where each begins, [rows + 1].
Sorted whole_rows(const std::vector<std::int32_t>& starts, std::vector<std::int32_t> column_of);

// Throws std::invalid_argument where positions are not ascending ones below `size`.
void check_positions(const std::int64_t* positions, std::int64_t count, std::int64_t size);

// Throws std::invalid_argument where positions in the flattened matrix are not ascending ones
// within it, and std::overflow_error where it is too large.
class Index {
  public:
    Index(const std::int64_t* positions, std::int64_t count, std::int64_t rows,
          std::int64_t columns, InstructionSet set);

    std::int64_t count() const { return static_cast<std::int64_t>(order_.size()); }
    InstructionSet instruction_set() const { return set_; }
    const Sorted& by_row() const { return by_row_; }
    const Sorted& by_column() const { return by_column_; }  // of the transposed matrix
    // [non-zeros] which in order of rows those in order of columns are.
    const std::vector<std::int32_t>& order() const { return order_; }

  private:
    InstructionSet set_;
    Sorted by_row_;
    Sorted by_column_;
    std::vector<std::int32_t> order_;
};

}  // namespace gossamer::training
