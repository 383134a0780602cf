// What lies at given places along one axis; a place may be taken more than once.
#include <numeric>

#include "ops/moving.hpp"

namespace gossamer {
namespace {

class Take final : public Moving {
  public:
    explicit Take(Fields& fields)
        : axis_(fields.take<std::int64_t>("axis")), indices_(fields.take<Sizes>("indices")) {}

    Shape check(const Check& check) override {
        Sizes sizes = taken[0].sizes();
        check.require(axis_ >= 0 && axis_ < static_cast<std::int64_t>(sizes.size()),
                      "axis must be one of the value that it reads");
        std::int64_t& size = sizes[static_cast<std::size_t>(axis_)];
        for (const std::int64_t index : indices_)
            check.require(index >= 0 && index < size, "indices must lie within the axis");
        size = static_cast<std::int64_t>(indices_.size());
        walk.axes.resize(sizes.size());
        std::iota(walk.axes.begin(), walk.axes.end(), 0);
        walk.table_axis = static_cast<int>(axis_);
        walk.table = indices_;
        return check.shape(sizes);
    }

  private:
    std::int64_t axis_;
    Sizes indices_;
};

GOSSAMER_OPERATOR("take", Take)

}  // namespace
}  // namespace gossamer
