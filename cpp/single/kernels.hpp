// What the kernels for one sample are asked to do, free of the instruction set that does it.
//
// A plane is one channel's pixels, row after row, `pitch` apart. A convolution treats it as one flat
// run: an output at position y * pitch + x reads its inputs at fixed distances from there, so that
// vectors run on over the ends of rows, and what they find between two rows is never used.
#pragma once

#include <cstdint>

#include "core/kinds.hpp"
#include "simd/dispatch.hpp"

namespace gossamer::single {

// Floats behind the end of every buffer that vectors may read.
constexpr std::int64_t slack = 64;
constexpr int slice_rows = 8;
constexpr int rows_of_block = 4;
constexpr int longest_tile = 14;
constexpr int longest_block_tile = 3;

// One non-zero of a convolution: the distance of its input from the output's position.
struct Tap {
    std::int32_t offset;
    float weight;
};

// Non-zeros of four channels that share a pattern.
struct BlockTap {
    std::int32_t offset;
    float weights[rows_of_block];
};

// Follows the sums: activation, then scale and shift of each channel (null where there are none).
struct Finish {
    ActivationKind activation;
    float alpha;
    const float* scale;
    const float* shift;
};

struct ConvolutionTask {
    const float* input;
    float* output;
    std::int64_t output_plane;
    const float* bias;       // one number a channel, or null
    const float* bias_map;   // planes at the pitch of the run, or null
    std::int64_t bias_map_plane;
    const float* residual;   // planes at the pitch of the run, or null
    std::int64_t residual_plane;
    const std::uint32_t* mask;  // all ones where the run crosses the image; null: store everything
    std::int64_t vectors;       // in the run
    const std::int32_t* order;  // channel (or first of four) that the entries of `starts` belong to
    const std::int64_t* starts;
    const Tap* taps;
    const BlockTap* block_taps;
    std::int64_t channels;
    Finish finish;
};

// Rows of a sparse matrix in slices of eight: step after step, one non-zero of each row.
// Rows are sorted by length; shorter ones are filled up with zeros at the column `columns`.
struct SlicedTask {
    const float* input;
    float* output;
    const std::int32_t* rows;   // of the output, eight a slice, -1 where there is none
    const std::int64_t* starts; // steps before each slice
    const void* indices;
    const float* values;
};

// Rows are taken by 16, a band, and columns by 31, a table: two vectors of inputs, and in their last
// lane a 0. Lanes without a non-zero pick that, and not an input that their row does not read, which
// might be no number. For each band and each table there are lines of picks, whose lanes hold the
// columns of six steps in 5 bits each, as many as 32 bits hold, and a line of weights for each step.
// The sums of 12 steps, the table and what is in hand take most of the 32 registers.
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

struct FinishTask {
    float* values;
    std::int64_t count;
    const float* bias;      // or null
    const float* residual;  // or null
    Finish finish;          // scale and shift are those of each value
};

// One row of a plane: activation, then scale and shift.
struct RowTask {
    std::int64_t count;
    ActivationKind activation;
    float alpha;
    float scale;
    float shift;
};

// Windows over one plane. Between rows of the output zeros are written, up to `output_pitch`.
struct PoolTask {
    bool maximum;
    bool counts_padding;
    std::int64_t kernel[2];
    std::int64_t stride[2];
    std::int64_t padding[2];
    std::int64_t dilation[2];
    std::int64_t height, width, pitch;
    std::int64_t output_height, output_width, output_pitch;
    std::int64_t output_room;  // floats from the first pixel to the end of the plane
    float* row;  // room for `width` floats and the slack
};

// The kernels of one instruction set. Ranges are [first, last).
struct Kernels {
    int lanes;
    void (*convolve)(const ConvolutionTask&, std::int64_t first, std::int64_t last);
    void (*convolve_blocks)(const ConvolutionTask&, std::int64_t first, std::int64_t last);
    void (*sliced_16)(const SlicedTask&, std::int64_t first, std::int64_t last);
    void (*sliced_32)(const SlicedTask&, std::int64_t first, std::int64_t last);
    // Null but for vectors of 16, of which one instruction looks up the numbers of two.
    void (*tabled)(const TabledTask&, std::int64_t first, std::int64_t last);
    void (*blocked_16)(const BlockedTask&, std::int64_t first, std::int64_t last);
    void (*blocked_32)(const BlockedTask&, std::int64_t first, std::int64_t last);
    void (*dense)(const DenseTask&, std::int64_t first, std::int64_t last);
    void (*finish)(const FinishTask&);
    void (*finish_row)(const RowTask&, const float* input, const float* residual, float* output);
    void (*pool)(const PoolTask&, const float* input, float* output);
};

GOSSAMER_DECLARE_EXPORTED(const Kernels&, kernels)

}  // namespace gossamer::single
