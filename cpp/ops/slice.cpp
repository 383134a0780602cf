// Every so many of the numbers along one axis.
#include <numeric>

#include "ops/moving.hpp"

namespace gossamer {
namespace {

class Slice final : public Moving {
  public:
    explicit Slice(Fields& fields)
        : axis_(fields.take<std::int64_t>("axis")),
          start_(fields.take<std::int64_t>("start")),
          length_(fields.take<std::int64_t>("length")),
          step_(fields.take<std::int64_t>("step", 1)) {}

    Shape check(const Check& check) override {
        Sizes sizes = taken[0].sizes();
        check.require(axis_ >= 0 && axis_ < static_cast<std::int64_t>(sizes.size()),
                      "axis must be one of the value that it reads");
        std::int64_t& size = sizes[static_cast<std::size_t>(axis_)];
        check.require(start_ >= 0 && start_ < size && length_ >= 1 && length_ <= size &&
                          step_ >= 1 && step_ <= most_numbers &&
                          start_ + (length_ - 1) * step_ < size,
                      "a slice must lie within the axis that it reads");
        size = length_;
        walk.axes.resize(sizes.size());
        std::iota(walk.axes.begin(), walk.axes.end(), 0);
        walk.first.assign(sizes.size(), 0);
        walk.steps.assign(sizes.size(), 1);
        walk.first[static_cast<std::size_t>(axis_)] = start_;
        walk.steps[static_cast<std::size_t>(axis_)] = step_;
        return check.shape(sizes);
    }

  private:
    std::int64_t axis_, start_, length_, step_;
};

GOSSAMER_OPERATOR("slice", Slice)

}  // namespace
}  // namespace gossamer
