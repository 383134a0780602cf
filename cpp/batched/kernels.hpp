// The inner loops that take many examples at once, one table of them for each instruction set.
//
// Values are laid out [channels][rows][pixels][width], `width` examples side by side, one in each
// lane of a vector. A value of features that takes more than `width` examples is an image of one
// row: [features][1][groups of examples][width]. So one set of loops serves both.
//
// batched/kernels.cpp is compiled once for each instruction set (simd/dispatch.hpp). These units share
// only the plain structs below.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "core/kinds.hpp"
#include "simd/dispatch.hpp"

namespace gossamer {

// A value, or a part of it. `data` is its first pixel (behind the halo); the distances between
// channels and rows are in floats, that between pixels is `width`.
struct View {
    float* data;
    ptrdiff_t channel;
    ptrdiff_t row;
    int64_t channels;
    int64_t rows;
    int64_t pixels;
};

// What happens to sums before they are stored.
struct Finish {
    ActivationKind activation;
    float alpha;
    const float* scale;  // [channels], or null
    const float* shift;
};

// A non-zero weight and where its input lies, in floats from the corner of the window; at least 0.
// The entries of a row are stored by fours, 4 values and then 4 offsets in the place of 4 entries;
// what is left of the row follows one by one.
struct Entry {
    float value;
    int32_t offset;
};

// Some rows of a matrix and some of its columns. Where a panel has only some of the columns, its
// scattered rows are stored in another order, the longest first: a loop that takes as many turns as
// the one before it ends as the processor expects, and these are short.
struct Panel {
    int64_t first_row;
    int64_t rows;
    const int32_t* order;    // parts of scattered rows: [rows + rows_ahead] which row of the panel
                             //   comes next; at the end the last one over again
    const int32_t* starts;   // [rows + 1] in entries, in that order; [groups of 4 rows + 1] in
                             //   offsets, or null:
    int32_t columns;         //   every group has all these columns
    const Entry* entries;    // scattered
    const int32_t* offsets;  // blocks
    const float* values;     // blocks: [columns of the first group, then of the next...][4]
    bool begins;             // sums start from the bias, or else from `partial`
    bool ends;               // sums are finished and stored, or else put back into `partial`
};

// A few neighbouring pixels of the output, of all channels.
struct Strip {
    const float* input;     // corner of the window of the first pixel, in channel 0
    ptrdiff_t input_row;    // floats from the inputs of one row of outputs to the next
    ptrdiff_t input_pixel;  // and of one pixel
    float* output;
    ptrdiff_t output_channel;
    const float* residual;  // or null
    ptrdiff_t residual_channel;
    ptrdiff_t residual_row;
    const float* bias;      // or null
    ptrdiff_t bias_channel;
    ptrdiff_t bias_row;
    ptrdiff_t bias_pixel;
    float* partial;         // [rows of a panel][pixels of a strip][width]
    Finish finish;
};

using StripKernel = void (*)(const Strip&, const Panel&);

struct Window {
    PoolingKind kind;
    int64_t kernel[2], stride[2], padding[2], dilation[2];  // along rows, along pixels
    bool counts_padding;
};

constexpr int rows_ahead = 4;    // sums are fetched so many rows before they are needed
constexpr int strip_pixels = 8;  // most pixels of a strip
constexpr int pair_pixels = 6;   // most of a strip of two rows that is pooled at once

struct BatchedKernels {
    int width;

    // By the pixels of the strip and how far apart their inputs are: next to each other, two
    // apart, or any distance.
    StripKernel scattered[3][strip_pixels + 1];
    StripKernel blocks[3][strip_pixels + 1];
    // Two rows, pooled 2 by 2 (maximum or average), inputs next to each other. By the pixels of one
    // row, an even number.
    StripKernel scattered_pooled[2][pair_pixels + 1];
    StripKernel blocks_pooled[2][pair_pixels + 1];

    // output = finish(input + residual), where residual.data may be null.
    void (*pointwise)(const View& input, const View& residual, const Finish&, const View& output);
    void (*pool)(const View& input, const Window&, const View& output);
    void (*softmax)(const View& input, bool logarithm, const View& output);
    // Of the same numbers in the same order, under another shape.
    void (*copy)(const View& input, const View& output);
    // Between [examples][numbers] and the lanes: features of all groups of the view, or an image of
    // one group. Lanes without an example are set to 0.
    void (*take_features)(const float* inputs, int64_t examples, const View& value);
    void (*take_image)(const float* inputs, int64_t examples, const View& value);
    void (*give_features)(const View& value, float* outputs, int64_t examples);
    void (*give_image)(const View& value, float* outputs, int64_t examples);

    // Multiply and add in registers; returns the floating-point operations done.
    double (*multiply_add)(int64_t repeats);
    // Read [size] floats; returns something that depends on them all.
    float (*read)(const float* data, int64_t size);
};

GOSSAMER_DECLARE_EXPORTED(const BatchedKernels&, batched_kernels)

}  // namespace gossamer
