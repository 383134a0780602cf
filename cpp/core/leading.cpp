#include "core/leading.hpp"

#include <algorithm>
#include <utility>
#include <vector>

#include "ops/product.hpp"

namespace gossamer {
namespace {

// Of pointers that a call keeps on its stack.
constexpr std::size_t most_leading = 512;
constexpr std::size_t most_outputs = 16;

// Runs both parts of a plan, the second with the values of a granule of examples.
class LedExecutor final : public Executor {
  public:
    LedExecutor(const Plan& plan, std::size_t layers, InstructionSet set)
        : layers_(layers),
          first_(make_single_executor(leading(plan, layers), set)),
          rest_(make_batched_executor(trailing(plan, layers), set)),
          size_(plan.shapes[layers].size()) {
        for (std::size_t input = 0; input < plan.inputs; ++input)
            input_sizes_.push_back(plan.shapes[input].size());
        for (const int output : plan.outputs)
            output_sizes_.push_back(plan.shapes[static_cast<std::size_t>(output)].size());
    }

    std::int64_t lanes() const override { return rest_->granule(); }
    std::int64_t granule() const override { return rest_->granule(); }
    std::size_t scratch_floats() const override { return between() + floats_between(); }

    void run(const Examples& examples, float* scratch, Team& team,
             double* layer_seconds) const noexcept override {
        float* value = scratch + between();
        const float* inputs[most_leading + 1] = {};
        for (std::size_t input = 0; input < input_sizes_.size(); ++input)
            inputs[input] = examples.inputs[input] + examples.first * input_sizes_[input];
        for (std::int64_t example = 0; example < examples.count; ++example)
            first_->run({inputs, &value, example, 1}, scratch + rest_floats(), team, layer_seconds);
        inputs[layers_] = value;
        float* outputs[most_outputs];
        for (std::size_t output = 0; output < output_sizes_.size(); ++output)
            outputs[output] = examples.outputs[output] + examples.first * output_sizes_[output];
        rest_->run({inputs, outputs, 0, examples.count}, scratch, team, layer_seconds);
    }

  private:
    static std::size_t whole_lines(std::size_t floats) { return (floats + 15) / 16 * 16; }
    std::size_t rest_floats() const { return whole_lines(rest_->scratch_floats()); }
    std::size_t between() const { return rest_floats() + whole_lines(first_->scratch_floats()); }
    std::size_t floats_between() const { return static_cast<std::size_t>(lanes() * size_); }

    std::size_t layers_;
    std::unique_ptr<Executor> first_, rest_;
    std::int64_t size_;  // of the value between them
    std::vector<std::int64_t> input_sizes_, output_sizes_;
};

// How many nanoseconds one example of a layer takes less alone than as one of 16 side by side.
// Measured on Zen 5 with 32 MB of third cache: of a number that single pixels read or write where
// 16 examples take more than half of that cache, of a weight where they leave the second one no
// room, of an input that is dealt out for a stride, or put into tiles for a single channel.
double gain_alone(const Product& layer) {
    constexpr double each_read = 0.15, each_written = 0.07, each_weight = 0.25, each_dealt = 0.055,
                     each_channels = 0.09;
    constexpr std::int64_t far = 16 << 20, many = 128 << 10;  // bytes
    const auto distant = [](const Shape& shape) {
        return 16 * 4 * shape.size() > far ? static_cast<double>(shape.size()) : 0.0;
    };
    const auto read = static_cast<double>(layer.taken[0].size());
    const auto weights = static_cast<std::int64_t>(layer.weights.values.size());
    double gain = 0.0;
    if (layer.taps() == 1) {
        gain += each_read * distant(layer.taken[0]) + each_written * distant(layer.given);
        if (layer.epilogue.residual >= 0) gain += each_written * distant(layer.sums);
    }
    if (8 * weights > many) gain -= each_weight * static_cast<double>(weights);
    if (layer.groups > 1) return gain - each_channels * read;
    return layer.window.stride.width > 1 ? gain - each_dealt * read : gain;
}

// Nanoseconds that the multiply-adds of one example take.
double computing(const Product& layer) {
    constexpr double each_vector = 0.25;
    const std::int64_t vectors = divided_up(layer.sums.height * layer.sums.width, 16) *
                                 static_cast<std::int64_t>(layer.weights.values.size());
    return each_vector * static_cast<double>(vectors);
}

constexpr double each_between = 0.4;  // nanoseconds of a number between both parts
constexpr double worth = 0.1;         // of the time of a network

}  // namespace

bool can_lead(const Plan& plan, std::size_t layers) {
    if (layers < plan.inputs || layers >= plan.layers.size() || layers > most_leading ||
        plan.outputs.size() > most_outputs)
        return false;
    const auto last = static_cast<int>(layers);
    const auto later = [&](int value) { return value >= last; };
    return std::all_of(plan.outputs.begin(), plan.outputs.end(), later) &&
           std::all_of(plan.layers.begin() + last, plan.layers.end(), [&](const auto& layer) {
               return std::all_of(layer->reads.begin(), layer->reads.end(), later);
           });
}

std::size_t best_leading(const Plan& plan) {
    double gain = 0.0, all = 0.0, most = 0.0;
    std::size_t best = 0;
    for (std::size_t number = 0; number < plan.layers.size(); ++number) {
        const Product* layer = plan.layers[number]->product();
        if (layer && layer->slides()) {
            gain += gain_alone(*layer);
            all += computing(*layer);
        }
        const double left =
            gain - each_between * static_cast<double>(plan.shapes[number + 1].size());
        if (left <= most || !can_lead(plan, number + 1)) continue;
        most = left;
        best = number + 1;
    }
    return most > worth * all ? best : 0;
}

std::unique_ptr<Executor> make_led_executor(const Plan& plan, std::size_t layers,
                                            InstructionSet set) {
    return std::make_unique<LedExecutor>(plan, layers, set);
}

}  // namespace gossamer
