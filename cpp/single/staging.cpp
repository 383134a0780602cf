#include "single/staging.hpp"

#include <algorithm>

#include "single/steps.hpp"

namespace gossamer::single {

Border border_of(const Window& window, const Border& beyond) {
    const auto& [kernel, stride, padding, dilation] = window;
    const auto behind = [](std::int64_t size, std::int64_t step, std::int64_t pad,
                           std::int64_t apart, std::int64_t more) {
        return std::max<std::int64_t>((size - 1) * apart - pad + (more - 1) * step + 1, 0);
    };
    return {padding.height + beyond.above * stride.height,
            behind(kernel.height, stride.height, padding.height, dilation.height, beyond.below),
            padding.width + beyond.left * stride.width,
            behind(kernel.width, stride.width, padding.width, dilation.width, beyond.right)};
}

std::vector<Move> moves_of(const Grid& grid, const Border& border, const Pair& image) {
    std::vector<Move> moves;
    const std::int64_t lanes = grid.down * grid.across;
    for (std::int64_t y = -border.above; y < grid.height + border.below; ++y) {
        for (std::int64_t x = -border.left; x < grid.width + border.right; ++x) {
            const std::int64_t down = y < 0 ? -1 : y >= grid.height ? 1 : 0;
            const std::int64_t across = x < 0 ? -1 : x >= grid.width ? 1 : 0;
            const std::int64_t from =
                (y - down * grid.height) * grid.width + x - across * grid.width;
            Move move{static_cast<std::int32_t>(from * lanes),
                      static_cast<std::int16_t>(down * grid.across + across), 0};
            for (std::int64_t lane = 0; lane < lanes; ++lane) {
                const std::int64_t row = lane / grid.across * grid.height + y;
                const std::int64_t column = lane % grid.across * grid.width + x;
                if (row >= 0 && row < image.height && column >= 0 && column < image.width)
                    move.lanes |= static_cast<std::uint16_t>(1 << lane);
            }
            moves.push_back(move);
        }
    }
    return moves;
}

Staging::Staging(InstructionSet set, const Layout& from, const Grid& grid, const Border& border,
                 const Pair& step)
    : loops_(grid_loops(set)),
      deal_(convolution_loops(set).deal),
      from_(from),
      grid_(grid),
      border_(border),
      step_(step),
      size_{divided_up(from.height, step.height), divided_up(from.width, step.width)} {
    const bool beside = border.above <= grid.height && border.below <= grid.height &&
                        border.left <= grid.width && border.right <= grid.width;
    if (from.grid == grid && !samples() && beside) {
        moves_ = moves_of(grid, border, size_);
        return;
    }
    const bool whole = from.grid.there() && !samples();
    rows_ = border.above + std::max({grid.down * grid.height + border.below, size_.height,
                                     whole ? whole_rows() : 0});
    pitch_ = border.left +
             std::max({grid.across * grid.width + border.right, size_.width,
                       whole ? whole_pitch() : 0}) +
             behind_row;
}

// With zeros around it.
void Staging::make_image(const float* from, float* image, float* whole) const {
    std::fill_n(image, image_floats(), 0.0f);
    float* const corner = image + border_.above * pitch_ + border_.left;
    std::int64_t pitch = from_.pitch;
    if (from_.grid.there()) {
        pitch = samples() ? whole_pitch() : pitch_;
        loops_.collect(from, from_.grid, samples() ? whole : corner, pitch);
        from = whole;
    }
    if (samples()) {
        deal_(from, step_.height * pitch, size_.height, step_.width, size_.width, corner, pitch_);
        return;
    }
    if (!from_.grid.there())
        return copy_plane(from, pitch, corner, pitch_, size_.height, size_.width);
    for (std::int64_t row = 0; row < size_.height; ++row)
        std::fill(corner + row * pitch_ + size_.width, corner + (row + 1) * pitch_ - border_.left,
                  0.0f);
    std::fill(corner + size_.height * pitch_ - border_.left, image + image_floats(), 0.0f);
}

void Staging::run(const float* from, float* image, float* whole, Range rows, float* to) const {
    if (!moves_.empty()) {
        loops_.move(moves_.data() + rows.begin * columns(), (rows.end - rows.begin) * columns(),
                    from, to);
        return;
    }
    if (rows.begin == 0) make_image(from, image, whole);
    loops_.spread(image + rows.begin * pitch_, pitch_, grid_, rows.end - rows.begin, columns(), to);
}

}  // namespace gossamer::single
