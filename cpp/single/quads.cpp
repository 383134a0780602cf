#include "single/quads.hpp"

#include <algorithm>
#include <vector>

#include "core/caches.hpp"
#include "core/scratch.hpp"
#include "ops/product.hpp"
#include "single/steps.hpp"

namespace gossamer::single {
namespace {

// Rows are sorted by length within a bunch, which one thread computes through all panels.
constexpr std::int64_t bunch_rows = 64;

// A non-zero of a panel.
struct NonZero {
    std::int64_t place;
    float weight;
};

using Row = std::vector<NonZero>;

// Non-zeros of a row are cut in halves until there are as many as in others. What they come to
// stays the same for every input, even if it is no number.
void lengthen(Row& row, std::size_t length) {
    for (std::size_t at = 0; row.size() < length; ++at) {
        row[at].weight *= 0.5f;
        row.push_back(row[at]);
    }
}

// What a panel holds.
struct Packed {
    std::int64_t input = 0;
    std::vector<std::int64_t> bunches{0};  // quads before each bunch
    std::vector<std::int32_t> rows;
    std::vector<std::int64_t> starts{0};
    LongVector<std::uint64_t> places;
    LongVector<float> weights;

    // Four rows of one length; fewer are filled up with the last one, which is computed twice.
    void add(const std::vector<Row>& numbers, const std::int32_t* first, std::int64_t count) {
        std::int32_t four[quad_rows];
        for (std::int64_t row = 0; row < quad_rows; ++row)
            four[row] = first[std::min(row, count - 1)];
        rows.insert(rows.end(), four, four + quad_rows);
        for (std::size_t step = 0; step < numbers[four[0]].size(); ++step) {
            places.push_back(0);
            for (int row = 0; row < quad_rows; ++row) {
                const NonZero& one = numbers[four[row]][step];
                places.back() |= static_cast<std::uint64_t>(one.place) << (16 * row);
                weights.push_back(one.weight);
            }
        }
        starts.push_back(static_cast<std::int64_t>(places.size()));
    }

    QuadPanel view() const {
        return {input, rows.data(), starts.data(), places.data(), weights.data()};
    }
};

// Of each row the non-zeros of some columns.
std::vector<Row> rows_between(const Weights& weights, Range columns, std::int64_t plane) {
    std::vector<Row> found(weights.rows);
    for (std::int64_t row = 0; row < weights.rows; ++row) {
        for (std::int64_t at = weights.starts[row]; at < weights.starts[row + 1]; ++at) {
            const std::int64_t column = weights.indices[at];
            if (column >= columns.begin && column < columns.end)
                found[row].push_back(
                    {(column - columns.begin) * plane * 4 / bytes_of_place, weights.values[at]});
        }
    }
    return found;
}

// `outermost`: sums of rows without any non-zero begin or end here.
Packed packed(const Weights& weights, const std::vector<std::int32_t>& order, Range columns,
              std::int64_t plane, bool outermost) {
    Packed panel;
    panel.input = columns.begin * plane;
    std::vector<Row> numbers = rows_between(weights, columns, plane);
    const auto length = [&](std::int32_t row) { return numbers[row].size(); };
    for (std::size_t begin = 0; begin < order.size(); begin += bunch_rows) {
        const auto first = order.begin() + static_cast<std::ptrdiff_t>(begin);
        const auto last = std::min(first + bunch_rows, order.end());
        std::vector<std::int32_t> bunch(first, last);
        std::stable_sort(bunch.begin(), bunch.end(),
                         [&](auto left, auto right) { return length(left) > length(right); });
        const std::int64_t filled =
            std::count_if(bunch.begin(), bunch.end(), [&](auto row) { return length(row) > 0; });
        const std::int64_t all = outermost ? static_cast<std::int64_t>(bunch.size()) : filled;
        for (std::int64_t at = 0; at < all;) {
            const std::int64_t count =
                std::min<std::int64_t>(quad_rows, (at < filled ? filled : all) - at);
            for (std::int64_t row = at; at < filled && row < at + count; ++row)
                lengthen(numbers[bunch[row]], length(bunch[at]));
            panel.add(numbers, bunch.data() + at, count);
            at += count;
        }
        panel.bunches.push_back(static_cast<std::int64_t>(panel.starts.size()) - 1);
    }
    return panel;
}

// How a run is walked: in so many stretches, and the channels of each in so many panels.
struct Walk {
    std::int64_t vectors, stretches, panels;

    Walk(const Weights& weights, const Windows& windows, std::int64_t lanes)
        : vectors(divided_up(windows.run, lanes)),
          // Two vectors at a time, or three, are few enough for sums to stay in registers, and for
          // many channels to stay in the first cache: most of it, beside weights and sums.
          stretches(std::max<std::int64_t>(vectors / 2, 1)) {
        const std::int64_t bytes = 4 * weights.columns * divided_up(vectors, stretches) * lanes;
        const std::int64_t most = bytes_of_place * 65535 / (4 * windows.channel) + 1;
        panels = std::max({divided_up(bytes, caches().first * 5 / 6),
                           divided_up(weights.columns, most), std::int64_t{1}});
    }

