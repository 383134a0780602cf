// Windows over the channels of an image times weights, and what follows these sums.
#include <algorithm>
#include <vector>

#include "ops/loops.hpp"
#include "ops/product.hpp"
#include "single/convolution.hpp"
#include "single/steps.hpp"

namespace gossamer {
namespace single {
namespace {

// Distances of the inputs of each column of the weights from the first channel of the group.
std::vector<std::int64_t> column_offsets(const Product& layer, const Windows& windows) {
    const std::int64_t taps = layer.taps();
    std::vector<std::int64_t> offsets(layer.weights.columns);
    for (std::int64_t column = 0; column < layer.weights.columns; ++column) {
        const std::int64_t within = column % taps;
        offsets[column] = column / taps * windows.channel +
                          window_offset(windows, layer.window, within / layer.window.kernel.width,
                                        within % layer.window.kernel.width);
    }
    return offsets;
}

// Weights of a convolution as the kernels walk them. Channels (or groups of four) come in the order
// of their length: then one loop runs as often as the last, which processors predict. Every other
// one is walked from its end: what the last left in the cache is what the next begins with.
struct Entries {
    std::vector<std::int32_t> order;
    std::vector<std::int64_t> starts{0};
    std::vector<Tap<1>> taps;
    std::vector<Tap<block_rows>> block_taps;
};

// How many numbers of one row are stored together, and where those of a row begin.
struct RowReader {
    const Weights& weights;

    bool dense() const { return weights.kind == WeightsKind::dense; }
    std::int64_t lanes() const { return weights.kind == WeightsKind::block ? block_rows : 1; }
    std::int64_t count(std::int64_t row) const {
        if (dense()) return weights.columns;
        return weights.starts[row / lanes() + 1] - weights.starts[row / lanes()];
    }
    std::int64_t column(std::int64_t row, std::int64_t at) const {
        return dense() ? at : weights.indices[weights.starts[row / lanes()] + at];
    }
    float value(std::int64_t row, std::int64_t at) const {
        if (dense()) return weights.values[row * weights.columns + at];
        return weights.values[(weights.starts[row / lanes()] + at) * lanes() + row % lanes()];
    }
};

template <std::int64_t lanes>
Entries entries_of(const Product& layer, const Windows& windows,
                   std::vector<Tap<lanes>> Entries::* list) {
    const RowReader reader{layer.weights};
    const std::vector<std::int64_t> offsets = column_offsets(layer, windows);
    const std::int64_t rows_of_group = layer.weights.rows / layer.groups;
    const std::int64_t group_size = layer.weights.columns / layer.taps() * windows.channel;
    Entries entries;
    for (std::int64_t row = 0; row < layer.weights.rows; row += lanes)
        entries.order.push_back(static_cast<std::int32_t>(row));
    std::stable_sort(entries.order.begin(), entries.order.end(), [&](auto left, auto right) {
        return reader.count(left) > reader.count(right);
    });
    bool backwards = false;
    for (const std::int64_t first : entries.order) {
        const std::int64_t group = first / rows_of_group * group_size;
        auto& taps = entries.*list;
        for (std::int64_t at = 0; at < reader.count(first); ++at) {
            taps.push_back(
                {static_cast<std::int32_t>(group + offsets[reader.column(first, at)]), {}});
            for (std::int64_t row = 0; row < lanes && first + row < layer.weights.rows; ++row)
                taps.back().weights[row] = reader.value(first + row, at);
        }
        if (backwards) std::reverse(taps.begin() + entries.starts.back(), taps.end());
        backwards = !backwards;
        entries.starts.push_back(static_cast<std::int64_t>(taps.size()));
    }
    return entries;
}

// Four rows can share loads where they read the same channels.
bool in_blocks(const Product& layer) {
    const bool aligned = layer.groups == 1 || layer.weights.rows / layer.groups % block_rows == 0;
    return layer.weights.kind != WeightsKind::sparse && aligned;
}

std::vector<std::uint32_t> mask_of(const Product& layer, const Windows& windows,
                                   std::int64_t positions) {
    std::vector<std::uint32_t> mask(positions, 0);
    for (std::int64_t row = 0; row < layer.sums.height; ++row)
        std::fill_n(mask.begin() + row * windows.pitch, layer.sums.width, ~std::uint32_t{0});
    return mask;
}

class ConvolutionStep final : public Step {
  public:
    ConvolutionStep(const Site& site, const Product& layer);
    void run(const Worker& worker) const noexcept override;
    double nanoseconds() const override {
        return 0.03 * static_cast<double>(stored_ * form_.sums.height * form_.sums.width);
    }
    std::int64_t room() const override { return room_; }

