// Tiles of an image with what surrounds them, as windows read them.
#pragma once

#include <cstdint>
#include <vector>

#include "single/convolution.hpp"
#include "single/grid.hpp"
#include "single/layout.hpp"

namespace gossamer::single {

// How far windows reach beyond the tiles that they belong to.
struct Border {
    std::int64_t above = 0, below = 0, left = 0, right = 0;

    bool none() const { return above + below + left + right == 0; }
};

// What is read of an image for its windows, of which some lie beyond the tiles themselves.
Border border_of(const Window& window, const Border& beyond);

// Vectors of tiles with a border, from those without; whose lanes are outside of the image is said.
std::vector<Move> moves_of(const Grid& grid, const Border& border, const Pair& image);

class Staging {
  public:
    // Of every `step`th pixel of a value.
    Staging(InstructionSet set, const Layout& from, const Grid& grid, const Border& border,
            const Pair& step);

    // Vectors of a row.
    std::int64_t columns() const { return grid_.width + border_.left + border_.right; }
    // Floats that a channel needs for an image of its own, and a worker for one.
    std::int64_t image_floats() const { return moves_.empty() ? rows_ * pitch_ + slack : 0; }
    std::int64_t whole_floats() const { return whole_rows() * whole_pitch() + slack; }

    // Some rows of one channel, of which row 0 is the first of the border. Its image is made where
    // that row is among them, and kept for others.
    void run(const float* from, float* image, float* whole, Range rows, float* to) const;

  private:
    bool samples() const { return step_.height > 1 || step_.width > 1; }
    std::int64_t whole_rows() const { return from_.grid.down * from_.grid.height; }
    std::int64_t whole_pitch() const { return from_.grid.across * from_.grid.width + behind_row; }
    void make_image(const float* from, float* image, float* whole) const;

    const GridLoops& loops_;
    decltype(ConvolutionLoops::deal) deal_;
    Layout from_;
    Grid grid_;
    Border border_;
    Pair step_;
    Pair size_;  // of the image
    std::int64_t rows_ = 0, pitch_ = 0;
    std::vector<Move> moves_;  // none where an image is made
};

}  // namespace gossamer::single
