// The same numbers for every example.
#include <algorithm>

#include "ops/layer.hpp"

namespace gossamer {
namespace {

class Constant final : public Layer {
  public:
    explicit Constant(Fields& fields)
        : numbers_(fields.take<Floats>("numbers")), sizes_(fields.take<Sizes>("shape")) {}

    Shape check(const Check& check) override {
        const Shape shape = check.shape(sizes_);
        check.require(shape.size() == static_cast<std::int64_t>(numbers_.size()),
                      "numbers must be as many as its shape holds");
        return shape;
    }

    Prepared prepare(InstructionSet, bool) const override {
        return {[this, kept = shared_from_this()](const Call& call) {
            const std::int64_t lanes = call.output.pixel;
            const std::int64_t groups = given.image ? 1 : call.output.pixels;
            for (std::int64_t group = 0; group < groups; ++group) {
                const Strided output = of_example(call.output, given, group * lanes);
                write(numbers_.data(), output, 0, output.data, lanes);
            }
        }};
    }

  private:
    // Writes the numbers along an axis and those behind it; returns the first one that is left.
    static const float* write(const float* from, const Strided& output, int axis, float* to,
                              std::int64_t lanes) {
        const std::int64_t size = output.sizes[axis];
        const std::ptrdiff_t apart = output.strides[axis];
        const bool last = axis == output.rank - 1;
        if (last && lanes == 1 && apart == 1) {
            std::copy_n(from, size, to);
            return from + size;
        }
        for (std::int64_t at = 0; at < size; ++at)
            if (last)
                std::fill_n(to + at * apart, lanes, *from++);
            else
                from = write(from, output, axis + 1, to + at * apart, lanes);
        return from;
    }

    Floats numbers_;
    Sizes sizes_;
};

GOSSAMER_OPERATOR("constant", Constant)

}  // namespace
}  // namespace gossamer
