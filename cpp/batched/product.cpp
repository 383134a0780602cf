#include "batched/product.hpp"

#include <algorithm>

namespace gossamer::batched {

Product::Product(const Context& context, const Layer& layer, int number)
    : LayerStep(number), layer_(layer), pooled_(pools_in_registers(layer)) {
    const Place& input = context.layout.place(layer.inputs[0]);
    inputs_per_group_ = input.shape.channels / layer.groups;
    strip_ = strip_shape(context);
    const Cut cuts = cut(context);
    matrix_ = std::make_unique<PackedMatrix>(
        layer.weights, layer.groups, cuts,
        [&](std::int64_t row, std::int64_t column) {
            return offset(input, context.kernels.width, row, column);
        });
    if (cuts.slice_columns.size() > 2) {
        partial_floats_ = std::min(cuts.rows, (layer.weights.rows + 3) / 4 * 4) * strip_.rows *
                        strip_.pixels * context.kernels.width;
    }
    layer_.weights = Weights{};
    layer_.weights.rows = layer.weights.rows;
}

StripShape Product::strip_shape(const Context& context) const {
    if (pooled_) return {2, std::min<std::int64_t>(pair_pixels, layer_.sums.width / 2 * 2)};
    const std::int64_t width =
        layer_.sums.image ? layer_.sums.width : context.layout.tile().groups;
    return {1, std::min<std::int64_t>(strip_pixels, width)};
}

// How much of the inputs a slice of the columns reads.
std::int64_t Product::bytes_of_slice(WeightsKind kind, int width, const Caches& caches) const {
    switch (kind) {
        // Vectors of 16 leave room for half as many columns, which would be too few non-zeros to
        // take sums out of memory for; a third of the inputs may come from the second cache.
        case WeightsKind::sparse: return width == 16 ? caches.first * 3 / 2 : caches.first;
        // Every 4 rows read all of them, and the weights are many, too.
        case WeightsKind::dense: return caches.first * 3 / 4;
        // An input is needed for 4 rows at a time, so seldom that it may come from the second
        // cache; the more so among features, which the taps of a window do not read over and over.
        case WeightsKind::block: break;
    }
    return layer_.sums.image ? caches.first * 2 : caches.second / 4;
}

Cut Product::cut(const Context& context) const {
    const Weights& weights = layer_.weights;
    const auto covered = [](std::int64_t outputs, std::int64_t stride, std::int64_t kernel,
                            std::int64_t dilation) {
        return std::min((outputs - 1) * stride + dilation * (kernel - 1) + 1, outputs * kernel);
    };
    // What a strip reads of one channel.
    const std::int64_t bytes =
        4 * context.kernels.width *
        covered(strip_.rows, layer_.stride.height, layer_.kernel.height, layer_.dilation.height) *
        covered(strip_.pixels, layer_.stride.width, layer_.kernel.width, layer_.dilation.width);
    const std::int64_t room = bytes_of_slice(weights.kind, context.kernels.width, context.caches);
    std::int64_t slices = (inputs_per_group_ * bytes + room - 1) / room;
    // Taking sums out of memory and putting them back must be worth it.
    const auto stored = static_cast<std::int64_t>(weights.values.size());
    slices = std::min({slices, inputs_per_group_, stored / (8 * weights.rows)});
    slices = std::max<std::int64_t>(slices, 1);

    Cut cut;
    const std::int64_t taps = layer_.kernel.height * layer_.kernel.width;
    for (std::int64_t slice = 0; slice <= slices; ++slice) {
        cut.slice_columns.push_back(inputs_per_group_ * slice / slices * taps);
    }
    const std::int64_t sums = 4 * context.kernels.width * strip_.rows * strip_.pixels;
    const std::int64_t fitting = context.caches.second / 2 / sums / block_rows * block_rows;
    cut.rows = slices > 1 ? std::max(fitting, block_rows)
                          : (weights.rows + block_rows - 1) / block_rows * block_rows;
    return cut;
}

std::int32_t Product::offset(const Place& input, std::int64_t width, std::int64_t row,
                             std::int64_t column) const {
    const std::int64_t taps = layer_.kernel.height * layer_.kernel.width;
    const std::int64_t group = row / (layer_.weights.rows / layer_.groups);
    const std::int64_t channel = group * inputs_per_group_ + column / taps;
    const std::int64_t y = column % taps / layer_.kernel.width * layer_.dilation.height;
    const std::int64_t x = column % taps % layer_.kernel.width * layer_.dilation.width;
    // Below 2^31, since the layout refuses larger values.
    return static_cast<std::int32_t>(channel * input.channel + y * input.row + x * width);
}

StripKernel Product::kernel(const BatchedKernels& kernels, std::int64_t pixels) const {
    if (pooled_) {
        const bool average = layer_.epilogue.pooling->kind == PoolingKind::average;
        const auto& table = matrix_->blocks() ? kernels.blocks_pooled : kernels.scattered_pooled;
        return table[average ? 1 : 0][pixels];
    }
    const std::int64_t stride = layer_.sums.image ? layer_.stride.width : 1;
    const auto& table = matrix_->blocks() ? kernels.blocks : kernels.scattered;
    return table[stride == 1 ? 0 : stride == 2 ? 1 : 2][pixels];
}

void Product::compute(const Context& context, const Batch& batch, std::int64_t group) const {
    const View input = context.view(layer_.inputs[0], batch, group);
    const View output = context.view(output_, batch, group);
    if (!layer_.epilogue.pooling || pooled_) {
        return run_rows(context, batch, group, input, output, {0, output.rows});
    }
    const View sums = context.view(context.layout.sums(number_), batch, group);
    run_rows(context, batch, group, input, sums, {0, sums.rows});
    context.kernels.pool(sums, window_of(*layer_.epilogue.pooling), output);
}

void Product::run_rows(const Context& context, const Batch& batch, std::int64_t group,
                       const View& input, const View& output, Rows rows) const {
    const std::int64_t width = context.kernels.width;
    View residual{};
    const bool has_residual = layer_.epilogue.residual >= 0;
    if (has_residual) residual = context.view(layer_.epilogue.residual, batch, group);

    Strip strip{};
    strip.input_row = layer_.stride.height * input.row;
    strip.input_pixel = layer_.stride.width * width;
    strip.output_channel = output.channel;
    strip.residual_channel = residual.channel;
    strip.residual_row = residual.row;
    const bool by_position = layer_.bias_by_position;
    strip.bias_channel = by_position ? layer_.sums.height * layer_.sums.width : 1;
    strip.bias_row = by_position ? layer_.sums.width : 0;
    strip.bias_pixel = by_position ? 1 : 0;
    strip.partial = batch.partial;
    strip.finish = finish_of(layer_.epilogue);

    const std::int64_t unit = pooled_ ? 2 : 1;
    const float* corner = input.data - layer_.padding.height * input.row -
                          layer_.padding.width * width;
    const std::int64_t most = strip_.pixels / unit;
    const std::int64_t strips = (output.pixels + most - 1) / most;
    for (std::int64_t row = rows.begin; row < rows.end; ++row) {
        for (std::int64_t number = 0; number < strips; ++number) {
            const std::int64_t begin = output.pixels * number / strips;
            const std::int64_t end = output.pixels * (number + 1) / strips;
            strip.input = corner + row * unit * strip.input_row + begin * unit * strip.input_pixel;
            strip.output = output.data + row * output.row + begin * width;
            if (has_residual) {
                strip.residual = residual.data + row * unit * residual.row + begin * unit * width;
            }
            if (!layer_.bias.empty()) {
                strip.bias = layer_.bias.data() + row * unit * strip.bias_row +
                             begin * unit * strip.bias_pixel;
            }
            const StripKernel compute = kernel(context.kernels, (end - begin) * unit);
            for (const Panel& panel : matrix_->panels()) compute(strip, panel);
        }
    }
}

}  // namespace gossamer::batched
