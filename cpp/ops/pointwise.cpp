// An activation, an affine function of each channel or a sum of two values, which no layer before
// took in.
#include "ops/loops.hpp"

#ifdef GOSSAMER_INSTRUCTION_SET
#include "simd/activations.hpp"

namespace gossamer {
namespace {

void finish_rows(const Finish& finish, const View& input, const View& residual, const View& output,
                 Range channels) {
    const int64_t count = output.pixels * output.pixel;
    for (int64_t channel = channels.begin; channel < channels.end; ++channel) {
        const Vector scale = broadcast(finish.scale ? finish.scale[channel] : 1.0f);
        const Vector shift = broadcast(finish.scale ? finish.shift[channel] : 0.0f);
        for (int64_t row = 0; row < output.rows; ++row) {
            const float* from = input.data + channel * input.channel + row * input.row;
            const float* more = residual.data + channel * residual.channel + row * residual.row;
            float* to = output.data + channel * output.channel + row * output.row;
            const auto finished = [&](int64_t at) GOSSAMER_LAMBDA_INLINE {
                Vector value = load_any<Vector>(from + at);
                if (residual.data) value += load_any<Vector>(more + at);
                value = activated(finish.activation, finish.alpha, value);
                return finish.scale ? value * scale + shift : value;
            };
            int64_t at = 0;
            for (; at + width <= count; at += width) store_any(to + at, finished(at));
            if (at < count) store_first(to + at, finished(at), count - at);
        }
    }
}

void finish_features(const Finish& finish, const float* input, const float* bias,
                     const float* residual, float* output, int64_t count) {
    const auto finished = [&](int64_t at) GOSSAMER_LAMBDA_INLINE {
        Vector value = load_any<Vector>(input + at);
        if (bias) value += load_any<Vector>(bias + at);
        if (residual) value += load_any<Vector>(residual + at);
        value = activated(finish.activation, finish.alpha, value);
        if (finish.scale)
            value =
                value * load_any<Vector>(finish.scale + at) + load_any<Vector>(finish.shift + at);
        return value;
    };
    int64_t at = 0;
    for (; at + width <= count; at += width) store_any(output + at, finished(at));
    store_first(output + at, finished(at), count - at);
}

}  // namespace

GOSSAMER_EXPORT(PointwiseLoops, pointwise_loops, {finish_rows, finish_features})

}  // namespace gossamer

#else
#include "ops/layer.hpp"

namespace gossamer {
namespace {

class Pointwise final : public Layer {
  public:
    explicit Pointwise(Fields& fields) : epilogue_(fields.take<Epilogue>("epilogue")) {
        if (epilogue_.residual >= 0) reads.push_back(epilogue_.residual);
    }

    Shape check(const Check& check) override {
        check.require(!epilogue_.pooling, "a pointwise layer must have no pooling");
        check.followed(epilogue_, taken, taken[0]);
        return taken[0];
    }

    Prepared prepare(InstructionSet set, bool) const override {
        return {[rows = pointwise_loops(set).rows, epilogue = epilogue_](const Call& call) {
                    rows(epilogue.finish(), call.read(0),
                         epilogue.residual < 0 ? View{} : call.read(1), call.output, call.part);
                },
                0.2};
    }

  private:
    Epilogue epilogue_;
};

GOSSAMER_OPERATOR("pointwise", Pointwise)

}  // namespace
}  // namespace gossamer
#endif
