// Values side by side along their channels (or features).
#include <algorithm>

#include "ops/layer.hpp"

namespace gossamer {
namespace {

void copy_channel(const View& from, std::int64_t channel, const View& to, std::int64_t place) {
    for (std::int64_t row = 0; row < to.rows; ++row) {
        std::copy_n(from.data + channel * from.channel + row * from.row, to.pixels * to.pixel,
                    to.data + place * to.channel + row * to.row);
    }
}

class Concatenate final : public Layer {
  public:
    explicit Concatenate(Fields&) {}

    std::size_t arity() const override { return 0; }

    Shape check(const Check& check) override {
        Shape all = taken[0];
        all.channels = 0;
        for (const Shape& shape : taken) {
            check.require(
                shape.image == all.image && shape.height == all.height && shape.width == all.width,
                "must concatenate values of one height and width");
            all.channels += shape.channels;
            check.require(all.channels <= most_numbers, "concatenates too many channels");
        }
        return all;
    }

    Prepared prepare(InstructionSet, bool) const override {
        return {[count = reads.size()](const Call& call) {
                    std::int64_t first = 0;  // of the output's channels
                    for (std::size_t which = 0; which < count; ++which) {
                        const View input = call.read(which);
                        const std::int64_t end = std::min(call.part.end, first + input.channels);
                        for (std::int64_t at = std::max(call.part.begin, first); at < end; ++at)
                            copy_channel(input, at - first, call.output, at);
                        first += input.channels;
                    }
                },
                0.1};
    }
};

GOSSAMER_OPERATOR("concatenate", Concatenate)

}  // namespace
}  // namespace gossamer
