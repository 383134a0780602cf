// Functions of each number that no epilogue has.
#include "core/plain.hpp"
#include "simd/dispatch.hpp"

namespace gossamer {

using FunctionRow = void (*)(const float* from, float alpha, float* to, std::int64_t count);

// Those that vectors have.
struct FunctionLoops {
    FunctionRow abs, at_least, at_most, ceil, cube, exp, floor, log_sigmoid, mish, nonnegative,
        positive, reciprocal, round, rsqrt, sign, softplus, sqrt, square, zero;
};

GOSSAMER_DECLARE(FunctionLoops, function_loops)

}  // namespace gossamer

#ifdef GOSSAMER_INSTRUCTION_SET
#include "simd/activations.hpp"

namespace gossamer {
namespace {

template <typename Of>
GOSSAMER_INLINE void each(const float* from, float* to, int64_t count, const Of& of) {
    int64_t at = 0;
    for (; at + width <= count; at += width) store_any(to + at, of(load_any<Vector>(from + at)));
    if (at < count) store_first(to + at, of(load_first(from + at, count - at)), count - at);
}

#define GOSSAMER_FUNCTION(expression)                                    \
    [](const float* from, float alpha, float* to, int64_t count) {       \
        (void)alpha;                                                     \
        each(from, to, count, [alpha](Vector x) GOSSAMER_LAMBDA_INLINE { \
            (void)alpha;                                                 \
            return expression;                                           \
        });                                                              \
    }

GOSSAMER_INLINE bool any(Integers mask) {
#if defined(__AVX512F__) && GOSSAMER_WIDTH == 16
    const auto held = reinterpret_cast<__m512i>(mask);
    return _mm512_test_epi32_mask(held, held) != 0;
#else
    int32_t found = 0;
    for (int lane = 0; lane < width; ++lane) found |= mask[lane];
    return found != 0;
#endif
}

GOSSAMER_INLINE Vector one_or_none(Integers mask) { return mask ? broadcast(1.0f) : Vector{}; }

// Powers of e that are neither infinite nor subnormal; the others one by one.
GOSSAMER_INLINE Vector every_exponential(Vector x) {
    Vector found = exponential(x);
    const Integers inside = magnitude(x) <= 87.0f;
    if (any(~inside))
        for (int lane = 0; lane < width; ++lane)
            if (!inside[lane]) found[lane] = __builtin_expf(x[lane]);
    return found;
}

GOSSAMER_INLINE Vector decayed(Vector x) { return x < -87.0f ? Vector{} : exponential(x); }

// log(1 + x) of numbers from 0 to 1: twice the inverse hyperbolic tangent of x / (2 + x).
GOSSAMER_INLINE Vector logarithm_above_one(Vector x) {
    const Vector share = x / (x + 2.0f), square = share * share;
    Vector p = broadcast(2.0f / 13.0f);
    p = p * square + 2.0f / 11.0f;
    p = p * square + 2.0f / 9.0f;
    p = p * square + 2.0f / 7.0f;
    p = p * square + 2.0f / 5.0f;
    p = p * square + 2.0f / 3.0f;
    return share * (p * square + 2.0f);
}

GOSSAMER_INLINE Vector softplus(Vector x) {
    return at_least(x, 0.0f) + logarithm_above_one(decayed(-magnitude(x)));
}

GOSSAMER_INLINE Vector mish(Vector x) {
    const Vector power = decayed(x), above = power * (power + 2.0f);
    return x <= 20.0f ? x * (above / (above + 2.0f)) : x;
}

// To the nearest whole number, of two the even one: adding 2^23 leaves no digit behind the point.
GOSSAMER_INLINE Vector rounded(Vector x) {
    const Vector much = broadcast(8388608.0f), size = magnitude(x);
    const Vector whole = size + much - much;
    const Integers sign = reinterpret_cast<Integers>(x) & static_cast<int32_t>(0x80000000);
    const Vector found = reinterpret_cast<Vector>(reinterpret_cast<Integers>(whole) | sign);
    return size < much ? found : x;
}

GOSSAMER_INLINE Vector whole_below(Vector x) {
    const Vector found = rounded(x);
    return found > x ? found - 1.0f : found;
}

}  // namespace

// Comparisons are written so that NaN stays NaN; its sign is 0, as PyTorch has it.
GOSSAMER_EXPORT(FunctionLoops, function_loops,
                {GOSSAMER_FUNCTION(magnitude(x)),
                 GOSSAMER_FUNCTION(x < alpha ? broadcast(alpha) : x),
                 GOSSAMER_FUNCTION(x > alpha ? broadcast(alpha) : x),
                 GOSSAMER_FUNCTION(-whole_below(-x)), GOSSAMER_FUNCTION(x * x * x),
                 GOSSAMER_FUNCTION(every_exponential(x)), GOSSAMER_FUNCTION(whole_below(x)),
                 GOSSAMER_FUNCTION(-softplus(-x)), GOSSAMER_FUNCTION(mish(x)),
                 GOSSAMER_FUNCTION(one_or_none(x >= 0.0f)),
                 GOSSAMER_FUNCTION(one_or_none(x > 0.0f)), GOSSAMER_FUNCTION(1.0f / x),
                 GOSSAMER_FUNCTION(rounded(x)), GOSSAMER_FUNCTION(1.0f / root(x)),
                 GOSSAMER_FUNCTION(one_or_none(x > 0.0f) - one_or_none(x < 0.0f)),
                 GOSSAMER_FUNCTION(softplus(x * alpha) / alpha), GOSSAMER_FUNCTION(root(x)),
                 GOSSAMER_FUNCTION(x * x), GOSSAMER_FUNCTION(one_or_none(x == 0.0f))})

}  // namespace gossamer