  private:
    void stage_channel(float* scratch, std::int64_t channel) const;
    void store_channel(float* scratch, std::int64_t channel) const;
    ConvolutionTask task(float* scratch) const;

    const ConvolutionLoops& loops_;
    decltype(PoolLoops::single) pool_;
    Layout input_;
    Layout output_;
    Layout residual_;
    bool residual_staged_;
    bool direct_;
    bool blocks_;
    ProductForm form_;
    Windows windows_;
    std::int64_t run_;  // floats of whole vectors
    std::int64_t stored_;
    std::int64_t staged_place_;
    std::int64_t residual_place_;
    std::int64_t sums_place_;
    std::int64_t rows_place_;
    std::int64_t room_ = 0;
    Entries entries_;
    std::vector<std::uint32_t> mask_;
};

ConvolutionStep::ConvolutionStep(const Site& site, const Product& layer)
    : loops_(convolution_loops(site.set)),
      pool_(pool_loops(site.set).single),
      input_(site.read(0)),
      output_(site.output()),
      residual_(layer.epilogue.residual < 0 ? Layout{} : site.read(1)),
      blocks_(in_blocks(layer)),
      form_(layer),
      windows_(windows_of(layer, input_)),
      run_(rounded_up(windows_.run, loops_.lanes)),
      stored_(static_cast<std::int64_t>(layer.weights.values.size())),
      entries_(blocks_ ? entries_of(layer, windows_, &Entries::block_taps)
                       : entries_of(layer, windows_, &Entries::taps)) {
    // A run can be stored as it is where rows are as far apart there and its end finds room.
    direct_ = !form_.epilogue.pooling && output_.pitch == windows_.pitch &&
              output_.plane >= output_.origin + run_;
    residual_staged_ = form_.epilogue.residual >= 0 && residual_.pitch != windows_.pitch;
    if (direct_ && output_.padded()) mask_ = mask_of(layer, windows_, run_);
    if (form_.bias_by_position) {
        form_.bias.assign(form_.sums.channels * run_, 0.0f);
        for (std::int64_t channel = 0; channel < form_.sums.channels; ++channel)
            copy_plane(layer.bias.data() + channel * form_.sums.height * form_.sums.width,
                       form_.sums.width, form_.bias.data() + channel * run_, windows_.pitch,
                       form_.sums.height, form_.sums.width);
    }
    const auto take = [&](bool wanted, std::int64_t floats) {
        const std::int64_t place = site.shared + room_;
        if (wanted) room_ += rounded_up(floats + slack, 16);
        return place;
    };
    staged_place_ = take(windows_.staged, input_.channels * windows_.channel);
    residual_place_ = take(residual_staged_, form_.sums.channels * run_);
    sums_place_ = take(!direct_, form_.sums.channels * run_);
    rows_place_ =
        take(form_.epilogue.pooling.has_value(), form_.sums.channels * (form_.sums.width + slack));
}

// Deal one channel of the input out to its phases, with zeros where the padding is.
void ConvolutionStep::stage_channel(float* scratch, std::int64_t channel) const {
    const float* image = scratch + input_.place + channel * input_.plane + input_.origin;
    float* to = scratch + staged_place_ + channel * windows_.channel;
    std::fill_n(to, windows_.channel, 0.0f);
    for (std::int64_t down = 0; down < windows_.phases.height; ++down) {
        for (std::int64_t across = 0; across < windows_.phases.width; ++across) {
            for (std::int64_t row = 0; row < windows_.rows; ++row, to += windows_.pitch) {
                const std::int64_t y =
                    row * form_.window.stride.height + down - form_.window.padding.height;
                if (y < 0 || y >= input_.height) continue;
                const float* from = image + y * input_.pitch;
                const std::int64_t left = form_.window.padding.width - across;
                const std::int64_t begin =
                    left > 0 ? (left + form_.window.stride.width - 1) / form_.window.stride.width
                             : 0;
                const std::int64_t end =
                    std::min(windows_.pitch, (input_.width + left + form_.window.stride.width - 1) /
                                                 form_.window.stride.width);
                for (std::int64_t x = begin; x < end; ++x)
                    to[x] = from[x * form_.window.stride.width - left];
            }
        }
    }
}

// Pool or copy the sums of one channel to where they belong.
void ConvolutionStep::store_channel(float* scratch, std::int64_t channel) const {
    float* const sums = scratch + sums_place_;
    const View output = output_.view(scratch);
    if (form_.epilogue.pooling) {
        if (output_.padded()) clear_edges(output_, scratch, channel);
        pool_(*form_.epilogue.pooling,
              {sums, run_, windows_.pitch, 1, form_.sums.channels, form_.sums.height,
               form_.sums.width, run_},
              output, {channel, channel + 1},
              scratch + rows_place_ + channel * (form_.sums.width + slack));
        return;
    }
    if (output_.padded()) clear_around(output_, scratch, channel);
    copy_plane(sums + channel * run_, windows_.pitch, output.data + channel * output.channel,
               output_.pitch, form_.sums.height, form_.sums.width);
}

ConvolutionTask ConvolutionStep::task(float* scratch) const {
    ConvolutionTask task{};
    task.input = scratch + (windows_.staged ? staged_place_ : input_.place + windows_.first);
    task.output = scratch + (direct_ ? output_.place + output_.origin : sums_place_);
    task.output_plane = direct_ ? output_.plane : run_;
    if (!form_.bias.empty())
        (form_.bias_by_position ? task.bias_map : task.bias) = form_.bias.data();
    task.bias_map_plane = run_;
    if (form_.epilogue.residual >= 0) {
        task.residual =
            scratch + (residual_staged_ ? residual_place_ : residual_.place + residual_.origin);
        task.residual_plane = residual_staged_ ? run_ : residual_.plane;
    }
    task.mask = mask_.empty() ? nullptr : mask_.data();
    task.vectors = run_ / loops_.lanes;
    task.order = entries_.order.data();
    task.starts = entries_.starts.data();
    task.taps = entries_.taps.data();
    task.block_taps = entries_.block_taps.data();
    task.channels = form_.sums.channels;
    task.finish = form_.epilogue.finish();
    return task;
}

void ConvolutionStep::run(const Worker& worker) const noexcept {
    float* const scratch = worker.scratch;
    if (windows_.staged) {
        const Range channels = worker.part(input_.channels);
        for (std::int64_t channel = channels.begin; channel < channels.end; ++channel)
            stage_channel(scratch, channel);
        worker.wait_for_all();
    }
    const Range entries = worker.part_by_cost(entries_.starts);
    const std::int64_t lanes = blocks_ ? block_rows : 1;
    const auto each_channel = [&](auto visit) {
        for (std::int64_t entry = entries.begin; entry < entries.end; ++entry)
            for (std::int64_t row = 0; row < lanes; ++row)
                if (entries_.order[entry] + row < form_.sums.channels)
                    visit(entries_.order[entry] + row);
    };
    if (residual_staged_)
        each_channel([&](std::int64_t channel) {
            copy_plane(residual_.view(scratch).data + channel * residual_.plane, residual_.pitch,
                       scratch + residual_place_ + channel * run_, windows_.pitch,
                       form_.sums.height, form_.sums.width);
        });
    if (!mask_.empty())
        each_channel([&](std::int64_t channel) { clear_edges(output_, scratch, channel); });
    (blocks_ ? loops_.convolve_blocks : loops_.convolve)(task(scratch), entries);
    if (!direct_) each_channel([&](std::int64_t channel) { store_channel(scratch, channel); });
}

}  // namespace
}  // namespace single

namespace {

class Convolution final : public Product {
  public:
    explicit Convolution(Fields& fields) : Product(fields) {
        window.kernel = fields.take_pair("kernel");
        window.stride = fields.take_pair("stride");
        window.padding = fields.take_pair("padding", {0, 0});
        window.dilation = fields.take_pair("dilation");
        groups = fields.take<std::int64_t>("groups", 1);
    }

    Shape check(const Check& check) override {
        check.weights(weights);
        const Shape& input = taken[0];
        check.require(input.image, "a convolution must read (channels, height, width)");
        const Shape found = check.windows(input, window, false, weights.rows);
        check.require(groups >= 1 && input.channels % groups == 0 && weights.rows % groups == 0,
                      "groups must divide the channels that it reads and its rows");
        check.require(weights.kind != WeightsKind::block || groups == 1 ||
                          weights.rows / groups % block_rows == 0,
                      "rows of a group must be a multiple of 4, so that no block spans two groups");
        check.require(weights.columns == input.channels / groups * taps(),
                      "columns must be channels / groups times the size of the kernel");
        return finished(check, found);
    }

    std::unique_ptr<single::Step> make_single(const single::Site& site) const override {
        return std::make_unique<single::ConvolutionStep>(site, *this);
    }
};

GOSSAMER_OPERATOR("convolution", Convolution)

}  // namespace
}  // namespace gossamer
