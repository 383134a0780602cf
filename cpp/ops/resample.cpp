// A matrix times the numbers along one axis: interpolation, and means over windows of any size.
#include <utility>

#include "ops/layer.hpp"

namespace gossamer {
namespace {

struct Resampling {
    const Weights& matrix;
    int axis;
    int last;
    std::int64_t lanes;
    const Strided& from;
    const Strided& to;

    // Over the axes before the one that is resampled.
    void run(int at, const float* source, float* place) const {
        if (at == axis) return rows(source, place);
        for (std::int64_t number = 0; number < to.sizes[at]; ++number)
            run(at + 1, source + number * from.strides[at], place + number * to.strides[at]);
    }

    void rows(const float* source, float* place) const {
        const bool dense = matrix.kind == WeightsKind::dense;
        for (std::int64_t row = 0; row < matrix.rows; ++row) {
            float* const sums = place + row * to.strides[axis];
            add(axis + 1, source, 0.0f, sums, true);
            const std::int64_t begin = dense ? row * matrix.columns : matrix.starts[row];
            const std::int64_t end = dense ? begin + matrix.columns : matrix.starts[row + 1];
            for (std::int64_t tap = begin; tap < end; ++tap) {
                const std::int64_t column = dense ? tap - begin : matrix.indices[tap];
                add(axis + 1, source + column * from.strides[axis], matrix.values[tap], sums,
                    false);
            }
        }
    }

    // Over the axes behind it, and the examples that lie side by side.
    void add(int at, const float* source, float factor, float* sums, bool clear) const {
        if (at <= last) {
            const std::ptrdiff_t near = from.strides[at], far = to.strides[at];
            if (at == last && lanes == 1 && near == 1 && far == 1)
                add_row(source, factor, sums, to.sizes[at], clear);
            else
                for (std::int64_t number = 0; number < to.sizes[at]; ++number)
                    add(at + 1, source + number * near, factor, sums + number * far, clear);
        } else {
            add_row(source, factor, sums, lanes, clear);
        }
    }

    static void add_row(const float* source, float factor, float* sums, std::int64_t count,
                        bool clear) {
        for (std::int64_t at = 0; at < count; ++at)
            sums[at] = clear ? 0.0f : sums[at] + factor * source[at];
    }
};

class Resample final : public Layer {
  public:
    explicit Resample(Fields& fields)
        : axis_(fields.take<std::int64_t>("axis")), matrix_(fields.take<Weights>("matrix")) {}

    Shape check(const Check& check) override {
        Sizes sizes = taken[0].sizes();
        check.require(axis_ >= 0 && axis_ < static_cast<std::int64_t>(sizes.size()),
                      "axis must be one of the value that it reads");
        check.weights(matrix_);
        check.require(matrix_.kind != WeightsKind::block, "matrix must be dense or sparse");
        std::int64_t& size = sizes[static_cast<std::size_t>(axis_)];
        check.require(matrix_.columns == size, "matrix must have a column for each number");
        size = matrix_.rows;
        return check.shape(sizes);
    }

    Prepared prepare(InstructionSet, bool) const override {
        return {
            [matrix = matrix_, axis = axis_, taken = taken[0], given = given](const Call& call) {
                const View input = call.read(0);
                const std::int64_t lanes = call.output.pixel;
                const std::int64_t groups = given.image ? 1 : call.output.pixels;
                for (std::int64_t group = 0; group < groups; ++group) {
                    const Strided from = of_example(input, taken, group * lanes);
                    const Strided to = of_example(call.output, given, group * lanes);
                    const Resampling resampling{
                        matrix, static_cast<int>(axis), to.rank - 1, lanes, from, to};
                    resampling.run(0, from.data, to.data);
                }
            },
            0.0};
    }

  private:
    std::int64_t axis_;
    Weights matrix_;
};

GOSSAMER_OPERATOR("resample", Resample)

}  // namespace
}  // namespace gossamer
