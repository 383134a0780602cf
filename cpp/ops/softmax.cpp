// Softmax over the channels or features, or its logarithm.
#include "core/plain.hpp"
#include "simd/dispatch.hpp"

namespace gossamer {

using SoftmaxLoop = void (*)(const View& input, bool logarithm, const View& output, Range rows);

struct SoftmaxLoops {
    SoftmaxLoop batched, single;
};

GOSSAMER_DECLARE(SoftmaxLoops, softmax_loops)

}  // namespace gossamer

#ifdef GOSSAMER_INSTRUCTION_SET
#include "simd/activations.hpp"

namespace gossamer {
namespace {

// Powers, and what they add up to: thousands of numbers, for which a float has too few digits.
struct SideBySide {
    typedef Vector Number;
    Vector total{}, lost{};  // what rounding added too much

    static GOSSAMER_INLINE Vector of(Vector less) {
        return less < -87.0f ? Vector{} : exponential(less);
    }
    GOSSAMER_INLINE void add(Vector power) {
        const Vector term = power - lost;
        const Vector sum = total + term;
        lost = sum - total - term;
        total = sum;
    }
    GOSSAMER_INLINE Vector logarithm() const {
        Vector found;
        for (int lane = 0; lane < width; ++lane) found[lane] = __builtin_logf(total[lane]);
        return found;
    }
    GOSSAMER_INLINE Vector factor() const { return 1.0f / total; }
    static GOSSAMER_INLINE Vector share(Vector power, Vector factor) { return power * factor; }
};

struct Alone {
    typedef float Number;
    double total = 0.0;

    static GOSSAMER_INLINE float of(float less) { return __builtin_expf(less); }
    GOSSAMER_INLINE void add(float power) { total += power; }
    GOSSAMER_INLINE float logarithm() const { return static_cast<float>(__builtin_log(total)); }
    GOSSAMER_INLINE float factor() const { return static_cast<float>(total); }
    static GOSSAMER_INLINE float share(float power, float factor) { return power / factor; }
};

template <typename Powers>
void softmax(const View& input, bool logarithm, const View& output, Range rows) {
    using Number = typename Powers::Number;
    const int64_t count = rows.end - rows.begin;
    for (int64_t position = 0; position < count * output.pixels; ++position) {
        const int64_t row = rows.begin + position / output.pixels, at = position % output.pixels;
        const float* from = input.data + row * input.row + at * input.pixel;
        float* to = output.data + row * output.row + at * output.pixel;
        Number peak = load_any<Number>(from);
        for (int64_t channel = 1; channel < input.channels; ++channel)
            peak = larger(peak, load_any<Number>(from + channel * input.channel));
        Powers powers;
        for (int64_t channel = 0; channel < input.channels; ++channel) {
            const Number less = load_any<Number>(from + channel * input.channel) - peak;
            const Number power = Powers::of(less);
            powers.add(power);
            store_any(to + channel * output.channel, logarithm ? less : power);
        }
        const Number change = logarithm ? powers.logarithm() : powers.factor();
        for (int64_t channel = 0; channel < input.channels; ++channel) {
            float* place = to + channel * output.channel;
            const Number value = load_any<Number>(place);
            store_any(place, logarithm ? value - change : Powers::share(value, change));
        }
    }
}

}  // namespace

GOSSAMER_EXPORT(SoftmaxLoops, softmax_loops, {softmax<SideBySide>, softmax<Alone>})

}  // namespace gossamer

#else
#include "ops/layer.hpp"

namespace gossamer {
namespace {

class Softmax final : public Layer {
  public:
    explicit Softmax(Fields& fields) : logarithm_(fields.take<bool>("logarithm", false)) {}

    Shape check(const Check&) override { return taken[0]; }

    Prepared prepare(InstructionSet set, bool side_by_side) const override {
        const SoftmaxLoops& loops = softmax_loops(set);
        const SoftmaxLoop loop = side_by_side ? loops.batched : loops.single;
        return {[loop, logarithm = logarithm_](const Call& call) {
                    loop(call.read(0), logarithm, call.output, call.part);
                },
                5.0, /*by_rows=*/true};
    }

  private:
    bool logarithm_;
};

GOSSAMER_OPERATOR("softmax", Softmax)

}  // namespace
}  // namespace gossamer
#endif