    // Of a row, as measured on Zen 5.
    double cycles(const Weights& weights) const {
        const auto tile = static_cast<double>(vectors) / static_cast<double>(stretches);
        const double taps = 1.1 * static_cast<double>(weights.values.size()) /
                            static_cast<double>(weights.rows * panels);
        return static_cast<double>(stretches * panels) *
               (8.0 + taps * (0.62 * tile + 0.3) + (panels > 1 ? 1.6 * tile : 0.0));
    }
};

class QuadStep final : public Step {
  public:
    QuadStep(const Site& site, const Product& layer, const Windows& windows);
    void run(const Worker& worker) const noexcept override;
    double nanoseconds() const override {
        return 0.03 * static_cast<double>(stored_ * form_.sums.height * form_.sums.width);
    }

  private:
    const QuadLoops& loops_;
    Layout output_;
    Layout residual_;
    ProductForm form_;
    std::int64_t input_;  // where the first channel begins
    std::int64_t lanes_;
    std::int64_t stored_;
    Walk walk_;
    std::vector<std::int64_t> costs_{0};  // before each bunch
    std::vector<Packed> panels_;
};

QuadStep::QuadStep(const Site& site, const Product& layer, const Windows& windows)
    : loops_(quad_loops(site.set)),
      output_(site.output()),
      residual_(layer.epilogue.residual < 0 ? Layout{} : site.read(1)),
      form_(layer),
      input_(site.read(0).place + windows.first),
      lanes_(convolution_loops(site.set).lanes),
      stored_(static_cast<std::int64_t>(layer.weights.values.size())),
      walk_(layer.weights, windows, lanes_) {
    const Weights& weights = layer.weights;
    std::vector<std::int32_t> order(weights.rows);
    for (std::int64_t row = 0; row < weights.rows; ++row) order[row] = static_cast<int>(row);
    const auto length = [&](auto row) { return weights.starts[row + 1] - weights.starts[row]; };
    std::stable_sort(order.begin(), order.end(),
                     [&](auto left, auto right) { return length(left) > length(right); });
    for (std::int64_t at = 0; at < weights.rows; ++at) {
        if (at % bunch_rows == 0) costs_.push_back(costs_.back());
        costs_.back() += length(order[at]);
    }
    for (std::int64_t panel = 0; panel < walk_.panels; ++panel) {
        const Range columns{weights.columns * panel / walk_.panels,
                            weights.columns * (panel + 1) / walk_.panels};
        panels_.push_back(packed(weights, order, columns, windows.channel,
                                 panel == 0 || panel + 1 == walk_.panels));
    }
}

void QuadStep::run(const Worker& worker) const noexcept {
    float* const scratch = worker.scratch;
    QuadTask task{};
    task.input = scratch + input_;
    task.output = scratch + output_.place + output_.origin;
    task.output_plane = output_.plane;
    task.bias = form_.bias.empty() ? nullptr : form_.bias.data();
    if (form_.epilogue.residual >= 0) {
        task.residual = scratch + residual_.place + residual_.origin;
        task.residual_plane = residual_.plane;
    }
    task.finish = form_.epilogue.finish();
    const Range bunches = worker.part_by_cost(costs_);
    for (std::int64_t stretch = 0; stretch < walk_.stretches; ++stretch) {
        const Range vectors{walk_.vectors * stretch / walk_.stretches,
                            walk_.vectors * (stretch + 1) / walk_.stretches};
        for (std::size_t at = 0; at < panels_.size(); ++at) {
            const Packed& panel = panels_[at];
            task.begins = at == 0;
            task.ends = at + 1 == panels_.size();
            loops_.multiply(task, panel.view(),
                            {panel.bunches[bunches.begin], panel.bunches[bunches.end]},
                            vectors.begin * lanes_, vectors.end - vectors.begin);
        }
    }
}

}  // namespace

std::unique_ptr<Step> quad_step(const Site& site, const Product& layer, double cycles) {
    const Layout &input = site.read(0), &output = site.output();
    const Windows windows = windows_of(layer, input);
    const bool takes = quad_loops(site.set).longest > 0 &&
                       layer.weights.kind == WeightsKind::sparse && layer.taps() == 1 &&
                       layer.groups == 1 && !windows.staged && !layer.bias_by_position &&
                       4 * windows.channel % bytes_of_place == 0;
    const std::int64_t lanes = convolution_loops(site.set).lanes;
    const std::int64_t run = rounded_up(windows.run, lanes);
    const bool direct = !layer.epilogue.pooling && !output.padded() &&
                        output.pitch == windows.pitch && output.plane >= output.origin + run;
    const bool added = layer.epilogue.residual < 0 || site.read(1).pitch == windows.pitch;
    if (!takes || !direct || !added) return nullptr;
    if (Walk(layer.weights, windows, lanes).cycles(layer.weights) > 1.1 * cycles) return nullptr;
    return std::make_unique<QuadStep>(site, layer, windows);
}

}  // namespace gossamer::single
