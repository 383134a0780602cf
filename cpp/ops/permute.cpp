// The axes of a value in another order.
#include <algorithm>

#include "ops/moving.hpp"

namespace gossamer {
namespace {

class Permute final : public Moving {
  public:
    explicit Permute(Fields& fields) : order_(fields.take<Sizes>("order")) {}

    Shape check(const Check& check) override {
        const Sizes sizes = taken[0].sizes();
        Sizes sorted = order_, found;
        std::sort(sorted.begin(), sorted.end());
        bool sound = sorted.size() == sizes.size();
        for (std::size_t axis = 0; sound && axis < sorted.size(); ++axis)
            sound = sorted[axis] == static_cast<std::int64_t>(axis);
        check.require(sound, "order must name each axis of the value that it reads once");
        for (const std::int64_t axis : order_) {
            found.push_back(sizes[static_cast<std::size_t>(axis)]);
            walk.axes.push_back(static_cast<int>(axis));
        }
        return check.shape(found);
    }

  private:
    Sizes order_;
};

GOSSAMER_OPERATOR("permute", Permute)

}  // namespace
}  // namespace gossamer
