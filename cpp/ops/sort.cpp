// The largest or smallest numbers along an axis in their order, or the places where they lie.
#include <algorithm>
#include <cmath>
#include <vector>

#include "ops/layer.hpp"

namespace gossamer {
namespace {

struct Entry {
    float number;
    std::int32_t place;
};

// NaN counts as larger than all numbers, and of those alike the first comes first.
bool is_less(float left, float right) {
    return left < right || (std::isnan(right) && !std::isnan(left));
}

bool ascends(const Entry& left, const Entry& right) {
    if (is_less(left.number, right.number)) return true;
    return !is_less(right.number, left.number) && left.place < right.place;
}

bool descends(const Entry& left, const Entry& right) {
    if (is_less(right.number, left.number)) return true;
    return !is_less(left.number, right.number) && left.place < right.place;
}

class Sort final : public Layer {
  public:
    explicit Sort(Fields& fields)
        : axis_(fields.take<std::int64_t>("axis")),
          start_(fields.take<std::int64_t>("start")),
          length_(fields.take<std::int64_t>("length")),
          descending_(fields.take<bool>("descending")),
          places_(fields.take<bool>("places")) {}

    Shape check(const Check& check) override {
        Sizes sizes = taken[0].sizes();
        check.require(axis_ >= 0 && axis_ < static_cast<std::int64_t>(sizes.size()),
                      "axis must be one of the value that it reads");
        std::int64_t& size = sizes[static_cast<std::size_t>(axis_)];
        check.require(start_ >= 0 && length_ >= 1 && start_ < size && length_ <= size - start_,
                      "must take some of the numbers along the axis");
        size = length_;
        return check.shape(sizes);
    }

    void run(const Strided* inputs, const Strided& output) const override {
        const Strided& input = inputs[0];
        const int axis = static_cast<int>(axis_);
        const std::int64_t before = input.count(0, axis), size = input.sizes[axis],
                           behind = input.count(axis + 1, input.rank);
        thread_local std::vector<Entry> entries;
        entries.resize(static_cast<std::size_t>(size));
        for (std::int64_t row = 0; row < before; ++row) {
            for (std::int64_t column = 0; column < behind; ++column) {
                const float* from = input.data + input.offset(row, 0, axis) +
                                    input.offset(column, axis + 1, input.rank);
                for (std::int64_t at = 0; at < size; ++at)
                    entries[static_cast<std::size_t>(at)] = {from[at * input.strides[axis]],
                                                             static_cast<std::int32_t>(at)};
                std::partial_sort(entries.begin(), entries.begin() + start_ + length_,
                                  entries.end(), descending_ ? descends : ascends);
                float* to = output.data + output.offset(row, 0, axis) +
                            output.offset(column, axis + 1, output.rank);
                for (std::int64_t at = 0; at < length_; ++at) {
                    const Entry& one = entries[static_cast<std::size_t>(start_ + at)];
                    to[at * output.strides[axis]] =
                        places_ ? static_cast<float>(one.place) : one.number;
                }
            }
        }
    }

  private:
    std::int64_t axis_, start_, length_;
    bool descending_, places_;
};

GOSSAMER_OPERATOR("sort", Sort)

}  // namespace
}  // namespace gossamer
