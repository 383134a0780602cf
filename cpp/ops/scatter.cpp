// Numbers that are put at computed places along an axis.
#include <cmath>

#include "core/refusals.hpp"
#include "ops/layer.hpp"

namespace gossamer {
namespace {

class Scatter final : public Layer {
  public:
    explicit Scatter(Fields& fields) : axis_(fields.take<std::int64_t>("axis")) {}

    std::size_t arity() const override { return 3; }

    Shape check(const Check& check) override {
        const Sizes sizes = taken[0].sizes(), places = taken[1].sizes(), source = taken[2].sizes();
        check.require(axis_ >= 0 && axis_ < static_cast<std::int64_t>(sizes.size()),
                      "axis must be one of the value that it reads");
        check.require(sizes.size() == places.size() && sizes.size() == source.size(),
                      "must read values of as many axes");
        for (std::size_t at = 0; at < sizes.size(); ++at) {
            check.require(static_cast<std::int64_t>(at) == axis_ || places[at] == sizes[at],
                          "places must have the lengths of the value along other axes");
            check.require(source[at] == 1 || source[at] == places[at],
                          "the source must have the lengths of the places, or 1");
        }
        return taken[0];
    }

    void run(const Strided* inputs, const Strided& output) const override {
        const Strided &input = inputs[0], &places = inputs[1];
        Strided source = inputs[2];
        for (int at = 0; at < source.rank; ++at)
            if (source.sizes[at] == 1) {
                source.sizes[at] = places.sizes[at];
                source.strides[at] = 0;
            }
        const std::int64_t all = input.count(0, input.rank);
        for (std::int64_t at = 0; at < all; ++at)
            output.data[output.offset(at, 0, output.rank)] =
                input.data[input.offset(at, 0, input.rank)];
        const int axis = static_cast<int>(axis_);
        const std::int64_t before = places.count(0, axis),
                           behind = places.count(axis + 1, places.rank);
        const auto of = [&](const Strided& value, std::int64_t row, std::int64_t column) {
            return value.data + value.offset(row, 0, axis) +
                   value.offset(column, axis + 1, value.rank);
        };
        for (std::int64_t row = 0; row < before; ++row) {
            for (std::int64_t column = 0; column < behind; ++column) {
                const float* place = of(places, row, column);
                const float* from = of(source, row, column);
                float* to = of(output, row, column);
                for (std::int64_t at = 0; at < places.sizes[axis]; ++at) {
                    const float number = place[at * places.strides[axis]];
                    const bool sound = number >= 0.0f && number == std::floor(number) &&
                                       number < static_cast<float>(output.sizes[axis]);
                    if (sound)
                        to[static_cast<std::int64_t>(number) * output.strides[axis]] =
                            from[at * source.strides[axis]];
                    else
                        note_refusal();  // who calls refuses it
                }
            }
        }
    }

  private:
    std::int64_t axis_;
};

GOSSAMER_OPERATOR("scatter", Scatter)

}  // namespace
}  // namespace gossamer
