// Values side by side along one of their axes.
#include <algorithm>
#include <utility>

#include "ops/moving.hpp"

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
    explicit Concatenate(Fields& fields) : axis_(fields.take<std::int64_t>("axis", 0)) {}

    std::size_t arity() const override { return 0; }

    Shape check(const Check& check) override {
        Sizes all = taken[0].sizes();
        check.require(axis_ >= 0 && axis_ < static_cast<std::int64_t>(all.size()),
                      "axis must be one of the values that it joins");
        const auto along = static_cast<std::size_t>(axis_);
        std::int64_t total = 0;
        for (const Shape& shape : taken) {
            Sizes sizes = shape.sizes();
            check.require(sizes.size() == all.size(), "must join values of as many axes");
            total += std::exchange(sizes[along], all[along]);
            check.require(sizes == all, "must join values that differ along its axis alone");
            check.require(total <= most_numbers, "joins too much along its axis");
        }
        all[along] = total;
        return check.shape(all);
    }

    Prepared prepare(InstructionSet set, bool) const override {
        return axis_ == 0 ? by_channels() : along_axis(set);
    }

  private:
    Prepared by_channels() const {
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

    // What has another axis than the first is no value of features.
    Prepared along_axis(InstructionSet set) const {
        return {[set, axis = axis_, taken = taken, given = given](const Call& call) {
                    Strided output = of_example(call.output, given, 0);
                    for (std::size_t which = 0; which < taken.size(); ++which) {
                        const Strided from = of_example(call.read(which), taken[which], 0);
                        output.sizes[axis] = from.sizes[axis];
                        copy_numbers(from, output, call.output.pixel, set);
                        output.data += from.sizes[axis] * output.strides[axis];
                    }
                },
                0.0};
    }

    std::int64_t axis_;
};

GOSSAMER_OPERATOR("concatenate", Concatenate)

}  // namespace
}  // namespace gossamer
