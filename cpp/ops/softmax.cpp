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
#include "simd/exact_sum.hpp"

namespace gossamer {
namespace {

GOSSAMER_INLINE Vector power(Vector less) { return less < -87.0f ? Vector{} : exponential(less); }

GOSSAMER_INLINE Vector logarithm_of(Vector total) {
    for (int lane = 0; lane < width; ++lane) total[lane] = __builtin_logf(total[lane]);
    return total;
}

// Of as many examples or pixels as a vector has lanes, or of fewer, which come first.
GOSSAMER_INLINE void softmax_of_lanes(const float* from, const View& input, bool logarithm,
                                      float* to, const View& output, int64_t count) {
    const auto load = [count](const float* place) GOSSAMER_LAMBDA_INLINE {
        return count < width ? load_first(place, count) : load_any<Vector>(place);
    };
    const auto store = [count](float* place, Vector value) GOSSAMER_LAMBDA_INLINE {
        if (count < width)
            store_first(place, value, count);
        else
            store_any(place, value);
    };
    Vector peak = load(from);
    for (int64_t channel = 1; channel < input.channels; ++channel)
        peak = larger(peak, load(from + channel * input.channel));
    Sum powers;
    for (int64_t channel = 0; channel < input.channels; ++channel) {
        const Vector less = load(from + channel * input.channel) - peak;
        const Vector found = power(less);
        powers.add(found);
        store(to + channel * output.channel, logarithm ? less : found);
    }
    const Vector total = powers.whole(false);
    const Vector change = logarithm ? logarithm_of(total) : 1.0f / total;
    for (int64_t channel = 0; channel < input.channels; ++channel) {
        float* place = to + channel * output.channel;
        const Vector value = load(place);
        store(place, logarithm ? value - change : value * change);
    }
}

void side_by_side(const View& input, bool logarithm, const View& output, Range rows) {
    for (int64_t row = rows.begin; row < rows.end; ++row)
        for (int64_t at = 0; at < output.pixels; ++at)
            softmax_of_lanes(input.data + row * input.row + at * input.pixel, input, logarithm,
                             output.data + row * output.row + at * output.pixel, output, width);
}

// The features of one example, which are the channels of a single pixel.
GOSSAMER_INLINE void softmax_of_features(const View& input, bool logarithm, const View& output) {
    float peak = input.data[0];
    for (int64_t channel = 1; channel < input.channels; ++channel)
        peak = larger(peak, input.data[channel * input.channel]);
    double total = 0.0;
    for (int64_t channel = 0; channel < input.channels; ++channel) {
        const float less = input.data[channel * input.channel] - peak;
        const float found = __builtin_expf(less);
        total += static_cast<double>(found);
        output.data[channel * output.channel] = logarithm ? less : found;
    }
    const auto less = static_cast<float>(__builtin_log(total)), share = static_cast<float>(total);
    for (int64_t channel = 0; channel < input.channels; ++channel) {
        float& place = output.data[channel * output.channel];
        place = logarithm ? place - less : place / share;
    }
}

void single(const View& input, bool logarithm, const View& output, Range rows) {
    if (output.rows * output.pixels == 1) {
        if (rows.begin < rows.end) softmax_of_features(input, logarithm, output);
        return;
    }
    for (int64_t row = rows.begin; row < rows.end; ++row)
        for (int64_t at = 0; at < output.pixels; at += width)
            softmax_of_lanes(input.data + row * input.row + at, input, logarithm,
                             output.data + row * output.row + at, output,
                             least(output.pixels - at, width));
}

}  // namespace

GOSSAMER_EXPORT(SoftmaxLoops, softmax_loops, {side_by_side, single})

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