#else
#include <cmath>
#include <map>
#include <string>

#include "ops/layer.hpp"

namespace gossamer {
namespace {

using Vectors = FunctionRow FunctionLoops::*;

const std::map<std::string, Vectors> vectors = {
    {"abs", &FunctionLoops::abs},
    {"at-least", &FunctionLoops::at_least},
    {"at-most", &FunctionLoops::at_most},
    {"ceil", &FunctionLoops::ceil},
    {"exp", &FunctionLoops::exp},
    {"floor", &FunctionLoops::floor},
    {"log-sigmoid", &FunctionLoops::log_sigmoid},
    {"mish", &FunctionLoops::mish},
    {"nonnegative", &FunctionLoops::nonnegative},
    {"positive", &FunctionLoops::positive},
    {"reciprocal", &FunctionLoops::reciprocal},
    {"round", &FunctionLoops::round},
    {"rsqrt", &FunctionLoops::rsqrt},
    {"sign", &FunctionLoops::sign},
    {"softplus", &FunctionLoops::softplus},
    {"sqrt", &FunctionLoops::sqrt},
    {"square", &FunctionLoops::square},
    {"zero", &FunctionLoops::zero},
};

// Powers that are products.
const std::map<double, Vectors> powers = {
    {-1.0, &FunctionLoops::reciprocal},
    {2.0, &FunctionLoops::square},
    {3.0, &FunctionLoops::cube},
};

// The others, number by number.
template <float (*of)(float)>
void each(const float* from, float, float* to, std::int64_t count) {
    for (std::int64_t at = 0; at < count; ++at) to[at] = of(from[at]);
}

void power(const float* from, float alpha, float* to, std::int64_t count) {
    for (std::int64_t at = 0; at < count; ++at) to[at] = std::pow(from[at], alpha);
}

const std::map<std::string, FunctionRow> numbers = {
    {"cos", each<std::cos>}, {"erf", each<std::erf>},     {"expm1", each<std::expm1>},
    {"log", each<std::log>}, {"log1p", each<std::log1p>}, {"power", power},
    {"sin", each<std::sin>},
};

class Function final : public Layer {
  public:
    explicit Function(Fields& fields)
        : function_(fields.take<std::string>("function")), alpha_(fields.take("alpha", 1.0)) {}

    Shape check(const Check& check) override {
        check.require(vectors.count(function_) + numbers.count(function_) > 0,
                      "\"" + function_ + "\" is no function");
        check.require(std::isfinite(alpha_), "alpha must be a finite number");
        check.require(function_ != "softplus" || alpha_ > 0.0, "alpha must be more than 0");
        return taken[0];
    }

    Prepared prepare(InstructionSet set, bool) const override {
        return {[row = row(set), alpha = static_cast<float>(alpha_)](const Call& call) {
                    const View input = call.read(0), &output = call.output;
                    const std::int64_t count = output.pixels * output.pixel;
                    for (std::int64_t at = call.part.begin; at < call.part.end; ++at)
                        for (std::int64_t line = 0; line < output.rows; ++line)
                            row(input.data + at * input.channel + line * input.row, alpha,
                                output.data + at * output.channel + line * output.row, count);
                },
                numbers.count(function_) > 0 ? 5.0 : 0.5};
    }

  private:
    FunctionRow row(InstructionSet set) const {
        const FunctionLoops& loops = function_loops(set);
        if (function_ == "power" && powers.count(alpha_) > 0) return loops.*powers.at(alpha_);
        const auto found = vectors.find(function_);
        return found != vectors.end() ? loops.*found->second : numbers.at(function_);
    }

    std::string function_;
    double alpha_;
};

GOSSAMER_OPERATOR("function", Function)

}  // namespace
}  // namespace gossamer
#endif
