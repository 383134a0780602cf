// Functions of each number that no epilogue has.
#include <algorithm>
#include <cmath>
#include <map>
#include <string>

#include "ops/layer.hpp"

namespace gossamer {
namespace {

using Row = void (*)(const float* from, float alpha, float* to, std::int64_t count);

template <typename Of>
void each(const float* from, float* to, std::int64_t count, const Of& of) {
    for (std::int64_t at = 0; at < count; ++at) to[at] = of(from[at]);
}

#define GOSSAMER_FUNCTION(expression)                                   \
    [](const float* from, float alpha, float* to, std::int64_t count) { \
        (void)alpha;                                                    \
        each(from, to, count, [alpha](float x) -> float {               \
            (void)alpha;                                                \
            return expression;                                          \
        });                                                             \
    }

float softplus(float x) { return std::max(x, 0.0f) + std::log1p(std::exp(-std::abs(x))); }

float mish(float x) {
    if (!(x <= 20.0f)) return x;
    const float power = std::exp(x);
    const float above = power * (power + 2.0f);
    return x * (above / (above + 2.0f));
}

// Comparisons are written so that NaN stays NaN; its sign is 0, as PyTorch has it.
const std::map<std::string, Row>& rows() {
    static const std::map<std::string, Row> known = {
        {"abs", GOSSAMER_FUNCTION(std::abs(x))},
        {"at-least", GOSSAMER_FUNCTION(x < alpha ? alpha : x)},
        {"at-most", GOSSAMER_FUNCTION(x > alpha ? alpha : x)},
        {"ceil", GOSSAMER_FUNCTION(std::ceil(x))},
        {"cos", GOSSAMER_FUNCTION(std::cos(x))},
        {"erf", GOSSAMER_FUNCTION(std::erf(x))},
        {"exp", GOSSAMER_FUNCTION(std::exp(x))},
        {"expm1", GOSSAMER_FUNCTION(std::expm1(x))},
        {"floor", GOSSAMER_FUNCTION(std::floor(x))},
        {"log", GOSSAMER_FUNCTION(std::log(x))},
        {"log1p", GOSSAMER_FUNCTION(std::log1p(x))},
        {"log-sigmoid", GOSSAMER_FUNCTION(-softplus(-x))},
        {"mish", GOSSAMER_FUNCTION(mish(x))},
        {"nonnegative", GOSSAMER_FUNCTION(x >= 0.0f ? 1.0f : 0.0f)},
        {"positive", GOSSAMER_FUNCTION(x > 0.0f ? 1.0f : 0.0f)},
        {"power", GOSSAMER_FUNCTION(std::pow(x, alpha))},
        {"reciprocal", GOSSAMER_FUNCTION(1.0f / x)},
        {"round", GOSSAMER_FUNCTION(std::nearbyint(x))},
        {"rsqrt", GOSSAMER_FUNCTION(1.0f / std::sqrt(x))},
        {"sign", GOSSAMER_FUNCTION(x > 0.0f   ? 1.0f
                                   : x < 0.0f ? -1.0f
                                              : 0.0f)},
        {"sin", GOSSAMER_FUNCTION(std::sin(x))},
        {"softplus", GOSSAMER_FUNCTION(softplus(x * alpha) / alpha)},
        {"sqrt", GOSSAMER_FUNCTION(std::sqrt(x))},
        {"square", GOSSAMER_FUNCTION(x * x)},
        {"zero", GOSSAMER_FUNCTION(x == 0.0f ? 1.0f : 0.0f)},
    };
    return known;
}

class Function final : public Layer {
  public:
    explicit Function(Fields& fields)
        : function_(fields.take<std::string>("function")), alpha_(fields.take("alpha", 1.0)) {}

    Shape check(const Check& check) override {
        check.require(rows().count(function_) > 0, "\"" + function_ + "\" is no function");
        check.require(std::isfinite(alpha_), "alpha must be a finite number");
        check.require(function_ != "softplus" || alpha_ > 0.0, "alpha must be more than 0");
        return taken[0];
    }

    Prepared prepare(InstructionSet, bool) const override {
        return {[row = rows().at(function_), alpha = static_cast<float>(alpha_)](const Call& call) {
                    const View input = call.read(0), &output = call.output;
                    const std::int64_t count = output.pixels * output.pixel;
                    for (std::int64_t at = call.part.begin; at < call.part.end; ++at)
                        for (std::int64_t line = 0; line < output.rows; ++line)
                            row(input.data + at * input.channel + line * input.row, alpha,
                                output.data + at * output.channel + line * output.row, count);
                },
                5.0};
    }

  private:
    std::string function_;
    double alpha_;
};

GOSSAMER_OPERATOR("function", Function)

}  // namespace
}  // namespace gossamer
