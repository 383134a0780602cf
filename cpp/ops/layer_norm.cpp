// Each example less its mean and divided by its standard deviation, over the last axes of a value.
#include <cmath>

#include "ops/layer.hpp"

namespace gossamer {
namespace {

class LayerNorm final : public Layer {
  public:
    explicit LayerNorm(Fields& fields)
        : axes_(fields.take<std::int64_t>("axes", 1)),
          epsilon_(fields.take<double>("epsilon", 1e-5)),
          scale_(fields.take<Floats>("scale", {})),
          shift_(fields.take<Floats>("shift", {})) {}

    Shape check(const Check& check) override {
        const Sizes sizes = taken[0].sizes();
        check.require(axes_ >= 1 && axes_ <= static_cast<std::int64_t>(sizes.size()),
                      "axes must be between 1 and those of the value that it reads");
        check.require(epsilon_ >= 0.0 && std::isfinite(epsilon_), "epsilon must be 0 or more");
        const auto numbers = static_cast<std::size_t>(std::accumulate(
            sizes.end() - axes_, sizes.end(), std::int64_t{1}, std::multiplies<>()));
        for (const Floats* given : {&scale_, &shift_}) {
            check.require(given->empty() || given->size() == numbers,
                          "scale and shift must have a number for each one that is normalized");
        }
        return taken[0];
    }

    void run(const Strided* inputs, const Strided& output) const override {
        const Strided& input = inputs[0];
        const int first = input.rank - static_cast<int>(axes_);
        const std::int64_t numbers = input.count(first, input.rank);
        for (std::int64_t place = 0; place < input.count(0, first); ++place) {
            const float* from = input.data + input.offset(place, 0, first);
            float* to = output.data + output.offset(place, 0, first);
            const auto number = [&](std::int64_t at) {
                return static_cast<double>(from[input.offset(at, first, input.rank)]);
            };
            double mean = 0.0, variance = 0.0;
            for (std::int64_t at = 0; at < numbers; ++at) mean += number(at);
            mean /= static_cast<double>(numbers);
            for (std::int64_t at = 0; at < numbers; ++at)
                variance += (number(at) - mean) * (number(at) - mean);
            const double factor =
                1.0 / std::sqrt(variance / static_cast<double>(numbers) + epsilon_);
            for (std::int64_t at = 0; at < numbers; ++at) {
                const double value = (number(at) - mean) * factor;
                to[output.offset(at, first, output.rank)] = static_cast<float>(
                    value * (scale_.empty() ? 1.0f : scale_[static_cast<std::size_t>(at)]) +
                    (shift_.empty() ? 0.0f : shift_[static_cast<std::size_t>(at)]));
            }
        }
    }

  private:
    std::int64_t axes_;
    double epsilon_;
    Floats scale_;
    Floats shift_;
};

GOSSAMER_OPERATOR("layer_norm", LayerNorm)

}  // namespace
}  // namespace gossamer
