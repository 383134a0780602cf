// What the numbers along an axis come to up to each of them: sums, products, logarithms of sums.
#include <cmath>
#include <limits>
#include <string>

#include "ops/layer.hpp"

namespace gossamer {
namespace {

// log(exp(left) + exp(right)), also where one of them, or both, are infinite.
double logarithm_of_sum(double left, double right) {
    if (left == right) return left + std::log(2.0);
    const double larger = left < right ? right : left;
    return larger + std::log1p(std::exp(-std::abs(left - right)));
}

class Cumulate final : public Layer {
  public:
    explicit Cumulate(Fields& fields)
        : cumulation_(fields.take<std::string>("cumulation")),
          axis_(fields.take<std::int64_t>("axis")) {}

    Shape check(const Check& check) override {
        check.require(
            cumulation_ == "sum" || cumulation_ == "product" || cumulation_ == "log-sum-exp",
            "\"" + cumulation_ + "\" is no cumulation");
        check.require(axis_ >= 0 && axis_ < static_cast<std::int64_t>(taken[0].sizes().size()),
                      "axis must be one of the value that it reads");
        return taken[0];
    }

    void run(const Strided* inputs, const Strided& output) const override {
        if (cumulation_ == "sum")
            cumulate(inputs[0], output, 0.0, [](double sum, double x) { return sum + x; });
        else if (cumulation_ == "product")
            cumulate(inputs[0], output, 1.0, [](double product, double x) { return product * x; });
        else
            cumulate(inputs[0], output, -std::numeric_limits<double>::infinity(), logarithm_of_sum);
    }

  private:
    template <typename With>
    void cumulate(const Strided& input, const Strided& output, double begin,
                  const With& with) const {
        const int axis = static_cast<int>(axis_);
        const std::int64_t before = input.count(0, axis),
                           behind = input.count(axis + 1, input.rank);
        for (std::int64_t row = 0; row < before; ++row) {
            for (std::int64_t column = 0; column < behind; ++column) {
                const float* from = input.data + input.offset(row, 0, axis) +
                                    input.offset(column, axis + 1, input.rank);
                float* to = output.data + output.offset(row, 0, axis) +
                            output.offset(column, axis + 1, output.rank);
                double found = begin;
                for (std::int64_t at = 0; at < input.sizes[axis]; ++at) {
                    found = with(found, static_cast<double>(from[at * input.strides[axis]]));
                    to[at * output.strides[axis]] = static_cast<float>(found);
                }
            }
        }
    }

    std::string cumulation_;
    std::int64_t axis_;
};

GOSSAMER_OPERATOR("cumulate", Cumulate)

}  // namespace
}  // namespace gossamer
