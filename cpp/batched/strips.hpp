// The loops of linear layers and convolutions over many examples: what they are asked to do, free
// of the instruction set that does it.
//
// Values are laid out [channels][rows][pixels][width], `width` examples side by side, one in each
// lane of a vector. A value of features that takes more than `width` examples is an image of one
// row: [features][1][groups of examples][width]. So one set of loops serves both.
#pragma once

#include "core/plain.hpp"
#include "simd/dispatch.hpp"

namespace gossamer::batched {

// A non-zero weight and where its input lies, in floats from the corner of the window; at least 0.
// The entries of a row are stored by fours, 4 values and then 4 offsets in the place of 4 entries;
// what is left of the row follows one by one.
struct Entry {
    float value;
    std::int32_t offset;
};

// Some rows of a matrix and some of its columns. Where a panel has only some of the columns, its
// scattered rows are stored in another order, the longest first: a loop that takes as many turns as
// the one before it ends as the processor expects, and these are short.
struct Panel {
    std::int64_t first_row;
    std::int64_t rows;
    const std::int32_t*
        order;  // parts of scattered rows: [rows + rows_ahead] which row of the panel
                //   comes next; at the end the last one over again
    const std::int32_t* starts;   // [rows + 1] in entries, in that order; [groups of 4 rows + 1] in
                                  //   offsets, or null:
    std::int32_t columns;         //   every group has all these columns
    const Entry* entries;         // scattered
    const std::int32_t* offsets;  // blocks
    const float* values;          // blocks: [columns of the first group, then of the next...][4]
    bool begins;                  // sums start from the bias, or else from `partial`
    bool ends;                    // sums are finished and stored, or else put back into `partial`
};

// A few neighbouring pixels of the output, of all channels.
struct Strip {
    const float* input;          // corner of the window of the first pixel, in channel 0
    std::ptrdiff_t input_row;    // floats from the inputs of one row of outputs to the next
    std::ptrdiff_t input_pixel;  // and of one pixel
    float* output;
    std::ptrdiff_t output_channel;
    const float* residual;  // or null
    std::ptrdiff_t residual_channel;
    std::ptrdiff_t residual_row;
    const float* bias;  // or null
    std::ptrdiff_t bias_channel;
    std::ptrdiff_t bias_row;
    std::ptrdiff_t bias_pixel;
    float* partial;  // [rows of a panel][pixels of a strip][width]
    Finish finish;
    // What the next panel reads, of so many channels, as far as nothing before it has read it.
    const float* ahead;
    std::ptrdiff_t ahead_channel;
    std::int64_t ahead_channels;
    std::int64_t ahead_floats;
};

using StripKernel = void (*)(const Strip&, const Panel&);

constexpr int rows_ahead = 4;    // sums are fetched so many rows before they are needed
constexpr int strip_pixels = 8;  // most pixels of a strip,
constexpr int long_pixels = 16;  //   and where there are registers for them
constexpr int pair_pixels = 6;   // most of a strip of two rows that is pooled at once
// So many entries behind the last one are looked at, though not used.
constexpr int entries_behind = 4;

struct StripLoops {
    int width;
    int longest;  // strip of one row, in pixels
    // By how far apart the inputs of neighbouring pixels are (next to each other, two apart, or any
    // distance) and the pixels of the strip.
    StripKernel plain[3][long_pixels + 1];
    // Two rows, pooled 2 by 2 (maximum or average), inputs next to each other. By the pixels of one
    // row, an even number.
    StripKernel pooled[2][pair_pixels + 1];
};

GOSSAMER_DECLARE(StripLoops, scattered_loops)
GOSSAMER_DECLARE(StripLoops, block_loops)

}  // namespace gossamer::batched
