#include "batched/product.hpp"

#include <algorithm>
#include <utility>

#include "batched/quads.hpp"

namespace gossamer::batched {

namespace {

// Where the input of the weight at a row and a column lies, in floats from the corner of the
// window.
OffsetOf offsets_in(const Place& input, const Product& layer, std::int64_t width) {
    const Window& window = layer.window;
    const std::int64_t rows = layer.weights.rows / layer.groups, taps = layer.taps();
    const std::int64_t channels = layer.weights.columns / taps;
    return [=](std::int64_t row, std::int64_t column) {
        const std::int64_t channel = row / rows * channels + column / taps;
        const std::int64_t y = column % taps / window.kernel.width * window.dilation.height;
        const std::int64_t x = column % taps % window.kernel.width * window.dilation.width;
        // Below 2^31, since the layout refuses larger values.
        return static_cast<std::int32_t>(channel * input.channel + y * input.row + x * width);
    };
}

}  // namespace

ProductStep::ProductStep(const Context& context, const Product& layer, int number)
    : layer_(layer),
      reads_(layer.reads),
      number_(number),
      pooled_(pools_in_registers(layer)),
      inputs_per_group_(layer.weights.columns / layer.taps()),
      strip_(strip_shape(context)),
      pool_(pool_loops(context.set).batched) {
    const Cut cuts = cut(context, layer.weights);
    const Place& input = context.layout.place(layer.reads[0]);
    matrix_ = std::make_unique<PackedMatrix>(layer.weights, layer.groups, cuts,
                                             offsets_in(input, layer, context.width()));
    slice_columns_ = cuts.slice_columns;
    loops_ = &(matrix_->blocks() ? block_loops : scattered_loops)(context.set);
    if (cuts.slice_columns.size() > 2) {
        partial_floats_ = std::min(cuts.rows, rounded_up(layer.weights.rows, block_rows)) *
                          strip_.rows * strip_.pixels * context.width();
    }
}

StripShape ProductStep::strip_shape(const Context& context) const {
    if (pooled_) return {2, std::min<std::int64_t>(pair_pixels, layer_.sums.width / 2 * 2)};
    const std::int64_t width = layer_.slides() ? layer_.sums.width : context.layout.tile().groups;
    return {1, std::min<std::int64_t>(strip_pixels, width)};
}

// How much a slice of the columns reads of so many bytes of inputs.
std::int64_t ProductStep::bytes_of_slice(WeightsKind kind, std::int64_t bytes, int width,
                                         const Caches& caches) const {
    switch (kind) {
        // Vectors of 16 leave room for half as many columns: too few non-zeros to take sums out of
        // memory for, unless a strip is of one row and reads more than the second cache gives in
        // time anyway.
        case WeightsKind::sparse: {
            if (width < 16) return caches.first;
            const bool many = layer_.slides() && !pooled_ && bytes > caches.first * 3 / 2;
            return many ? caches.first * 7 / 10 : caches.first * 3 / 2;
        }
        // Every 4 rows read all of them, and the weights are many, too.
        case WeightsKind::dense: return caches.first * 3 / 4;
        // An input is needed for 4 rows at a time, so seldom that it may come from the second
        // cache; the more so among features, which the taps of a window do not read over and over.
        case WeightsKind::block: break;
    }
    return layer_.slides() ? caches.first * 2 : caches.second / 4;
}

Cut ProductStep::cut(const Context& context, const Weights& weights) const {
    const auto& [kernel, stride, padding, dilation] = layer_.window;
    const auto covered = [](std::int64_t outputs, std::int64_t step, std::int64_t taps,
                            std::int64_t apart) {
        return std::min((outputs - 1) * step + apart * (taps - 1) + 1, outputs * taps);
    };
    // What a strip reads of one channel.
    const std::int64_t bytes = 4 * context.width() *
                               covered(strip_.rows, stride.height, kernel.height, dilation.height) *
                               covered(strip_.pixels, stride.width, kernel.width, dilation.width);
    const std::int64_t whole = inputs_per_group_ * bytes;
    std::int64_t slices =
        divided_up(whole, bytes_of_slice(weights.kind, whole, context.width(), context.caches));
    // Taking sums out of memory and putting them back must be worth it.
    const auto stored = static_cast<std::int64_t>(weights.values.size());
    slices = std::min({slices, inputs_per_group_, stored / (8 * weights.rows)});
    slices = std::max<std::int64_t>(slices, 1);

    Cut cut;
    for (std::int64_t slice = 0; slice <= slices; ++slice)
        cut.slice_columns.push_back(inputs_per_group_ * slice / slices * layer_.taps());
    const std::int64_t sums = 4 * context.width() * strip_.rows * strip_.pixels;
    const std::int64_t fitting = context.caches.second / 2 / sums / block_rows * block_rows;
    cut.rows = slices > 1 ? std::max(fitting, block_rows) : rounded_up(weights.rows, block_rows);
    return cut;
}

StripKernel ProductStep::kernel(std::int64_t pixels) const {
    if (pooled_) {
        const bool average = layer_.epilogue.pooling->kind == PoolingKind::average;
        return loops_->pooled[average ? 1 : 0][pixels];
    }
    const std::int64_t stride = layer_.window.stride.width;
    return loops_->plain[stride == 1 ? 0 : stride == 2 ? 1 : 2][pixels];
}

void move_rows(const View& view, Range rows, std::int64_t to, std::int64_t column) {
    for (std::int64_t channel = 0; channel < view.channels; ++channel) {
        // Where row 0 would lie.
        float* const zero = view.data + channel * view.channel + column * view.pixel;
        std::copy(zero + rows.begin * view.row, zero + rows.end * view.row, zero + to * view.row);
    }
}

void ProductStep::run(const Context& context, const Batch& batch, std::int64_t group) const {
    timed(batch, number_, [&] {
        if (layer_.epilogue.pooling && !pooled_) return run_and_pool(context, batch, group);
        const View output = context.view(number_ + 1, batch, group);
        run_part(context, batch, group, context.view(reads_[0], batch, group), output,
                 {0, output.rows}, {0, output.pixels});
    });
}

// In tiles of columns, as many rows at a time as are kept of the sums. Of these, the ones that are
// read again are moved to the front.
void ProductStep::run_and_pool(const Context& context, const Batch& batch,
                               std::int64_t group) const {
    const Pooling& pooling = *layer_.epilogue.pooling;
    const Place& place = context.layout.sums(number_);
    const View input = context.view(reads_[0], batch, group);
    const View output = context.view(number_ + 1, batch, group);
    const std::int64_t height = layer_.sums.height;
    for (std::int64_t tile = 0; tile < place.tiles; ++tile) {
        const Range wanted = tile_of(output.pixels, place.tiles, tile);
        const Range columns = within(columns_pooled(pooling, wanted), layer_.sums.width);
        const auto kept = [&](std::int64_t first) {
            return context.layout.of_part(place, batch.scratch, group, first,
                                          place.slides ? columns.begin : 0);
        };
        Range made{0, 0};
        for (std::int64_t row = 0; row < output.rows;) {
            const std::int64_t first = within(rows_pooled(pooling, {row, row + 1}), height).begin;
            std::int64_t end = row + 1;
            const auto rows_of = [&](std::int64_t last) {
                return std::max(made.end, within(rows_pooled(pooling, {row, last}), height).end);
            };
            while (end < output.rows && rows_of(end + 1) - first <= place.rows) ++end;
            made.end = std::max(made.end, first);  // rows that nobody reads are left out
            if (first > made.begin) {
                move_rows(kept(made.begin), {first, made.end}, made.begin, columns.begin);
                made.begin = first;
            }
            const View sums = kept(made.begin);
            run_part(context, batch, group, input, sums, {made.end, rows_of(end)}, columns);
            made.end = rows_of(end);
            pool_(pooling, sums, output, {row, end}, wanted);
            row = end;
        }
    }
}

void ProductStep::run_part(const Context& context, const Batch& batch, std::int64_t group,
                           const View& input, const View& output, Range rows, Range columns) const {
    const std::int64_t width = context.width();
    View residual{};
    const bool has_residual = layer_.epilogue.residual >= 0;
    if (has_residual) residual = context.view(reads_[1], batch, group);

    Strip strip{};
    strip.input_row = layer_.window.stride.height * input.row;
    strip.input_pixel = layer_.window.stride.width * width;
    strip.output_channel = output.channel;
    strip.residual_channel = residual.channel;
    strip.residual_row = residual.row;
    const bool by_position = layer_.bias_by_position;
    strip.bias_channel = by_position ? layer_.sums.height * layer_.sums.width : 1;
    strip.bias_row = by_position ? layer_.sums.width : 0;
    strip.bias_pixel = by_position ? 1 : 0;
    strip.partial = batch.partial;
    strip.finish = layer_.epilogue.finish();

    const std::int64_t unit = pooled_ ? 2 : 1;
    const float* corner =
        input.data - layer_.window.padding.height * input.row - layer_.window.padding.width * width;
    const std::int64_t most = strip_.pixels / unit;
    const std::int64_t pixels = columns.end - columns.begin;
    const std::int64_t strips = divided_up(pixels, most);
    const auto strip_at = [&](std::int64_t number) {
        return columns.begin + pixels * number / strips;
    };
    const auto input_of = [&](std::int64_t row, std::int64_t number) {
        const std::int64_t begin = strip_at(number);
        return corner + row * unit * strip.input_row + begin * unit * strip.input_pixel;
    };
    const Window& window = layer_.window;
    // The last row of a window is what the one above has not read.
    const std::int64_t last_row = (window.kernel.height - 1) * window.dilation.height * input.row;
    strip.ahead_channel = input.channel;
    strip.ahead_floats = (most * unit - 1) * strip.input_pixel +
                         ((window.kernel.width - 1) * window.dilation.width + 1) * width;
    const std::size_t slices = slice_columns_.size() - 1;
    // Where more is computed than is read, that takes longer than it saves.
    const bool fetches = layer_.groups == 1 && inputs_per_group_ >= output.channels;
    for (std::int64_t row = rows.begin; row < rows.end; ++row) {
        for (std::int64_t number = 0; number < strips; ++number) {
            const std::int64_t begin = strip_at(number), end = strip_at(number + 1);
            strip.input = input_of(row, number);
            const bool ends = number + 1 == strips;
            const float* const next = input_of(ends ? row + 1 : row, ends ? 0 : number + 1);
            strip.output = output.data + row * output.row + begin * width;
            if (has_residual)
                strip.residual = residual.data + row * unit * residual.row + begin * unit * width;
            if (!layer_.bias.empty()) {
                strip.bias = layer_.bias.data() + row * unit * strip.bias_row +
                             begin * unit * strip.bias_pixel;
            }
            const StripKernel compute = kernel((end - begin) * unit);
            const std::vector<Panel>& panels = matrix_->panels();
            for (std::size_t at = 0; at < panels.size(); ++at) {
                const std::size_t slice = (at + 1) % slices;
                const std::int64_t channel = slice_columns_[slice] / layer_.taps();
                strip.ahead = (at + 1 < panels.size() ? strip.input : next) + last_row +
                              channel * input.channel;
                strip.ahead_channels =
                    fetches ? slice_columns_[slice + 1] / layer_.taps() - channel : 0;
                compute(strip, panels[at]);
            }
        }
    }
}

}  // namespace gossamer::batched

namespace gossamer {

std::unique_ptr<batched::Step> Product::make_batched(const batched::Context& context,
                                                     int number) const {
    std::unique_ptr<batched::Step> step = batched::quad_step(context, *this, number);
    return step ? std::move(step) : std::make_unique<batched::ProductStep>(context, *this, number);
}

}  // namespace gossamer
