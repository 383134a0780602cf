#include "single/layout.hpp"

#include <algorithm>
#include <limits>
#include <numeric>

#include "core/lifetimes.hpp"
#include "single/convolution.hpp"

namespace gossamer::single {
namespace {

// How far a kernel reaches along one axis, less one.
std::int64_t span(std::int64_t kernel, std::int64_t dilation) { return (kernel - 1) * dilation; }

bool unit_stride(const Window& window) {
    return window.stride.height == 1 && window.stride.width == 1;
}

// What the layers that read a value would like of it.
struct Wishes {
    bool contiguous = false;
    Pair halo{0, 0};
};

std::vector<Wishes> wishes_of(const Plan& plan) {
    std::vector<Wishes> wishes(plan.shapes.size());
    for (const auto& layer : plan.layers) {
        if (layer->enters()) continue;
        Wishes& wish = wishes[layer->reads[0]];
        if (layer->renames()) wish.contiguous = true;
        const Product* product = layer->product();
        if (!product || !product->slides() || !unit_stride(product->window)) continue;
        wish.halo.height = std::max(wish.halo.height, product->window.padding.height);
        wish.halo.width = std::max(wish.halo.width, product->window.padding.width);
    }
    return wishes;
}

// The pitch of a value: that of the run that computes it where this costs little, since the run is
// then stored as it is.
std::int64_t pitch_of(const Shape& shape, const Wishes& wish, const Layer* producer,
                      const std::vector<Layout>& values) {
    const std::int64_t needed = shape.width + wish.halo.width;
    const Product* product = producer ? producer->product() : nullptr;
    if (!product || product->epilogue.pooling) return needed;
    if (values[product->reads[0]].grid.there()) return needed;
    const std::int64_t run = windows_of(*product, values[product->reads[0]]).pitch;
    return run >= needed && 4 * run <= 5 * needed + 8 ? run : needed;
}

Layout layout_of(const Plan& plan, std::size_t value, const Wishes& wish,
                 const std::vector<Layout>& values, int lanes) {
    const Shape& shape = plan.shapes[value];
    if (!shape.image || wish.contiguous) return contiguous_layout(shape);
    const Layer* producer = value > 0 ? plan.layers[value - 1].get() : nullptr;
    return plane_layout(shape, wish.halo, pitch_of(shape, wish, producer, values), lanes);
}

// The value whose numbers each value is: its own, or those that it gives another shape.
std::vector<int> sources_of(const Plan& plan) {
    std::vector<int> sources(plan.shapes.size());
    std::iota(sources.begin(), sources.end(), 0);
    for (std::size_t number = 0; number < plan.layers.size(); ++number)
        if (plan.layers[number]->renames())
            sources[number + 1] = sources[plan.layers[number]->reads[0]];
    return sources;
}

}  // namespace

Layout contiguous_layout(const Shape& shape) {
    Layout layout;
    layout.channels = shape.channels;
    layout.height = shape.height;
    layout.width = shape.width;
    layout.pitch = shape.width;
    layout.plane = shape.height * shape.width;
    return layout;
}

Layout plane_layout(const Shape& shape, Pair halo, std::int64_t pitch, int lanes) {
    Layout layout = contiguous_layout(shape);
    layout.halo = halo;
    layout.pitch = pitch;
    layout.origin = halo.height * pitch + halo.width;
    const std::int64_t pixels = shape.height * pitch;
    const std::int64_t below = std::max(halo.height * pitch + halo.width, std::int64_t{lanes});
    layout.plane = layout.origin + pixels + below;
    // Without a halo vectors then begin where lines of the cache do. An odd number of these spreads
    // the channels over all sets of the cache.
    if (layout.origin == 0 && halo.width == 0)
        layout.plane = (layout.plane + line - 1) / line * line | line;
    return layout;
}

Layout tiled_layout(const Shape& shape, std::int64_t lanes) {
    Layout layout = contiguous_layout(shape);
    layout.grid = grid_of(shape.height, shape.width, lanes);
    layout.plane = (layout.grid.vectors() | 1) * lanes;  // see above
    return layout;
}

void clear_around(const Layout& layout, float* scratch, std::int64_t channel) {
    float* const plane = scratch + layout.place + channel * layout.plane;
    float* place = plane;
    for (std::int64_t row = 0; row < layout.height; ++row) {
        float* const image = plane + layout.origin + row * layout.pitch;
        std::fill(place, image, 0.0f);
        place = image + layout.width;
    }
    std::fill(place, plane + layout.plane, 0.0f);
}

void clear_edges(const Layout& layout, float* scratch, std::int64_t channel) {
    float* const plane = scratch + layout.place + channel * layout.plane;
    std::fill(plane, plane + layout.origin, 0.0f);
    const std::int64_t last = layout.origin + (layout.height - 1) * layout.pitch + layout.width;
    std::fill(plane + last, plane + layout.plane, 0.0f);
}

Windows windows_of(const ProductForm& layer, const Layout& input) {
    const auto& [kernel, stride, padding, dilation] = layer.window;
    Windows windows;
    if (input.grid.there()) {  // layers that read each pixel for itself
        windows.pitch = input.pitch;
        windows.channel = input.plane;
        windows.run = input.grid.vectors() * input.grid.down * input.grid.across;
        return windows;
    }
    // Paddings wider than the kernel may give rows longer than those of the input.
    const bool reached = input.halo.height >= padding.height && input.halo.width >= padding.width &&
                         input.pitch >= layer.sums.width;
    if (unit_stride(layer.window) && reached) {
        windows.pitch = input.pitch;
        windows.rows = input.height + 2 * padding.height;
        windows.channel = input.plane;
        windows.first = input.origin - padding.height * input.pitch - padding.width;
    } else {
        const std::int64_t tall = span(kernel.height, dilation.height);
        const std::int64_t wide = span(kernel.width, dilation.width);
        windows.staged = true;
        windows.phases.height = std::min(stride.height, tall + 1);
        windows.phases.width = std::min(stride.width, wide + 1);
        windows.rows = layer.sums.height + tall / stride.height;
        windows.pitch = layer.sums.width + wide / stride.width;
        windows.channel =
            windows.phases.height * windows.phases.width * windows.rows * windows.pitch;
    }
    windows.run = (layer.sums.height - 1) * windows.pitch + layer.sums.width;
    return windows;
}

std::int64_t window_offset(const Windows& windows, const Window& window, std::int64_t row,
                           std::int64_t column) {
    const std::int64_t y = row * window.dilation.height;
    const std::int64_t x = column * window.dilation.width;
    if (!windows.staged) return y * windows.pitch + x;
    const Pair& stride = window.stride;
    const std::int64_t phase = y % stride.height * windows.phases.width + x % stride.width;
    return (phase * windows.rows + y / stride.height) * windows.pitch + x / stride.width;
}

Layouts layouts_of(const Plan& plan, InstructionSet set) {
    const int lanes = convolution_loops(set).lanes;
    const std::vector<bool> tiled = in_tiles(plan, set);
    const std::vector<Wishes> wishes = wishes_of(plan);
    const std::vector<int> sources = sources_of(plan);
    std::vector<Lifetime> lifetimes(plan.shapes.size(), unused_lifetime());
    each_use(plan,
             [&](int value, std::int64_t position) { lifetimes[sources[value]].use(position); });
    Layouts layouts;
    for (std::size_t value = 0; value < plan.shapes.size(); ++value) {
        const bool reshaped = sources[value] != static_cast<int>(value);
        layouts.values.push_back(
            reshaped       ? contiguous_layout(plan.shapes[value])
            : tiled[value] ? tiled_layout(plan.shapes[value], lanes)
                           : layout_of(plan, value, wishes[value], layouts.values, lanes));
        const std::int64_t floats = layouts.values.back().floats() + slack;
        // Distances within a value are kept in 32 bits.
        if (floats > std::numeric_limits<std::int32_t>::max())
            throw TooLarge("a value of one example takes 8 GiB or more");
        lifetimes[value].size = rounded_up(floats, line);
    }
    layouts.floats = assign_offsets(lifetimes);
    for (std::size_t value = 0; value < plan.shapes.size(); ++value)
        layouts.values[value].place = lifetimes[sources[value]].offset;
    return layouts;
}

}  // namespace gossamer::single
