// The loops of sparse layers in training: what they are asked to do, free of the instruction set
// that does it.
//
// Values lie feature by feature, examples side by side in the lanes of vectors. A tile is what some
// of the examples have, a whole number of vectors, few enough that a row of sums stays in
// registers.
#pragma once

#include "core/plain.hpp"
#include "simd/dispatch.hpp"

namespace gossamer::training {

constexpr int tile_vectors = 8;  // most vectors of a tile

// [features][vectors][width], `stride` floats between features.
struct Tile {
    float* data;
    std::ptrdiff_t stride;
};

// How many floats lie from one row to the next, and from one number of a row to the next.
struct Spacing {
    std::ptrdiff_t row;
    std::ptrdiff_t number;
};

// Some rows of a sparse matrix, or of those of its columns that make a slice.
struct Part {
    Range rows;
    const std::int32_t* begins;  // [rows of the matrix] where what a row has begins, and ends
    const std::int32_t* ends;
    const std::int32_t* columns;  // [non-zeros]
};

struct Loops {
    int width;
    // What was measured to be fastest with this instruction set. Tiles whose rows lie further
    // apart, in floats, are copied to where they follow each other: rows whose distance is a large
    // power of two would share few places in the caches.
    std::ptrdiff_t most_apart;
    // Whether the columns of products are cut into slices for the first cache rather than for the
    // second.
    bool slices_for_first;
    // outputs = matrix x inputs, beginning from the bias of each row (null for 0), or going on from
    // what the outputs are. By the vectors of the tile.
    void (*multiply[tile_vectors + 1])(const Part&, const float* values, const Tile& inputs,
                                       const float* bias, bool goes_on, const Tile& outputs);
    // For each non-zero, the sum over examples of the outputs' gradient in its row times the input
    // in its column, set or added to what is there.
    void (*sample[tile_vectors + 1])(const Part&, const Tile& gradient, const Tile& inputs,
                                     bool adds, float* values);
    // The same and the gradient of the inputs as well, from one look at the outputs' gradient: of
    // the transposed matrix, whose non-zero `at` is values[order[at]], or values[at] where `order`
    // is null. `of_values` is null if not wanted.
    void (*differentiate[tile_vectors + 1])(const Part&, const std::int32_t* order,
                                            const float* values, const Tile& gradient,
                                            const Tile& inputs, bool goes_on, bool adds,
                                            const Tile& of_inputs, float* of_values);
    // For each row the sum of the gradient, set or added to what is there.
    void (*total[tile_vectors + 1])(Range rows, const Tile& gradient, bool adds, float* bias);
    // To a tile of so many lanes: some features of so many examples, which lie `apart`. Lanes
    // without an example are set to 0.
    void (*take)(const float* inputs, std::ptrdiff_t apart, std::int64_t examples, Range features,
                 std::int64_t lanes, const Tile& tile);
    // So many numbers of so many rows.
    void (*copy)(const float* from, const Spacing& read, std::int64_t rows, std::int64_t numbers,
                 float* to, const Spacing& write);
    // So many pixels of so many rows, whose channels follow each other, to planes `apart`, and
    // back. What a plane has after a row is set to 0 up to a vector's width.
    void (*part)(const float* from, const Spacing& read, std::int64_t rows, std::int64_t pixels,
                 std::int64_t channels, float* to, std::ptrdiff_t pitch, std::ptrdiff_t apart);
    void (*join)(const float* from, std::ptrdiff_t pitch, std::ptrdiff_t apart, std::int64_t rows,
                 std::int64_t pixels, std::int64_t channels, float* to, const Spacing& write);
};

GOSSAMER_DECLARE(Loops, training_loops)

}  // namespace gossamer::training
