#include "single/quads.hpp"

#include <algorithm>

#include "core/caches.hpp"
#include "ops/product.hpp"
#include "single/quad_matrix.hpp"
#include "single/steps.hpp"

namespace gossamer::single {
namespace {

// How a run is walked: in so many stretches, and the channels of each in so many panels.
struct Walk {
    std::int64_t vectors, stretches, panels;

    Walk(const Weights& weights, const Windows& windows, std::int64_t lanes)
        : vectors(divided_up(windows.run, lanes)),
          // Two vectors at a time, or three, are few enough for sums to stay in registers, and for
          // many channels to stay in the first cache: most of it, beside weights and sums.
          stretches(std::max<std::int64_t>(vectors / 2, 1)) {
        // Of vectors of 8, three where channels need no second panel for it.
        const std::int64_t two = stretches;
        if (lanes == 8) stretches = divided_up(vectors, 3);
        if (panels_of(weights, windows, lanes) > 1) stretches = two;
        panels = panels_of(weights, windows, lanes);
    }

    // Whether that is faster than other loops, which take so many cycles for a row.
    bool pays(const Weights& weights, std::int64_t lanes, double others) const {
        // Of vectors of 8, as measured on Zen 3 over 128 and 197 tokens: a seventh less time with
        // 256 channels in one panel, a twelfth in two, and a twentieth more in three. Of fewer
        // channels, others take so many vectors at a time that nothing is left to gain.
        if (lanes == 8) return weights.columns >= 192 && vectors < 32 && panels <= 2;
        return cycles(weights) <= 1.1 * others;
    }

  private:
    std::int64_t panels_of(const Weights& weights, const Windows& windows,
                           std::int64_t lanes) const {
        const std::int64_t bytes = 4 * weights.columns * divided_up(vectors, stretches) * lanes;
        return std::max({divided_up(bytes, caches().first * 5 / 6),
                         QuadMatrix::least_panels(weights, windows.channel), std::int64_t{1}});
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
    QuadMatrix matrix_;
};

QuadStep::QuadStep(const Site& site, const Product& layer, const Windows& windows)
    : loops_(quad_loops(site.set)),
      output_(site.output()),
      residual_(layer.epilogue.residual < 0 ? Layout{} : site.read(1)),
      form_(layer),
      input_(site.read(0).place + windows.first),
      lanes_(convolution_loops(site.set).lanes),
      stored_(static_cast<std::int64_t>(layer.weights.values.size())),
      walk_(layer.weights, windows, lanes_),
      matrix_(layer.weights, windows.channel, walk_.panels) {}

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
    const Range bunches = worker.part_by_cost(matrix_.costs());
    for (std::int64_t stretch = 0; stretch < walk_.stretches; ++stretch) {
        const Range vectors{walk_.vectors * stretch / walk_.stretches,
                            walk_.vectors * (stretch + 1) / walk_.stretches};
        matrix_.multiply(loops_, task, bunches, vectors.begin * lanes_,
                         vectors.end - vectors.begin);
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
    if (!takes || !direct || !added || !QuadMatrix::can_hold(layer.weights)) return nullptr;
    if (!Walk(layer.weights, windows, lanes).pays(layer.weights, lanes, cycles)) return nullptr;
    return std::make_unique<QuadStep>(site, layer, windows);
}

}  // namespace gossamer::single
