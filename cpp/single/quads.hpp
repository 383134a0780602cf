// Sparse products of neighbouring positions, such as tokens: four rows side by side.
//
// A core begins few loads a cycle, whatever their size. Where each non-zero takes two of its own,
// for its weight and for where its input lies, these cost as much as the inputs of two vectors.
// Here four rows take one step together, and one load brings their weights, another their inputs'
// places.
#pragma once

#include <memory>

#include "single/convolution.hpp"

namespace gossamer {
class Product;
}

namespace gossamer::single {

class Step;
struct Site;

constexpr int quad_rows = 4;
constexpr std::int64_t bytes_of_place = 8;  // places are counted in these, from the panel on

// Some of the channels that are read, few enough that what a stretch of positions reads of them
// stays in the first cache. Rows of a quad have as many non-zeros as each other.
struct QuadPanel {
    std::ptrdiff_t input;         // where its channels begin, in floats
    const std::int32_t* rows;     // [quads][4] of the output
    const std::int64_t* starts;   // [quads + 1] steps before each
    const std::uint64_t* places;  // [steps], of 16 bits each
    const float* weights;         // [steps][4]
};

struct QuadTask : SumsTask {
    const float* input;
    int apart = 1;  // inputs of neighbouring vectors, in vectors: 1 or 2
    bool begins;    // sums start from bias and residual, or else from the output
    bool ends;      // they are finished, or else put there for the next panel
};

struct QuadLoops {
    int longest;  // vectors of a stretch; 0 where other loops are faster
    // Some quads of a panel, of so many vectors from a position on.
    void (*multiply)(const QuadTask&, const QuadPanel&, Range quads, std::int64_t position,
                     std::int64_t vectors);
};

GOSSAMER_DECLARE(QuadLoops, quad_loops)

// A step for a sparse layer that reads one position for each of its own, where these loops take it
// and are about as fast as others, which take so many cycles for a row; null elsewhere.
std::unique_ptr<Step> quad_step(const Site& site, const Product& layer, double cycles);

}  // namespace gossamer::single
