// The same numbers in the same order under another shape; flattening, for instance.
#include "core/plain.hpp"
#include "simd/dispatch.hpp"

namespace gossamer {

using ReshapeLoop = void (*)(const View& input, const View& output);

GOSSAMER_DECLARE(ReshapeLoop, reshape_loop)

}  // namespace gossamer

#ifdef GOSSAMER_INSTRUCTION_SET
#include "simd/vectors.hpp"

namespace gossamer {
namespace {

// Features of one group lie far apart, and none of them in the caches while images take turns
// there.
constexpr int64_t channels_ahead = 16;

void reshape(const View& input, const View& output) {
    int64_t channel = 0, row = 0, pixel = 0;
    for (int64_t to_channel = 0; to_channel < output.channels; ++to_channel) {
        for (int64_t to_row = 0; to_row < output.rows; ++to_row) {
            float* to = output.data + to_channel * output.channel + to_row * output.row;
            __builtin_prefetch(to + channels_ahead * output.channel, 1);
            for (int64_t i = 0; i < output.pixels; ++i) {
                store(to + i * width,
                      load(input.data + channel * input.channel + row * input.row + pixel * width));
                if (++pixel < input.pixels) continue;
                pixel = 0;
                if (++row < input.rows) continue;
                row = 0;
                ++channel;
            }
        }
    }
}

}  // namespace

GOSSAMER_EXPORT(ReshapeLoop, reshape_loop, reshape)

}  // namespace gossamer

#else
#include "ops/layer.hpp"

namespace gossamer {
namespace {

class Reshape final : public Layer {
  public:
    explicit Reshape(Fields& fields) : sizes_(fields.take<Sizes>("shape")) {}

    Shape check(const Check& check) override {
        const Shape shape = check.shape(sizes_);
        check.require(shape.size() == taken[0].size(),
                      "must reshape to as many numbers as it reads");
        return shape;
    }

    bool renames() const override { return true; }

    // Side by side, where features and images lie in different ways.
    Prepared prepare(InstructionSet set, bool) const override {
        return {[loop = reshape_loop(set)](const Call& call) { loop(call.read(0), call.output); }};
    }

  private:
    Sizes sizes_;
};

GOSSAMER_OPERATOR("reshape", Reshape)

}  // namespace
}  // namespace gossamer
#endif
