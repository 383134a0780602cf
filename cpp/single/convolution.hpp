// What the loops of a convolution of one example are asked to do, free of the instruction set that
// does it.
//
// A plane is one channel's pixels, row after row, `pitch` apart. A convolution treats it as one
// flat run: an output at position y * pitch + x reads its inputs at fixed distances from there, so
// that vectors run on over the ends of rows, and what they find between two rows is never used.
#pragma once

#include "core/plain.hpp"
#include "simd/dispatch.hpp"

namespace gossamer::single {

// Non-zeros of so many channels that share a pattern, and the distance of their input from the
// output's position.
template <std::int64_t channels>
struct Tap {
    std::int32_t offset;
    float weights[channels];
};

// Some of the channels that are read, few enough that what a stretch of positions reads of them
// stays in the first cache. `starts` are of the entries in their order here.
struct ConvolutionPanel {
    const std::int32_t* order;  // channel (or first of four) that the entries of `starts` belong to
    const std::int64_t* starts;
};

// What the sums of channels begin with, what follows them and where they go.
struct SumsTask {
    float* output;
    std::int64_t output_plane;
    const float* bias;      // one number a channel, or null
    const float* bias_map;  // planes at the pitch of the run, or null
    std::int64_t bias_map_plane;
    const float* residual;  // planes at the pitch of the run, or null
    std::int64_t residual_plane;
    const std::uint32_t* mask;  // all ones where the run crosses the image; null: store everything
    Finish finish;
};

struct ConvolutionTask : SumsTask {
    const float* input;
    std::int64_t vectors;            // in the run
    std::int64_t stretches;          // it is cut into
    const ConvolutionPanel* panels;  // sums are in the output from one to the next
    std::int64_t panel_count;
    const Tap<1>* taps;
    const Tap<block_rows>* block_taps;
    std::int64_t channels;
};

struct ConvolutionLoops {
    int lanes;
    std::int64_t longest;         // vectors of a stretch
    std::int64_t longest_blocks;  // the same of `convolve_blocks`
    // Over some of the entries.
    void (*convolve)(const ConvolutionTask&, Range entries);
    void (*convolve_blocks)(const ConvolutionTask&, Range entries);
    // Every so manieth number of some rows. Up to two vectors are read behind the last one.
    void (*deal)(const float* from, std::ptrdiff_t from_row, std::int64_t rows, std::int64_t stride,
                 std::int64_t count, float* to, std::ptrdiff_t to_row);
};

GOSSAMER_DECLARE(ConvolutionLoops, convolution_loops)

}  // namespace gossamer::single
