// Axes of length 1 repeated.
#include "ops/moving.hpp"

namespace gossamer {
namespace {

class Expand final : public Moving {
  public:
    explicit Expand(Fields& fields) : shape_(fields.take<Sizes>("shape")) {}

    Shape check(const Check& check) override {
        const Sizes sizes = taken[0].sizes();
        check.require(sizes.size() == shape_.size(), "shape must have the axes of what it reads");
        for (std::size_t axis = 0; axis < sizes.size(); ++axis) {
            check.require(sizes[axis] == shape_[axis] || sizes[axis] == 1,
                          "only an axis of length 1 can be repeated");
            walk.axes.push_back(sizes[axis] == 1 ? -1 : static_cast<int>(axis));
        }
        return check.shape(shape_);
    }

  private:
    Sizes shape_;
};

GOSSAMER_OPERATOR("expand", Expand)

}  // namespace
}  // namespace gossamer
