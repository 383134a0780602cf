#include "batched/tiles.hpp"

#include <algorithm>

namespace gossamer::batched {

namespace {

// What windows read along one axis, the padding included; nothing where there is no window.
Range taps_of(Range windows, std::int64_t kernel, std::int64_t stride, std::int64_t padding,
              std::int64_t dilation) {
    const std::int64_t begin = windows.begin * stride - padding;
    if (windows.end <= windows.begin) return {begin, begin};
    return {begin, (windows.end - 1) * stride - padding + (kernel - 1) * dilation + 1};
}

// The sums that outputs are made of.
Range summed(const ProductForm& layer, Range outputs) {
    if (!pools_in_registers(layer)) return outputs;
    return {2 * outputs.begin, 2 * outputs.end};
}

}  // namespace

bool pools_in_registers(const ProductForm& layer) {
    if (!layer.epilogue.pooling) return false;
    const Pooling& pooling = *layer.epilogue.pooling;
    const auto is = [](const Pair& pair, std::int64_t both) {
        return pair.height == both && pair.width == both;
    };
    const auto& [kernel, stride, padding, dilation] = pooling.window;
    const bool reaches_over =
        pooling.ceil && (layer.sums.height % 2 != 0 || layer.sums.width % 2 != 0);
    return is(kernel, 2) && is(stride, 2) && is(padding, 0) && is(dilation, 1) &&
           layer.window.stride.width == 1 && !reaches_over;
}

std::int64_t columns_given(const ProductForm& layer) {
    return pools_in_registers(layer) ? layer.sums.width / 2 : layer.sums.width;
}

Range rows_read(const ProductForm& layer, Range rows) {
    const Window& window = layer.window;
    return taps_of(summed(layer, rows), window.kernel.height, window.stride.height,
                   window.padding.height, window.dilation.height);
}

Range columns_read(const ProductForm& layer, Range columns) {
    const Window& window = layer.window;
    return taps_of(summed(layer, columns), window.kernel.width, window.stride.width,
                   window.padding.width, window.dilation.width);
}

Range rows_pooled(const Pooling& pooling, Range rows) {
    const Window& window = pooling.window;
    return taps_of(rows, window.kernel.height, window.stride.height, window.padding.height,
                   window.dilation.height);
}

Range columns_pooled(const Pooling& pooling, Range columns) {
    const Window& window = pooling.window;
    return taps_of(columns, window.kernel.width, window.stride.width, window.padding.width,
                   window.dilation.width);
}

Range within(Range range, std::int64_t size) {
    const std::int64_t begin = std::clamp<std::int64_t>(range.begin, 0, size);
    return {begin, std::clamp(range.end, begin, size)};
}

Range tile_of(std::int64_t columns, std::int64_t tiles, std::int64_t number) {
    return {columns * number / tiles, columns * (number + 1) / tiles};
}

TileColumns tile_columns(const std::vector<const ProductForm*>& layers, std::int64_t tiles,
                         std::int64_t number) {
    TileColumns found{};
    std::size_t layer = layers.size() - 1;
    found[layer] = tile_of(columns_given(*layers[layer]), tiles, number);
    for (; layer > 0; --layer) {
        const Range computed = within(found[layer], columns_given(*layers[layer]));
        found[layer - 1] = columns_read(*layers[layer], computed);
    }
    return found;
}

Taken taken_by(const std::vector<const ProductForm*>& layers, std::int64_t tiles,
               std::size_t layer) {
    Taken found{1, 0};
    for (std::int64_t tile = 0; tile < tiles; ++tile) {
        const Range columns = tile_columns(layers, tiles, tile)[layer];
        const Range computed = within(columns, columns_given(*layers[layer]));
        found.most = std::max(found.most, columns.end - columns.begin);
        found.all += computed.end - computed.begin;
    }
    return found;
}

}  // namespace gossamer::batched
