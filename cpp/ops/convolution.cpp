// Windows over the channels of an image times weights, and what follows these sums.
#include <algorithm>
#include <utility>
#include <vector>

#include "core/caches.hpp"
#include "ops/loops.hpp"
#include "ops/product.hpp"
#include "single/convolution.hpp"
#include "single/grid_step.hpp"
#include "single/quads.hpp"
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
// of their length: then one loop runs as often as the last, which processors predict. Where there
// is one panel, every other one is walked from its end: what the last left in the cache is what the
// next begins with. Threads share bunches of entries, which are of the same channels in all panels.
struct Entries {
    std::int64_t bunch = 1;
    std::vector<std::int64_t> costs{0};            // before each bunch
    std::vector<std::vector<std::int32_t>> order;  // of each panel
    std::vector<std::vector<std::int64_t>> starts;
    std::vector<Tap<1>> taps;
    std::vector<Tap<block_rows>> block_taps;
    std::vector<ConvolutionPanel> panels;  // of these

    std::int64_t count() const { return static_cast<std::int64_t>(order[0].size()); }
};

// How a run is walked: in so many stretches, and the channels of each in so many panels.
struct Walk {
    std::int64_t stretches, panels;
    double cycles = 0.0;  // of a row, about
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
    // Those of a row that lie in some of the columns.
    Range between(std::int64_t row, Range columns) const {
        if (dense()) return columns;
        const auto begin = weights.indices.begin() + weights.starts[row / lanes()];
        const auto end = begin + count(row);
        return {std::lower_bound(begin, end, columns.begin) - begin,
                std::lower_bound(begin, end, columns.end) - begin};
    }
    std::int64_t column(std::int64_t row, std::int64_t at) const {
        return dense() ? at : weights.indices[weights.starts[row / lanes()] + at];
    }
    float value(std::int64_t row, std::int64_t at) const {
        if (dense()) return weights.values[row * weights.columns + at];
        return weights.values[(weights.starts[row / lanes()] + at) * lanes() + row % lanes()];
    }
};

// The walk that takes the least time. Cycles as measured on Zen 5: of a load from the first cache
// and from the second, of a row of a panel beside its taps, and of a sum that is put back after one
// panel and fetched for the next.
Walk best_walk(const Product& layer, const Caches& caches, std::int64_t vectors,
               const ConvolutionLoops& loops) {
    constexpr double near = 0.64, far = 1.06, each_row = 12.0, each_sum = 1.6;
    const std::int64_t channels = layer.weights.columns / layer.taps();
    const double entries =
        static_cast<double>(layer.weights.values.size()) / static_cast<double>(layer.weights.rows);
    const auto [height, width] = layer.window.kernel;
    const auto cycles = [&](const Walk& walk) {
        const auto tile = static_cast<double>(divided_up(vectors, walk.stretches));
        const auto read = static_cast<double>(divided_up(channels, walk.panels) * height) *
                          (tile + (width > 1 ? 1.0 : 0.0));  // vectors of a panel
        const double fits = static_cast<double>(caches.first / 4 / loops.lanes) / read;
        const double load = far - (far - near) * std::min(fits, 1.0);
        const double taps = entries / static_cast<double>(walk.panels);
        return static_cast<double>(walk.stretches * walk.panels) *
               (each_row + taps * (tile * load + near) + (walk.panels > 1 ? each_sum * tile : 0.0));
    };
    const std::int64_t most = layer.groups > 1 ? 1 : std::max<std::int64_t>(channels / 8, 1);
    Walk best{divided_up(vectors, loops.longest), 1};
    for (Walk walk = best; walk.stretches <= vectors; ++walk.stretches)
        for (walk.panels = 1; walk.panels <= most; ++walk.panels)
            if (cycles(walk) < cycles(best)) best = walk;
    best.cycles = cycles(best);
    return best;
}

