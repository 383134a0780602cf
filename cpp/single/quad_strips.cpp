#include "single/quad_strips.hpp"

#include <algorithm>

namespace gossamer::single {
namespace {

// Of as many vectors, or of rows of so many that windows read again and again, strips load a weight
// for so many at a time that nothing is left to gain. Measured on Zen 5.
constexpr std::int64_t many_vectors = 32;
constexpr std::int64_t long_row = 7;

// Of the columns of the weights, from the corner of the window in the first channel.
std::vector<std::int64_t> offsets_of(const batched::StripSite& site, const ProductForm& form,
                                     std::int64_t columns) {
    std::vector<std::int64_t> offsets(columns);
    for (std::int64_t column = 0; column < columns; ++column) {
        const std::int64_t tap = column % form.taps();
        const std::int64_t y = tap / form.window.kernel.width * form.window.dilation.height;
        const std::int64_t x = tap % form.window.kernel.width * form.window.dilation.width;
        offsets[column] = column / form.taps() * site.channel + y * site.row + x * site.width;
    }
    return offsets;
}

// As many as let what a strip reads of one stay in most of the first cache.
std::int64_t panels_of(const batched::StripSite& site, const ProductForm& form,
                       const Weights& weights, std::int64_t longest) {
    const auto& [kernel, stride, padding, dilation] = form.window;
    const std::int64_t pixels = std::min(longest, site.columns);
    const std::int64_t across =
        std::min((pixels - 1) * stride.width + (kernel.width - 1) * dilation.width + 1,
                 pixels * kernel.width);
    const std::int64_t vectors = weights.columns / form.taps() * kernel.height * across;
    return divided_up(4 * site.width * vectors, site.caches.first * 5 / 6);
}

}  // namespace

bool QuadStrips::takes(const batched::StripSite& site, const ProductForm& form,
                       const Weights& weights, std::int64_t vectors) {
    const auto& [kernel, stride, padding, dilation] = form.window;
    const std::int64_t window = (kernel.height - 1) * dilation.height * site.row +
                                (kernel.width - 1) * dilation.width * site.width;
    const bool rereads = form.taps() > 1 && stride.width == 1 && site.columns >= long_row;
    return quad_loops(site.set).longest > 0 && weights.kind == WeightsKind::sparse &&
           form.groups == 1 && stride.width <= 2 && QuadMatrix::near(window) &&
           vectors < many_vectors && !rereads && QuadMatrix::can_hold(weights);
}

QuadStrips::QuadStrips(const batched::StripSite& site, const ProductForm& form,
                       const Weights& weights)
    : loops_(quad_loops(site.set)),
      form_(form),
      width_(site.width),
      columns_(site.columns),
      matrix_(weights, offsets_of(site, form, weights.columns), form.taps(),
              panels_of(site, form, weights, loops_.longest)) {}

void QuadStrips::run(const batched::StripProduct::Views& views, Range rows, Range bunches) const {
    const Window& window = form_.window;
    QuadTask task{};
    task.output = views.output.data;
    task.output_plane = views.output.channel;
    task.bias = form_.bias.empty() ? nullptr : form_.bias.data();
    if (form_.epilogue.residual >= 0) task.residual = views.residual.data;
    task.residual_plane = views.residual.channel;
    task.finish = form_.epilogue.finish();
    task.apart = static_cast<int>(window.stride.width);
    const std::int64_t strips = divided_up(columns_, loops_.longest);
    const float* const corner =
        views.input.data - window.padding.height * views.input.row - window.padding.width * width_;
    for (std::int64_t row = rows.begin; row < rows.end; ++row) {
        for (std::int64_t strip = 0; strip < strips; ++strip) {
            const std::int64_t begin = columns_ * strip / strips;
            const std::int64_t end = columns_ * (strip + 1) / strips;
            const std::int64_t position = row * views.output.row + begin * width_;
            // Loops read the inputs of a position as far on as they lie in the output.
            task.input = corner + row * window.stride.height * views.input.row +
                         begin * window.stride.width * width_ - position;
            matrix_.multiply(loops_, task, bunches, position, end - begin);
        }
    }
}

}  // namespace gossamer::single
