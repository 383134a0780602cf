// Channels as pixels: each block of channels becomes one of pixels.
#include <algorithm>

#include "ops/layer.hpp"

namespace gossamer {
namespace {

class PixelShuffle final : public Layer {
  public:
    explicit PixelShuffle(Fields& fields) : block_(fields.take_pair("block")) {}

    Shape check(const Check& check) override {
        const Shape& input = taken[0];
        check.require(input.image && input.axes.empty(), "must read (channels, height, width)");
        check.require(block_.height >= 1 && block_.height <= longest && block_.width >= 1 &&
                          block_.width <= longest,
                      "block must be between 1 and 2^16");
        const std::int64_t pixels = block_.height * block_.width;
        check.require(input.channels % pixels == 0, "block must divide its channels");
        return {true, input.channels / pixels, input.height * block_.height,
                input.width * block_.width};
    }

    Prepared prepare(InstructionSet, bool) const override {
        return {[block = block_](const Call& call) {
                    const View input = call.read(0), &output = call.output;
                    const std::int64_t pixels = block.height * block.width;
                    const auto first = call.part.begin * pixels, end = call.part.end * pixels;
                    for (std::int64_t channel = first; channel < end; ++channel) {
                        const std::int64_t place = channel % pixels;
                        float* const corner = output.data + channel / pixels * output.channel +
                                              place / block.width * output.row +
                                              place % block.width * output.pixel;
                        for (std::int64_t row = 0; row < input.rows; ++row)
                            spread(input.data + channel * input.channel + row * input.row,
                                   corner + row * block.height * output.row, input.pixels,
                                   input.pixel, block.width);
                    }
                },
                0.5};
    }

  private:
    static void spread(const float* from, float* to, std::int64_t pixels, std::int64_t lanes,
                       std::int64_t step) {
        if (lanes == 1)
            for (std::int64_t at = 0; at < pixels; ++at) to[at * step] = from[at];
        else
            for (std::int64_t at = 0; at < pixels; ++at)
                std::copy_n(from + at * lanes, lanes, to + at * step * lanes);
    }

    Pair block_;
};

GOSSAMER_OPERATOR("pixel_shuffle", PixelShuffle)

}  // namespace
}  // namespace gossamer
