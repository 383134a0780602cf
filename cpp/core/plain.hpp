// What plans and loops both speak of. Plain structs only: this is included by units compiled for
// one instruction set (see simd/dispatch.hpp).
#pragma once

#include <cstddef>
#include <cstdint>

namespace gossamer {

enum class ActivationKind {
    identity,
    relu,
    relu6,
    leaky_relu,
    elu,
    gelu,
    gelu_tanh,
    silu,
    hardswish,
    sigmoid,
    tanh,
};

enum class PoolingKind { max, average };

enum class InstructionSet { baseline, avx2, avx512 };

// Rows that share their columns, where weights are stored in blocks.
constexpr std::int64_t block_rows = 4;

struct Pair {
    std::int64_t height = 1;
    std::int64_t width = 1;
};

// What slides over an image.
struct Window {
    Pair kernel;
    Pair stride;
    Pair padding{0, 0};
    Pair dilation;
};

struct Pooling {
    PoolingKind kind = PoolingKind::max;
    Window window;
    bool ceil = false;
    bool counts_padding = true;
};

// Follows sums: activation, then scale and shift of each channel (null where there are none).
// `alpha` is the slope of leaky_relu below 0 and the scale of elu.
struct Finish {
    ActivationKind activation;
    float alpha;
    const float* scale;
    const float* shift;
};

struct Range {
    std::int64_t begin, end;
};

// A value of one example, or of some side by side, or a part of it. Pixels of a row follow each
// other. A value of features has one row: of one pixel, or of one for each group of examples.
struct View {
    float* data;             // the first pixel
    std::ptrdiff_t channel;  // floats between channels
    std::ptrdiff_t row;      // between rows
    std::int64_t pixel;      // between pixels: as many as there are examples side by side
    std::int64_t channels;
    std::int64_t rows;
    std::int64_t pixels;
    std::int64_t room;  // floats of a channel from its first pixel on
};

}  // namespace gossamer
