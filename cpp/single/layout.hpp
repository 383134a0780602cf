// Where the values of one sample lie in the scratch.
#pragma once

#include <cstdint>
#include <vector>

#include "core/plan.hpp"
#include "ops/product.hpp"
#include "single/grid.hpp"

namespace gossamer::single {

// Floats behind the end of every buffer that vectors may read.
constexpr std::int64_t slack = 64;

// Planes of channels, each with zeros above and below, and between its rows, that paddings read:
// the zeros right of one row are those left of the next.
struct Layout {
    std::int64_t channels = 0;
    std::int64_t height = 1;
    std::int64_t width = 1;
    Pair halo{0, 0};
    std::int64_t pitch = 1;   // from one row to the next
    std::int64_t origin = 0;  // of the first pixel in its plane
    std::int64_t plane = 1;   // from one channel to the next
    std::int64_t place = 0;   // of the first plane in the scratch
    Grid grid{};              // of a value in tiles, which has neither rows nor a halo

    std::int64_t floats() const { return channels * plane; }
    bool contiguous() const { return !grid.there() && plane == height * width; }
    bool padded() const { return halo.height > 0 || halo.width > 0; }
    View view(float* scratch) const {
        return {scratch + place + origin, plane, pitch, 1, channels, height, width, plane - origin};
    }
};

// Numbers one after the other, as NumPy keeps them.
Layout contiguous_layout(const Shape& shape);

// Planes with a halo; a run of vectors of `lanes` may begin at any pixel of the image.
Layout plane_layout(const Shape& shape, Pair halo, std::int64_t pitch, int lanes);

// Tiles of an image.
Layout tiled_layout(const Shape& shape, std::int64_t lanes);

// Set to zero what lies around the image in one channel.
void clear_around(const Layout& layout, float* scratch, std::int64_t channel);

// The same without what lies between its rows.
void clear_edges(const Layout& layout, float* scratch, std::int64_t channel);

// How a convolution finds its inputs: planes in which an output at y * pitch + x meets those of
// its window at fixed distances, for every stride. Input rows and columns are dealt out to
// `phases` planes where the stride is above 1.
struct Windows {
    bool staged = false;  // copied and dealt out, rather than read where they are
    Pair phases;
    std::int64_t rows = 0;  // of one phase
    std::int64_t pitch = 0;
    std::int64_t channel = 0;  // distance between channels
    std::int64_t first = 0;    // where output 0 meets offset 0, in the value or the staged copy
    std::int64_t run = 0;      // positions from the first output to the last
};

Windows windows_of(const ProductForm& layer, const Layout& input);

// Distance of the input at a row and a column of the kernel in the first channel.
std::int64_t window_offset(const Windows& windows, const Window& window, std::int64_t row,
                           std::int64_t column);

// The layouts of all values, and the floats that they take. A reshaped value is its source; values
// that are not needed at the same time may lie in the same place.
struct Layouts {
    std::vector<Layout> values;
    std::int64_t floats = 0;
};

Layouts layouts_of(const Plan& plan, InstructionSet set);

}  // namespace gossamer::single
