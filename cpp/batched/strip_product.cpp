#include "batched/strip_product.hpp"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>

#include "batched/tiles.hpp"

namespace gossamer::batched {

namespace {

// Where the input of the weight at a row and a column lies, in floats from the corner of the
// window.
OffsetOf offsets_in(const StripSite& site, const ProductForm& layer, const Weights& weights) {
    const Window& window = layer.window;
    const std::int64_t rows = weights.rows / layer.groups, taps = layer.taps();
    const std::int64_t channels = weights.columns / taps;
    return [=](std::int64_t row, std::int64_t column) {
        const std::int64_t channel = row / rows * channels + column / taps;
        const std::int64_t y = column % taps / window.kernel.width * window.dilation.height;
        const std::int64_t x = column % taps % window.kernel.width * window.dilation.width;
        // Below 2^31, since the layout refuses larger values.
        return static_cast<std::int32_t>(channel * site.channel + y * site.row + x * site.width);
    };
}

}  // namespace

StripProduct::StripProduct(const StripSite& site, const ProductForm& form, const Weights& weights)
    : layer_(form),
      rows_(weights.rows),
      caches_(site.caches),
      width_(site.width),
      pooled_(site.pools && pools_in_registers(form)),
      inputs_per_group_(weights.columns / form.taps()),
      loops_(&(in_blocks(weights, form.groups) ? block_loops : scattered_loops)(site.set)) {
    const Walk found = walk(weights, site.columns);
    strip_ = found.strip;
    const Cut cuts = cut(weights, site.shares, found.slices);
    matrix_ =
        std::make_unique<PackedMatrix>(weights, form.groups, cuts, offsets_in(site, form, weights));
    slice_columns_ = cuts.slice_columns;
    share_ = cuts.share;
    shares_ = divided_up(rows_, share_);
    if (shares_ > 1) find_starts();
    if (cuts.slice_columns.size() > 2) {
        partial_floats_ = std::min(cuts.rows, rounded_up(weights.rows, block_rows)) * strip_.rows *
                          strip_.pixels * width_;
    }
}

Range StripProduct::channels(Range shares) const {
    return {std::min(shares.begin * share_, rows_), std::min(shares.end * share_, rows_)};
}

// How much a slice of the columns reads of so many bytes of inputs.
std::int64_t StripProduct::bytes_of_slice(WeightsKind kind, std::int64_t bytes) const {
    switch (kind) {
        // Vectors of 16 leave room for half as many columns: too few non-zeros to take sums out of
        // memory for, unless a strip is of one row and reads more than the second cache gives in
        // time anyway.
        case WeightsKind::sparse: {
            if (width_ < 16) return caches_.first;
            const bool many = layer_.slides() && !pooled_ && bytes > caches_.first * 3 / 2;
            return many ? caches_.first * 7 / 10 : caches_.first * 3 / 2;
        }
        // Every 4 rows read all of them, and the weights are many, too.
        case WeightsKind::dense: return caches_.first * 3 / 4;
        // An input is needed for 4 rows at a time, so seldom that it may come from the second
        // cache; the more so among features, which the taps of a window do not read over and over.
        case WeightsKind::block: break;
    }
    return layer_.slides() ? caches_.first * 2 : caches_.second / 4;
}

// Of one channel.
std::int64_t StripProduct::vectors_read(StripShape strip) const {
    const auto& [kernel, stride, padding, dilation] = layer_.window;
    const auto covered = [](std::int64_t outputs, std::int64_t step, std::int64_t taps,
                            std::int64_t apart) {
        return std::min((outputs - 1) * step + apart * (taps - 1) + 1, outputs * taps);
    };
    return covered(strip.rows, stride.height, kernel.height, dilation.height) *
           covered(strip.pixels, stride.width, kernel.width, dilation.width);
}

// Taking sums out of memory and putting them back must be worth it.
std::int64_t StripProduct::most_slices(const Weights& weights) const {
    const auto stored = static_cast<std::int64_t>(weights.values.size());
    return std::clamp<std::int64_t>(stored / (8 * weights.rows), 1, inputs_per_group_);
}

// About what a sum takes. Measured on Zen 5 with vectors of 16, whose registers hold long strips:
// of a multiply-add whose input lies in the first cache or in the second, of what is loaded for
// each weight, of each row of a slice, of a sum that is taken out of memory and put back, and of an
// input that comes into the first cache.
double StripProduct::cycles(const Weights& weights, double pixels, std::int64_t slices) const {
    constexpr double near = 0.59, far = 1.25, each_weight = 0.7, each_row = 7.7, each_sum = 1.0,
                     each_input = 0.7;
    const auto rows = static_cast<double>(weights.rows), parts = static_cast<double>(slices);
    const auto read = static_cast<double>(
        inputs_per_group_ * vectors_read({1, static_cast<std::int64_t>(std::ceil(pixels))}));
    const double held = 0.9 * static_cast<double>(caches_.first / (4 * width_));
    const double load = far - (far - near) * std::min(held * parts / read, 1.0);
    const double stored = static_cast<double>(weights.values.size()) / rows;
    return (stored * (pixels * load + each_weight) + parts * each_row +
            (slices > 1 ? parts * pixels * each_sum : 0.0) +
            read * each_input * static_cast<double>(layer_.groups) / rows) /
           pixels;
}

StripProduct::Walk StripProduct::fastest_walk(const Weights& weights, std::int64_t columns,
                                              std::int64_t longest) const {
    Walk best{{1, std::min(longest, columns)}, 1};
    double least = std::numeric_limits<double>::max();
    for (std::int64_t most = std::min(longest, columns); most > 0; --most) {
        const std::int64_t strips = divided_up(columns, most);
        const double pixels = static_cast<double>(columns) / static_cast<double>(strips);
        for (std::int64_t slices = 1; slices <= most_slices(weights); ++slices) {
            const double taken = cycles(weights, pixels, slices);
            if (taken >= least) continue;
            least = taken;
            best = {{1, divided_up(columns, strips)}, slices};
        }
    }
    return best;
}

StripProduct::Walk StripProduct::walk(const Weights& weights, std::int64_t columns) const {
    const std::int64_t longest = loops_->longest;
    if (!pooled_ && layer_.slides() && longest > strip_pixels)
        return fastest_walk(weights, columns, longest);
    StripShape strip{1, std::min<std::int64_t>(strip_pixels, columns)};
    if (pooled_) strip = {2, std::min<std::int64_t>(pair_pixels, layer_.sums.width / 2 * 2)};
    const std::int64_t whole = inputs_per_group_ * 4 * width_ * vectors_read(strip);
    const std::int64_t slices = divided_up(whole, bytes_of_slice(weights.kind, whole));
    return {strip, std::min(slices, most_slices(weights))};
}

Cut StripProduct::cut(const Weights& weights, std::int64_t shares, std::int64_t slices) const {
    Cut cut;
    for (std::int64_t slice = 0; slice <= slices; ++slice)
        cut.slice_columns.push_back(inputs_per_group_ * slice / slices * layer_.taps());
    const std::int64_t sums = 4 * width_ * strip_.rows * strip_.pixels;
    const std::int64_t fitting = caches_.second / 2 / sums / block_rows * block_rows;
    cut.rows = rounded_up(weights.rows, block_rows);
    if (slices > 1 && shares == 1) cut.rows = std::max(fitting, block_rows);
    cut.share =
        shares > 1 ? rounded_up(divided_up(weights.rows, shares), block_rows) : weights.rows;
    return cut;
}

StripKernel StripProduct::kernel(std::int64_t pixels) const {
    if (pooled_) {
        const bool average = layer_.epilogue.pooling->kind == PoolingKind::average;
        return loops_->pooled[average ? 1 : 0][pixels];
    }
    const std::int64_t stride = layer_.window.stride.width;
    return loops_->plain[stride == 1 ? 0 : stride == 2 ? 1 : 2][pixels];
}

// Where rows are shared, a panel has all of them.
void StripProduct::find_starts() {
    for (const Panel& panel : matrix_->panels()) {
        for (std::int64_t share = 0; share < shares_; ++share) {
            const std::int32_t* const begin = panel.starts + channels({share, share}).begin;
            std::vector<std::int32_t>& own = starts_.emplace_back();
            std::transform(begin, panel.starts + rows_ + 1, std::back_inserter(own),
                           [&](std::int32_t start) { return start - *begin; });
        }
    }
}

Panel StripProduct::part_of(std::size_t number, Range shares) const {
    Panel part = matrix_->panels()[number];
    if (shares.begin == 0 && shares.end == shares_) return part;
    const Range rows = channels(shares);
    part.rows = rows.end - rows.begin;
    part.entries += part.starts[rows.begin];
    part.starts =
        starts_[number * static_cast<std::size_t>(shares_) + static_cast<std::size_t>(shares.begin)]
            .data();
    if (part.begins && part.ends)
        part.first_row += rows.begin;
    else
        part.order += rows.begin;
    return part;
}

void StripProduct::run(const Views& views, Range rows, Range columns, Range shares) const {
    if (shares.begin == shares.end) return;
    const std::int64_t width = width_;
    const View &input = views.input, &output = views.output, &residual = views.residual;
    const bool has_residual = layer_.epilogue.residual >= 0;

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
    const bool fetches = layer_.groups == 1;
    const std::vector<Panel>& panels = matrix_->panels();
    const std::int64_t first_channel = channels(shares).begin;
    for (std::int64_t row = rows.begin; row < rows.end; ++row) {
        for (std::int64_t number = 0; number < strips; ++number) {
            const std::int64_t begin = strip_at(number), end = strip_at(number + 1);
            strip.input = input_of(row, number);
            // From where no other share writes, whose strip may be another and longer one.
            strip.partial =
                views.partial + first_channel * (strip_.pixels - (end - begin) * unit) * width;
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
            for (std::size_t at = 0; at < panels.size(); ++at) {
                const std::size_t slice = (at + 1) % slices;
                const std::int64_t channel = slice_columns_[slice] / layer_.taps();
                strip.ahead = (at + 1 < panels.size() ? strip.input : next) + last_row +
                              channel * input.channel;
                strip.ahead_channels =
                    fetches ? slice_columns_[slice + 1] / layer_.taps() - channel : 0;
                compute(strip, part_of(at, shares));
            }
        }
    }
}

}  // namespace gossamer::batched
