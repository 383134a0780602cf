#include "single/grid.hpp"

#include <algorithm>

#include "core/plan.hpp"
#include "ops/product.hpp"

namespace gossamer::single {
namespace {

// Vectors that one weight is loaded for at most, and what loading it takes beside those.
constexpr std::int64_t longest_strip = 8;
constexpr double cycles_of_weight = 1.5;

// About how long a non-zero takes.
double cycles(const Grid& grid) {
    const auto strips = static_cast<double>(divided_up(grid.width, longest_strip));
    return static_cast<double>(grid.height) *
           (static_cast<double>(grid.width) + strips * cycles_of_weight);
}

std::int64_t with_border(const Grid& grid) { return (grid.height + 2) * (grid.width + 2); }

constexpr std::int64_t widest_window = 8;  // of those that tiles are for
constexpr std::int64_t longest_stride = 4;

bool near(const Window& window) {
    const auto& [kernel, stride, padding, dilation] = window;
    const auto reach = [](std::int64_t size, std::int64_t apart) { return (size - 1) * apart; };
    return reach(kernel.height, dilation.height) < widest_window &&
           reach(kernel.width, dilation.width) < widest_window && padding.height < widest_window &&
           padding.width < widest_window && stride.height <= longest_stride &&
           stride.width <= longest_stride;
}

}  // namespace

Grid grid_of(std::int64_t height, std::int64_t width, std::int64_t lanes) {
    Grid best;
    for (std::int64_t down = 1; down <= lanes; down *= 2) {
        const std::int64_t across = lanes / down;
        const Grid grid{down, across, divided_up(height, down), divided_up(width, across)};
        if (10 * height * width < 7 * lanes * grid.vectors()) continue;
        const bool better = !best.there() || cycles(grid) < cycles(best) ||
                            (cycles(grid) == cycles(best) && with_border(grid) < with_border(best));
        if (better) best = grid;
    }
    return best;
}

bool averages_image(const Product& layer) {
    if (!layer.epilogue.pooling) return false;
    const Pooling& pooling = *layer.epilogue.pooling;
    const auto& [kernel, stride, padding, dilation] = pooling.window;
    return pooling.kind == PoolingKind::average && kernel.height == layer.sums.height &&
           kernel.width == layer.sums.width && padding.height == 0 && padding.width == 0;
}

namespace {

// Whether a layer may read values in tiles and give one.
bool takes_tiles(const Layer& layer, std::int64_t lanes) {
    const Product* product = layer.product();
    if (!product || !product->slides() || product->bias_by_position) return false;
    const auto& pooling = product->epilogue.pooling;
    const bool pools = pooling && pooling->kind == PoolingKind::max && near(pooling->window);
    if (pooling && !averages_image(*product) && (!pools || product->epilogue.residual >= 0))
        return false;
    const Shape& image = averages_image(*product) ? product->sums : layer.given;
    if (!grid_of(image.height, image.width, lanes).there()) return false;
    // Windows of one channel are few non-zeros for what it takes to put borders around tiles.
    return product->groups == 1 && product->weights.kind == WeightsKind::sparse &&
           near(product->window);
}

// Single pixels gain nothing from tiles: where a layer reads these, all of its values are in tiles
// or none is.
void keep_together(const Plan& plan, std::int64_t lanes, std::vector<bool>& tiled) {
    for (bool more = true; more;) {
        more = false;
        for (std::size_t number = 0; number < plan.layers.size(); ++number) {
            const Product* product = plan.layers[number]->product();
            if (!product || !takes_tiles(*product, lanes) || product->taps() > 1) continue;
            std::vector<int> values = product->reads;
            if (!averages_image(*product)) values.push_back(static_cast<int>(number) + 1);
            const auto is = [&](int value) { return tiled[value]; };
            if (std::all_of(values.begin(), values.end(), is)) continue;
            more |= std::any_of(values.begin(), values.end(), is);
            for (const int value : values) tiled[value] = false;
        }
    }
}

// Those of the values that windows lead to, from layer to layer.
std::vector<bool> around_windows(const Plan& plan, std::int64_t lanes,
                                 const std::vector<bool>& tiled) {
    std::vector<bool> found(tiled.size(), false);
    for (bool more = true; more;) {
        more = false;
        for (std::size_t number = 0; number < plan.layers.size(); ++number) {
            const Layer& layer = *plan.layers[number];
            if (!takes_tiles(layer, lanes)) continue;
            std::vector<int> values = layer.reads;
            values.push_back(static_cast<int>(number) + 1);
            const bool reached =
                std::any_of(values.begin(), values.end(), [&](int value) { return found[value]; });
            if (!reached && layer.product()->taps() == 1) continue;
            for (const int value : values) {
                more |= tiled[value] && !found[value];
                found[value] = found[value] || tiled[value];
            }
        }
    }
    return found;
}

}  // namespace

std::vector<bool> in_tiles(const Plan& plan, InstructionSet set) {
    const std::int64_t lanes = grid_loops(set).lanes;
    std::vector<bool> tiled(plan.shapes.size(), false);
    if (lanes == 0) return tiled;
    for (std::size_t number = 0; number < plan.layers.size(); ++number) {
        const Shape& shape = plan.shapes[number + 1];
        tiled[number + 1] = takes_tiles(*plan.layers[number], lanes) && shape.image &&
                            shape.axes.empty() && grid_of(shape.height, shape.width, lanes).there();
    }
    for (const auto& layer : plan.layers)
        if (!takes_tiles(*layer, lanes))
            for (const int value : layer->reads) tiled[value] = false;
    keep_together(plan, lanes, tiled);
    return around_windows(plan, lanes, tiled);
}

}  // namespace gossamer::single
