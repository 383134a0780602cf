// What lies at computed places along an axis.
#include <algorithm>
#include <cmath>
#include <limits>

#include "core/refusals.hpp"
#include "ops/layer.hpp"

namespace gossamer {
namespace {

// Lengths of 1 are repeated: their strides are 0.
struct Gathering {
    Strided input, places, output;
    int axis;
    bool from_end;

    void run(int at, const float* from, const float* place, float* to) const {
        if (at == output.rank) {
            *to = found(from, *place);
            return;
        }
        // The place is known at the last axis only; along `axis` what is read begins at 0.
        const std::ptrdiff_t step = at == axis ? 0 : input.strides[at];
        for (std::int64_t number = 0; number < output.sizes[at]; ++number)
            run(at + 1, from + number * step, place + number * places.strides[at],
                to + number * output.strides[at]);
    }

    float found(const float* from, float place) const {
        const std::int64_t length = input.sizes[axis];
        const auto size = static_cast<float>(length);
        // A place that is not there gives NaN and is noted; who calls refuses it.
        if (!(place >= (from_end ? -size : 0.0f) && place < size && place == std::floor(place))) {
            note_refusal();
            return std::numeric_limits<float>::quiet_NaN();
        }
        const auto whole = static_cast<std::int64_t>(place);
        return from[(whole < 0 ? whole + length : whole) * input.strides[axis]];
    }
};

class Gather final : public Layer {
  public:
    explicit Gather(Fields& fields)
        : axis_(fields.take<std::int64_t>("axis")), from_end_(fields.take<bool>("from_end")) {}

    std::size_t arity() const override { return 2; }

    Shape check(const Check& check) override {
        Sizes sizes = taken[0].sizes();
        const Sizes others = taken[1].sizes();
        check.require(sizes.size() == others.size(), "must read values of as many axes");
        check.require(axis_ >= 0 && axis_ < static_cast<std::int64_t>(sizes.size()),
                      "axis must be one of the value that it reads");
        for (std::size_t at = 0; at < sizes.size(); ++at) {
            const bool along = static_cast<std::int64_t>(at) == axis_;
            check.require(along || sizes[at] == others[at] || sizes[at] == 1 || others[at] == 1,
                          "must read values whose lengths are the same or 1");
            sizes[at] = along ? others[at] : std::max(sizes[at], others[at]);
        }
        return check.shape(sizes);
    }

    void run(const Strided* inputs, const Strided& output) const override {
        Gathering task{inputs[0], inputs[1], output, static_cast<int>(axis_), from_end_};
        for (int at = 0; at < output.rank; ++at) {
            if (task.input.sizes[at] == 1) task.input.strides[at] = 0;
            if (task.places.sizes[at] == 1) task.places.strides[at] = 0;
        }
        task.run(0, task.input.data, task.places.data, output.data);
    }

  private:
    std::int64_t axis_;
    bool from_end_;
};

GOSSAMER_OPERATOR("gather", Gather)

}  // namespace
}  // namespace gossamer
