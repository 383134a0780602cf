// One number of all that lie along some axes: sums, means, extremes, norms.
#include <cmath>
#include <limits>
#include <map>
#include <string>

#include "ops/layer.hpp"

namespace gossamer {
namespace {

enum class Reduction { argmax, argmin, maximum, mean, minimum, norm, product, sum, variance };

const std::map<std::string, Reduction> reductions = {
    {"argmax", Reduction::argmax},     {"argmin", Reduction::argmin},
    {"maximum", Reduction::maximum},   {"mean", Reduction::mean},
    {"minimum", Reduction::minimum},   {"norm", Reduction::norm},
    {"product", Reduction::product},   {"sum", Reduction::sum},
    {"variance", Reduction::variance},
};

// Visits the numbers along some axes in their order.
template <typename Visit>
void visit(const Strided& value, const bool* along, int axis, const float* at, const Visit& each) {
    if (axis == value.rank) return each(*at);
    const std::int64_t size = along[axis] ? value.sizes[axis] : 1;
    for (std::int64_t number = 0; number < size; ++number)
        visit(value, along, axis + 1, at + number * value.strides[axis], each);
}

class Reduce final : public Layer {
  public:
    explicit Reduce(Fields& fields)
        : name_(fields.take<std::string>("reduction")), axes_(fields.take<Sizes>("axes")) {}

    Shape check(const Check& check) override {
        const auto found = reductions.find(name_);
        check.require(found != reductions.end(), "\"" + name_ + "\" is no reduction");
        reduction_ = found->second;
        Sizes sizes = taken[0].sizes();
        const bool places = reduction_ == Reduction::argmax || reduction_ == Reduction::argmin;
        check.require(!axes_.empty() && (!places || axes_.size() == 1),
                      "axes must be one or more, and one for the place of an extreme");
        count_ = 1;
        for (const std::int64_t axis : axes_) {
            check.require(
                axis >= 0 && axis < static_cast<std::int64_t>(sizes.size()) && !over_[axis],
                "axes must each be one of the value that it reads");
            over_[axis] = true;
            std::int64_t& size = sizes[static_cast<std::size_t>(axis)];
            count_ *= size;
            size = 1;
        }
        return check.shape(sizes);
    }

    void run(const Strided* inputs, const Strided& output) const override {
        reduce(inputs[0], output, 0, inputs[0].data, output.data);
    }

  private:
    void reduce(const Strided& input, const Strided& output, int axis, const float* from,
                float* to) const {
        if (axis == output.rank) {
            *to = reduced(input, from);
            return;
        }
        for (std::int64_t at = 0; at < output.sizes[axis]; ++at)
            reduce(input, output, axis + 1, from + at * input.strides[axis],
                   to + at * output.strides[axis]);
    }

    float reduced(const Strided& input, const float* from) const {
        switch (reduction_) {
            case Reduction::argmax: return place(input, from, 1.0f);
            case Reduction::argmin: return place(input, from, -1.0f);
            case Reduction::maximum: return extreme(input, from, 1.0f);
            case Reduction::minimum: return -extreme(input, from, -1.0f);
            default: return static_cast<float>(total(input, from));
        }
    }

    // The largest number times a sign; NaN where there is one.
    float extreme(const Strided& input, const float* from, float sign) const {
        float found = -std::numeric_limits<float>::infinity();
        visit(input, over_, 0, from, [&](float number) {
            const float value = sign * number;
            if (value > found || value != value) found = value;  // and nothing is above NaN
        });
        return found;
    }

    // The first place of the largest number times a sign, or of the first NaN.
    float place(const Strided& input, const float* from, float sign) const {
        float largest = 0.0f;
        std::int64_t at = 0, found = 0;
        visit(input, over_, 0, from, [&](float number) {
            const float value = sign * number;
            const bool first_nan = value != value && largest == largest;
            if (at == 0 || value > largest || first_nan) {
                largest = value;
                found = at;
            }
            ++at;
        });
        return static_cast<float>(found);
    }

    double total(const Strided& input, const float* from) const {
        const bool product = reduction_ == Reduction::product, norm = reduction_ == Reduction::norm;
        double sum = product ? 1.0 : 0.0;
        visit(input, over_, 0, from, [&](float number) {
            const double value = number;
            sum = product ? sum * value : sum + (norm ? value * value : value);
        });
        if (norm) return std::sqrt(sum);
        const double mean = sum / static_cast<double>(count_);
        if (reduction_ == Reduction::mean) return mean;
        if (reduction_ != Reduction::variance) return sum;
        double squares = 0.0;
        visit(input, over_, 0, from, [&](float number) {
            const double value = number - mean;
            squares += value * value;
        });
        return squares / static_cast<double>(count_);
    }

    std::string name_;
    Sizes axes_;
    Reduction reduction_ = Reduction::sum;
    bool over_[most_axes] = {};
    std::int64_t count_ = 1;
};

GOSSAMER_OPERATOR("reduce", Reduce)

}  // namespace
}  // namespace gossamer