template <std::int64_t lanes>
Entries entries_of(const Product& layer, const Windows& windows, std::int64_t panels,
                   std::vector<Tap<lanes>> Entries::* list) {
    const RowReader reader{layer.weights};
    const std::vector<std::int64_t> offsets = column_offsets(layer, windows);
    const std::int64_t rows_of_group = layer.weights.rows / layer.groups;
    const std::int64_t channels = layer.weights.columns / layer.taps();
    const std::int64_t group_size = channels * windows.channel;
    Entries entries;
    auto& taps = entries.*list;
    std::vector<std::int32_t> order;
    for (std::int64_t row = 0; row < layer.weights.rows; row += lanes)
        order.push_back(static_cast<std::int32_t>(row));
    std::stable_sort(order.begin(), order.end(), [&](auto left, auto right) {
        return reader.count(left) > reader.count(right);
    });
    const auto count = static_cast<std::int64_t>(order.size());
    if (panels > 1) entries.bunch = std::clamp<std::int64_t>(count / 8, 1, 64);
    for (std::int64_t at = 0; at < count; ++at) {
        if (at % entries.bunch == 0) entries.costs.push_back(entries.costs.back());
        entries.costs.back() += reader.count(order[at]);
    }
    bool backwards = false;
    for (std::int64_t panel = 0; panel < panels; ++panel) {
        const Range columns{channels * panel / panels * layer.taps(),
                            channels * (panel + 1) / panels * layer.taps()};
        std::vector<std::int32_t> here = order;
        const auto within = [&](std::int64_t row) { return reader.between(row, columns); };
        for (std::int64_t at = 0; panels > 1 && at < count; at += entries.bunch)
            std::stable_sort(here.begin() + at, here.begin() + std::min(at + entries.bunch, count),
                             [&](auto left, auto right) {
                                 const Range first = within(left), second = within(right);
                                 return first.end - first.begin > second.end - second.begin;
                             });
        std::vector<std::int64_t> starts{static_cast<std::int64_t>(taps.size())};
        for (const std::int64_t first : here) {
            const std::int64_t group = first / rows_of_group * group_size;
            const Range part = within(first);
            for (std::int64_t at = part.begin; at < part.end; ++at) {
                taps.push_back(
                    {static_cast<std::int32_t>(group + offsets[reader.column(first, at)]), {}});
                for (std::int64_t row = 0; row < lanes && first + row < layer.weights.rows; ++row)
                    taps.back().weights[row] = reader.value(first + row, at);
            }
            if (backwards) std::reverse(taps.begin() + starts.back(), taps.end());
            backwards = panels == 1 && !backwards;
            starts.push_back(static_cast<std::int64_t>(taps.size()));
        }
        entries.order.push_back(std::move(here));
        entries.starts.push_back(std::move(starts));
    }
    for (std::size_t panel = 0; panel < entries.order.size(); ++panel)
        entries.panels.push_back({entries.order[panel].data(), entries.starts[panel].data()});
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
    void deal_channel(float* scratch, std::int64_t channel, float* to) const;
    void run_by_groups(float* scratch, Range entries) const;
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
    bool by_groups_;    // of which each has one row
    std::int64_t run_;  // floats of whole vectors
    std::int64_t stored_;
    std::int64_t staged_place_;
    std::int64_t residual_place_;
    std::int64_t sums_place_;
    std::int64_t rows_place_;
    std::int64_t room_ = 0;
    Entries entries_;
    std::int64_t stretches_;
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
      by_groups_(windows_.staged && !blocks_ && layer.groups > 1 &&
                 layer.groups == layer.weights.rows),
      run_(rounded_up(windows_.run, loops_.lanes)),
      stored_(static_cast<std::int64_t>(layer.weights.values.size())) {
    const std::int64_t vectors = run_ / loops_.lanes;
    if (blocks_) {
        entries_ = entries_of(layer, windows_, 1, &Entries::block_taps);
        stretches_ = divided_up(vectors, loops_.longest_blocks);
    } else {
        const Walk walk = best_walk(layer, caches(), vectors, loops_);
        entries_ = entries_of(layer, windows_, walk.panels, &Entries::taps);
        stretches_ = walk.stretches;
    }
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

// The places of a phase along one axis whose inputs lie in the image.
Range dealt_places(std::int64_t phase, std::int64_t stride, std::int64_t padding, std::int64_t size,
                   std::int64_t most) {
    const std::int64_t before =
        padding - phase;  // the input of place n is number n * stride - this
    const std::int64_t begin = before > 0 ? divided_up(before, stride) : 0;
    const std::int64_t end = size + before > 0 ? divided_up(size + before, stride) : 0;
    return {begin, std::min(end, most)};
}

// Deal one channel of the input out to its phases; where the padding is, what was there stays.
void ConvolutionStep::deal_channel(float* scratch, std::int64_t channel, float* to) const {
    const float* image = scratch + input_.place + channel * input_.plane + input_.origin;
    const auto& [kernel, stride, padding, dilation] = form_.window;
    for (std::int64_t down = 0; down < windows_.phases.height; ++down) {
        const Range rows =
            dealt_places(down, stride.height, padding.height, input_.height, windows_.rows);
        for (std::int64_t across = 0; across < windows_.phases.width;
             ++across, to += windows_.rows * windows_.pitch) {
            const Range pixels =
                dealt_places(across, stride.width, padding.width, input_.width, windows_.pitch);
            if (rows.begin >= rows.end || pixels.begin >= pixels.end) continue;
            const std::int64_t y = rows.begin * stride.height + down - padding.height;
            const std::int64_t x = pixels.begin * stride.width + across - padding.width;
            loops_.deal(image + y * input_.pitch + x, stride.height * input_.pitch,
                        rows.end - rows.begin, stride.width, pixels.end - pixels.begin,
                        to + rows.begin * windows_.pitch + pixels.begin, windows_.pitch);
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
    task.stretches = stretches_;
    task.panels = entries_.panels.data();
    task.panel_count = static_cast<std::int64_t>(entries_.panels.size());
    task.taps = entries_.taps.data();
    task.block_taps = entries_.block_taps.data();
    task.channels = form_.sums.channels;
    task.finish = form_.epilogue.finish();
    return task;
}

// One group after another, all of a member in the place of its first, which stays in the cache.
void ConvolutionStep::run_by_groups(float* scratch, Range entries) const {
    if (entries.begin == entries.end) return;
    const std::int32_t* const groups = entries_.order[0].data();  // each has one row
    const std::int64_t channels = input_.channels / form_.sums.channels;
    const std::int64_t floats = channels * windows_.channel, home = groups[entries.begin];
    float* const staged = scratch + staged_place_ + home * floats;
    std::fill_n(staged, floats, 0.0f);
    ConvolutionTask task = this->task(scratch);
    for (std::int64_t entry = entries.begin; entry < entries.end; ++entry) {
        const std::int64_t group = groups[entry];
        for (std::int64_t channel = 0; channel < channels; ++channel)
            deal_channel(scratch, group * channels + channel, staged + channel * windows_.channel);
        task.input = scratch + (staged_place_ + (home - group) * floats);
        loops_.convolve(task, {entry, entry + 1});
    }
}

void ConvolutionStep::run(const Worker& worker) const noexcept {
    float* const scratch = worker.scratch;
    if (windows_.staged && !by_groups_) {
        const Range channels = worker.part(input_.channels);
        for (std::int64_t channel = channels.begin; channel < channels.end; ++channel) {
            float* const staged = scratch + staged_place_ + channel * windows_.channel;
            std::fill_n(staged, windows_.channel, 0.0f);
            deal_channel(scratch, channel, staged);
        }
        worker.wait_for_all();
    }
    const Range bunches = worker.part_by_cost(entries_.costs);
    const Range entries{bunches.begin * entries_.bunch,
                        std::min(bunches.end * entries_.bunch, entries_.count())};
    const std::int64_t lanes = blocks_ ? block_rows : 1;
    const auto each_channel = [&](auto visit) {
        for (std::int64_t entry = entries.begin; entry < entries.end; ++entry)
            for (std::int64_t row = 0; row < lanes; ++row)
                if (entries_.order[0][entry] + row < form_.sums.channels)
                    visit(entries_.order[0][entry] + row);
    };
    if (residual_staged_)
        each_channel([&](std::int64_t channel) {
            copy_plane(residual_.view(scratch).data + channel * residual_.plane, residual_.pitch,
                       scratch + residual_place_ + channel * run_, windows_.pitch,
                       form_.sums.height, form_.sums.width);
        });
    if (!mask_.empty())
        each_channel([&](std::int64_t channel) { clear_edges(output_, scratch, channel); });
    if (by_groups_)
        run_by_groups(scratch, entries);
    else
        (blocks_ ? loops_.convolve_blocks : loops_.convolve)(task(scratch), entries);
    if (!direct_) each_channel([&](std::int64_t channel) { store_channel(scratch, channel); });
}

// The fastest step, as far as can be told.
std::unique_ptr<Step> convolution_step(const Site& site, const Product& layer) {
    if (std::unique_ptr<Step> step = grid_step(site, layer)) return step;
    const ConvolutionLoops& loops = convolution_loops(site.set);
    if (layer.weights.kind == WeightsKind::sparse) {
        const std::int64_t vectors = divided_up(windows_of(layer, site.read(0)).run, loops.lanes);
        const Walk walk = best_walk(layer, caches(), vectors, loops);
        std::unique_ptr<Step> step = quad_step(site, layer, walk.cycles);
        if (step) return step;
    }
    return std::make_unique<ConvolutionStep>(site, layer);
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
        return single::convolution_step(site, *this);
    }
};

GOSSAMER_OPERATOR("convolution", Convolution)

}  // namespace
}  // namespace gossamer
