// Functions of two computed numbers: gates, quotients, comparisons, the larger of both.
#include <algorithm>
#include <cmath>
#include <map>
#include <string>

#include "ops/layer.hpp"

namespace gossamer {
namespace {

// Over `count` numbers; a step of 0 repeats one of them.
using Row = void (*)(const float* left, std::ptrdiff_t left_step, const float* right,
                     std::ptrdiff_t right_step, float* to, std::int64_t count);

template <typename Of>
void each(const float* left, std::ptrdiff_t left_step, const float* right,
          std::ptrdiff_t right_step, float* to, std::int64_t count, const Of& of) {
    if (left_step == 1 && right_step == 1)
        for (std::int64_t at = 0; at < count; ++at) to[at] = of(left[at], right[at]);
    else if (left_step == 1 && right_step == 0)
        for (std::int64_t at = 0; at < count; ++at) to[at] = of(left[at], *right);
    else if (left_step == 0 && right_step == 1)
        for (std::int64_t at = 0; at < count; ++at) to[at] = of(*left, right[at]);
    else
        for (std::int64_t at = 0; at < count; ++at)
            to[at] = of(left[at * left_step], right[at * right_step]);
}

#define GOSSAMER_BINARY(expression)                                                                \
    [](const float* left, std::ptrdiff_t left_step, const float* right, std::ptrdiff_t right_step, \
       float* to, std::int64_t count) {                                                            \
        each(left, left_step, right, right_step, to, count,                                        \
             [](float a, float b) -> float { return expression; });                                \
    }

// The larger and the smaller number are written so that NaN stays NaN.
const std::map<std::string, Row>& rows() {
    static const std::map<std::string, Row> known = {
        {"add", GOSSAMER_BINARY(a + b)},
        {"divide", GOSSAMER_BINARY(a / b)},
        {"equal", GOSSAMER_BINARY(a == b ? 1.0f : 0.0f)},
        {"less", GOSSAMER_BINARY(a < b ? 1.0f : 0.0f)},
        {"less-equal", GOSSAMER_BINARY(a <= b ? 1.0f : 0.0f)},
        {"maximum", GOSSAMER_BINARY(a > b || a != a ? a : b)},
        {"minimum", GOSSAMER_BINARY(a < b || a != a ? a : b)},
        {"multiply", GOSSAMER_BINARY(a * b)},
        {"not-equal", GOSSAMER_BINARY(a != b ? 1.0f : 0.0f)},
        {"power", GOSSAMER_BINARY(std::pow(a, b))},
        {"subtract", GOSSAMER_BINARY(a - b)},
        {"unless", GOSSAMER_BINARY(b == 0.0f ? a : 0.0f)},
    };
    return known;
}

struct Walking {
    Row row;
    const Strided& left;
    const Strided& right;
    const Strided& output;
    std::int64_t lanes;  // of neighbours, which no operand repeats

    void run(int axis, const float* first, const float* second, float* to) const {
        const bool last = axis == output.rank - 1;
        const std::ptrdiff_t a = left.strides[axis], b = right.strides[axis];
        if (last && lanes == 1 && output.strides[axis] == 1)
            return row(first, a, second, b, to, output.sizes[axis]);
        if (last && a == lanes && b == lanes && output.strides[axis] == lanes)
            return row(first, 1, second, 1, to, output.sizes[axis] * lanes);
        for (std::int64_t at = 0; at < output.sizes[axis]; ++at) {
            float* const place = to + at * output.strides[axis];
            if (last)
                row(first + at * a, 1, second + at * b, 1, place, lanes);
            else
                run(axis + 1, first + at * a, second + at * b, place);
        }
    }
};

class Binary final : public Layer {
  public:
    explicit Binary(Fields& fields) : function_(fields.take<std::string>("function")) {}

    std::size_t arity() const override { return 2; }

    Shape check(const Check& check) override {
        check.require(rows().count(function_) > 0, "\"" + function_ + "\" is no function");
        Sizes sizes = taken[0].sizes();
        const Sizes others = taken[1].sizes();
        check.require(sizes.size() == others.size(), "must read values of as many axes");
        for (std::size_t axis = 0; axis < sizes.size(); ++axis) {
            check.require(sizes[axis] == others[axis] || sizes[axis] == 1 || others[axis] == 1,
                          "must read values whose lengths are the same or 1");
            sizes[axis] = std::max(sizes[axis], others[axis]);
        }
        return check.shape(sizes);
    }

    Prepared prepare(InstructionSet, bool) const override {
        return {[row = rows().at(function_), taken = taken, given = given](const Call& call) {
                    const std::int64_t lanes = call.output.pixel;
                    const std::int64_t groups = given.image ? 1 : call.output.pixels;
                    for (std::int64_t group = 0; group < groups; ++group) {
                        Strided output = of_example(call.output, given, group * lanes);
                        Strided inputs[2];
                        for (std::size_t which = 0; which < 2; ++which) {
                            Strided& input = inputs[which];
                            input = of_example(call.read(which), taken[which], group * lanes);
                            for (int axis = 0; axis < output.rank; ++axis)
                                if (input.sizes[axis] == 1) input.strides[axis] = 0;
                            input.data += call.part.begin * input.strides[0];
                        }
                        output.data += call.part.begin * output.strides[0];
                        output.sizes[0] = call.part.end - call.part.begin;
                        Walking{row, inputs[0], inputs[1], output, lanes}.run(
                            0, inputs[0].data, inputs[1].data, output.data);
                    }
                },
                0.3};
    }

  private:
    std::string function_;
};

GOSSAMER_OPERATOR("binary", Binary)

}  // namespace
}  // namespace gossamer
