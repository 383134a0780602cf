// What the loops of a linear layer of one example are asked to do, free of the instruction set that
// does it.
#pragma once

#include "core/plain.hpp"
#include "simd/dispatch.hpp"

namespace gossamer::single {

constexpr int slice_rows = 8;

// Rows of a sparse matrix in slices of eight: step after step, one non-zero of each row.
// Rows are sorted by length; shorter ones are filled up with zeros at the column `columns`.
struct SlicedTask {
    const float* input;
    float* output;
    const std::int32_t* rows;    // of the output, eight a slice, -1 where there is none
    const std::int64_t* starts;  // steps before each slice
    const void* indices;
    const float* values;
};

// Rows are taken by 16, a band, and columns by 31, a table: two vectors of inputs, and in their
// last lane a 0. Lanes without a non-zero pick that, and not an input that their row does not read,
// which might be no number. For each band and each table there are lines of picks, whose lanes hold
// the columns of six steps in 5 bits each, as many as 32 bits hold, and a line of weights for each
// step. The sums of 12 steps, the table and what is in hand take most of the 32 registers.
constexpr int table_rows = 16;
constexpr int table_columns = 31;
constexpr int pick_bits = 5;
constexpr int picks_in_line = 6;
constexpr int longest_steps = 12;

constexpr int lines_of_picks(int steps) { return (steps + picks_in_line - 1) / picks_in_line; }

struct alignas(64) TableLine {
    std::uint32_t numbers[table_rows];
};

// The output has room for whole bands; sums are added to what is there.
struct TabledTask {
    const float* input;
    float* output;
    std::int64_t tables;
    int steps;
    const TableLine* lines;  // [bands][tables][picks, then weights]
};

// Rows 4 r to 4 r + 3 share their columns. The output has room for whole groups of four.
struct BlockedTask {
    const float* input;
    float* output;
    const std::int64_t* starts;
    const void* indices;
    const float* values;
};

// Rows are `stride` apart and filled up with zeros, as the input is.
struct DenseTask {
    const float* input;
    float* output;
    const float* values;
    std::int64_t stride;
};

// Each over some of the rows, or of what they are stored by.
struct LinearLoops {
    int lanes;
    void (*sliced_16)(const SlicedTask&, Range slices);
    void (*sliced_32)(const SlicedTask&, Range slices);
    // Null but for vectors of 16, of which one instruction looks up the numbers of two.
    void (*tabled)(const TabledTask&, Range bands);
    void (*blocked_16)(const BlockedTask&, Range groups);
    void (*blocked_32)(const BlockedTask&, Range groups);
    void (*dense)(const DenseTask&, Range rows);
};

GOSSAMER_DECLARE(LinearLoops, linear_loops)

}  // namespace gossamer::single
