// Images of one example in tiles, one in each lane of a vector.
//
// Neighbouring pixels lie in neighbouring vectors then, and not in neighbouring lanes: what a
// window reads begins where lines of the cache do, as it does where examples lie side by side.
#pragma once

#include <cstdint>
#include <vector>

#include "core/plain.hpp"
#include "simd/dispatch.hpp"

namespace gossamer {
class Product;
struct Plan;
}  // namespace gossamer

namespace gossamer::single {

// So many tiles down and across, row after row of them, of so many pixels. The last ones may reach
// over the end of the image; what lies there is of no account.
struct Grid {
    std::int64_t down = 0, across = 0;
    std::int64_t height = 0, width = 0;

    bool there() const { return down > 0; }
    std::int64_t vectors() const { return height * width; }
    // That of an image so many times as large.
    Grid scaled(const Pair& by) const {
        return {down, across, height * by.height, width * by.width};
    }
};

inline bool operator==(const Grid& a, const Grid& b) {
    return a.down == b.down && a.across == b.across && a.height == b.height && a.width == b.width;
}

// That of an image; none where it would be filled badly.
Grid grid_of(std::int64_t height, std::int64_t width, std::int64_t lanes);

// Whether a layer gives the averages of its sums over all of the image.
bool averages_image(const Product& layer);

// Which values of a plan lie in tiles.
std::vector<bool> in_tiles(const Plan& plan, InstructionSet set);

// A vector whose lanes are those of another, so many lanes further on, or zero where `lanes` has no
// bit.
struct Move {
    std::int32_t from;  // in floats
    std::int16_t further;
    std::uint16_t lanes;
};

// Floats behind the end of a row that are read or written over.
constexpr std::int64_t behind_row = 4;

struct GridLoops {
    int lanes;  // 0 where it does not pay
    // So many rows of tiles, of so many numbers each, from an image whose rows lie `pitch` apart;
    // and all tiles back. Images go on for `behind_row`.
    void (*spread)(const float* image, std::ptrdiff_t pitch, const Grid& grid, std::int64_t rows,
                   std::int64_t numbers, float* to);
    void (*collect)(const float* from, const Grid& grid, float* image, std::ptrdiff_t pitch);
    void (*move)(const Move* moves, std::int64_t count, const float* from, float* to);
    // Lanes without a bit become less than any number.
    void (*bound)(const Move* moves, std::int64_t count, float* values);
    // Of lanes that have one, in vectors that follow each other.
    float (*sum)(const Move* moves, std::int64_t count, const float* values);
};

GOSSAMER_DECLARE(GridLoops, grid_loops)

}  // namespace gossamer::single
