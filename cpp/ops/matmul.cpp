// Products of matrices that are computed, both of them.
#include "core/plain.hpp"
#include "simd/dispatch.hpp"

namespace gossamer {

// One matrix times another: [rows][inner] times [inner][columns]; of one example, or of as many
// side by side as a vector has lanes.
struct MatmulTask {
    const float* left;
    const float* right;
    float* output;
    std::int64_t rows, inner, columns, lanes;
    std::ptrdiff_t left_row, left_inner, right_inner, right_column, output_row, output_column;
};

using MatmulLoop = void (*)(const MatmulTask&);

GOSSAMER_DECLARE(MatmulLoop, matmul_loop)

}  // namespace gossamer

#ifdef GOSSAMER_INSTRUCTION_SET
#include "simd/vectors.hpp"

namespace gossamer {
namespace {

constexpr int rows_at_once = 4;
constexpr int vectors_at_once = 2;

// Some rows of the left times some vectors of columns, which lie side by side.
template <int rows, int vectors>
GOSSAMER_INLINE void tile(const MatmulTask& task, int64_t row, int64_t column) {
    Sums<vectors> sums[rows] = {};
    const float* left = task.left + row * task.left_row;
    const float* right = task.right + column;
    for (int64_t at = 0; at < task.inner; ++at) {
        Sums<vectors> values;
#pragma GCC unroll 2
        for (int v = 0; v < vectors; ++v)
            values.at[v] = load_any<Vector>(right + at * task.right_inner + v * width);
#pragma GCC unroll 4
        for (int r = 0; r < rows; ++r) {
            const Vector factor = broadcast(left[r * task.left_row + at * task.left_inner]);
#pragma GCC unroll 2
            for (int v = 0; v < vectors; ++v) sums[r].at[v] += factor * values.at[v];
        }
    }
#pragma GCC unroll 4
    for (int r = 0; r < rows; ++r) {
        float* to = task.output + (row + r) * task.output_row + column;
#pragma GCC unroll 2
        for (int v = 0; v < vectors; ++v) store_any(to + v * width, sums[r].at[v]);
    }
}

template <int rows>
GOSSAMER_INLINE int64_t tiles(const MatmulTask& task, int64_t row) {
    int64_t column = 0;
    for (; column + vectors_at_once * width <= task.columns; column += vectors_at_once * width)
        tile<rows, vectors_at_once>(task, row, column);
    for (; column + width <= task.columns; column += width) tile<rows, 1>(task, row, column);
    return column;
}

// Some rows times some columns of as many examples as a vector has lanes.
struct OfExamples {
    template <int rows, int columns>
    static GOSSAMER_INLINE void tile(const MatmulTask& task, int64_t row, int64_t column);
};

template <int rows, int columns>
GOSSAMER_INLINE void OfExamples::tile(const MatmulTask& task, int64_t row, int64_t column) {
    Sums<columns> sums[rows] = {};
    const float* left = task.left + row * task.left_row;
    const float* right = task.right + column * task.right_column;
    for (int64_t at = 0; at < task.inner; ++at) {
        Sums<columns> values;
#pragma GCC unroll 4
        for (int c = 0; c < columns; ++c)
            values.at[c] = load_any<Vector>(right + at * task.right_inner + c * task.right_column);
#pragma GCC unroll 4
        for (int r = 0; r < rows; ++r) {
            const Vector factor = load_any<Vector>(left + r * task.left_row + at * task.left_inner);
#pragma GCC unroll 4
            for (int c = 0; c < columns; ++c) sums[r].at[c] += factor * values.at[c];
        }
    }
#pragma GCC unroll 4
    for (int r = 0; r < rows; ++r) {
        float* to = task.output + (row + r) * task.output_row + column * task.output_column;
#pragma GCC unroll 4
        for (int c = 0; c < columns; ++c) store_any(to + c * task.output_column, sums[r].at[c]);
    }
}

// Some rows times some columns, both of which lie in a row: sums go along them.
struct OfRows {
    template <int rows, int columns>
    static GOSSAMER_INLINE void tile(const MatmulTask& task, int64_t row, int64_t column);
};

template <int rows, int columns>
GOSSAMER_INLINE void OfRows::tile(const MatmulTask& task, int64_t row, int64_t column) {
    Sums<columns> sums[rows] = {};
    const float* left = task.left + row * task.left_row;
    const float* right = task.right + column * task.right_column;
    const auto add = [&](auto load, int64_t at) GOSSAMER_LAMBDA_INLINE {
        Sums<columns> values;
#pragma GCC unroll 4
        for (int c = 0; c < columns; ++c) values.at[c] = load(right + c * task.right_column + at);
#pragma GCC unroll 4
        for (int r = 0; r < rows; ++r) {
            const Vector factor = load(left + r * task.left_row + at);
#pragma GCC unroll 4
            for (int c = 0; c < columns; ++c) sums[r].at[c] += factor * values.at[c];
        }
    };
    int64_t at = 0;
    for (; at + width <= task.inner; at += width)
        add([](const float* from) GOSSAMER_LAMBDA_INLINE { return load_any<Vector>(from); }, at);
    if (const int64_t rest = task.inner - at; rest > 0)
        add([rest](const float* from) GOSSAMER_LAMBDA_INLINE { return load_first(from, rest); },
            at);
    for (int r = 0; r < rows; ++r)
        for (int c = 0; c < columns; ++c) {
            float total = 0.0f;
            for (int lane = 0; lane < width; ++lane) total += sums[r].at[c][lane];
            task.output[(row + r) * task.output_row + (column + c) * task.output_column] = total;
        }
}

// All rows and columns, four by four, and one by one what is left over.
template <typename Tiles>
GOSSAMER_INLINE void in_squares(const MatmulTask& task) {
    const int64_t rows = task.rows - task.rows % 4, columns = task.columns - task.columns % 4;
    for (int64_t row = 0; row < task.rows; row += row < rows ? 4 : 1)
        for (int64_t column = 0; column < task.columns;) {
            if (row < rows && column < columns) {
                Tiles::template tile<4, 4>(task, row, column);
                column += 4;
            } else {
                for (int64_t at = row; at < (row < rows ? row + 4 : row + 1); ++at)
                    Tiles::template tile<1, 1>(task, at, column);
                ++column;
            }
        }
}

// One number of one example; what vectors leave over, and all where nothing is adjacent.
GOSSAMER_INLINE void alone(const MatmulTask& task, int64_t row, int64_t column) {
    const float* left = task.left + row * task.left_row;
    const float* right = task.right + column * task.right_column;
    constexpr int sums_at_once = 8;
    float sums[sums_at_once] = {};
    int64_t at = 0;
    for (; at + sums_at_once <= task.inner; at += sums_at_once)
        for (int n = 0; n < sums_at_once; ++n)
            sums[n] += left[(at + n) * task.left_inner] * right[(at + n) * task.right_inner];
    for (; at < task.inner; ++at)
        sums[0] += left[at * task.left_inner] * right[at * task.right_inner];
    float total = 0.0f;
    for (int n = 0; n < sums_at_once; ++n) total += sums[n];
    task.output[row * task.output_row + column * task.output_column] = total;
}

// All of one example, whose columns of the right and of the output may lie side by side.
void multiply_alone(const MatmulTask& task) {
    const bool adjacent = task.right_column == 1 && task.output_column == 1;
    for (int64_t row = 0; row < task.rows;) {
        const int64_t some = adjacent && row + rows_at_once <= task.rows ? rows_at_once : 1;
        int64_t done = 0;
        if (adjacent) done = some > 1 ? tiles<rows_at_once>(task, row) : tiles<1>(task, row);
        for (int64_t end = row + some; row < end; ++row)
            for (int64_t column = done; column < task.columns; ++column) alone(task, row, column);
    }
}

void multiply(const MatmulTask& task) {
    if (task.lanes > 1)
        in_squares<OfExamples>(task);
    else if (task.left_inner == 1 && task.right_inner == 1)
        in_squares<OfRows>(task);
    else
        multiply_alone(task);
}

}  // namespace

GOSSAMER_EXPORT(MatmulLoop, matmul_loop, multiply)

}  // namespace gossamer

#else
#include <algorithm>

#include "ops/layer.hpp"

namespace gossamer {
namespace {

class Matmul final : public Layer {
  public:
    explicit Matmul(Fields& fields)
        : transposed_{fields.take<bool>("left_transposed", false),
                      fields.take<bool>("right_transposed", false)} {}

    std::size_t arity() const override { return 2; }

    Shape check(const Check& check) override {
        const Sizes left = sizes_of(0), right = sizes_of(1);
        check.require(left.size() == right.size() && left.size() >= 2,
                      "must read values of as many axes, two or more");
        const std::size_t last = left.size() - 1;
        check.require(left[last] == right[last - 1],
                      "the left must have as many columns as the right has rows");
        Sizes found = left;
        for (std::size_t axis = 0; axis + 1 < last; ++axis) {
            check.require(left[axis] == right[axis] || left[axis] == 1 || right[axis] == 1,
                          "must read values whose lengths before the last two are the same or 1");
            found[axis] = std::max(left[axis], right[axis]);
        }
        found[last] = right[last];
        return check.shape(found);
    }

    Prepared prepare(InstructionSet set, bool) const override {
        const MatmulLoop loop = matmul_loop(set);
        const auto inner = static_cast<double>(sizes_of(0).back());
        return {[this, loop, held = shared_from_this()](const Call& call) {
                    const Strided output = of_example(call.output, given, 0);
                    const Strided left = read(call, 0), right = read(call, 1);
                    const int last = output.rank - 1;
                    MatmulTask task{};
                    task.rows = output.sizes[last - 1];
                    task.columns = output.sizes[last];
                    task.inner = left.sizes[last];
                    task.lanes = call.output.pixel;
                    task.left_row = left.strides[last - 1];
                    task.left_inner = left.strides[last];
                    task.right_inner = right.strides[last - 1];
                    task.right_column = right.strides[last];
                    task.output_row = output.strides[last - 1];
                    task.output_column = output.strides[last];
                    Range matrices{0, output.count(0, last - 1)};
                    if (last == 1) {  // parts are of its rows
                        task.rows = call.part.end - call.part.begin;
                    } else {
                        const std::int64_t each = output.count(1, last - 1);
                        matrices = {call.part.begin * each, call.part.end * each};
                    }
                    const std::int64_t first = last == 1 ? call.part.begin : 0;
                    for (std::int64_t at = matrices.begin; at < matrices.end; ++at) {
                        task.left = left.data + offset(left, output, at) + first * task.left_row;
                        task.right = right.data + offset(right, output, at);
                        task.output =
                            output.data + output.offset(at, 0, last - 1) + first * task.output_row;
                        loop(task);
                    }
                },
                0.1 * inner};
    }

  private:
    // The axes as they are multiplied: rows before columns.
    Sizes sizes_of(std::size_t which) const {
        Sizes sizes = taken[which].sizes();
        if (transposed_[which] && sizes.size() >= 2)
            std::swap(sizes[sizes.size() - 1], sizes[sizes.size() - 2]);
        return sizes;
    }

    Strided read(const Call& call, std::size_t which) const {
        Strided found = of_example(call.read(which), taken[which], 0);
        if (transposed_[which]) {
            std::swap(found.sizes[found.rank - 1], found.sizes[found.rank - 2]);
            std::swap(found.strides[found.rank - 1], found.strides[found.rank - 2]);
        }
        return found;
    }

    // Where a matrix lies, by its number in the output; axes of length 1 are repeated.
    static std::ptrdiff_t offset(const Strided& of, const Strided& output, std::int64_t number) {
        std::ptrdiff_t found = 0;
        for (int axis = output.rank - 2; axis-- > 0; number /= output.sizes[axis])
            if (of.sizes[axis] > 1) found += number % output.sizes[axis] * of.strides[axis];
        return found;
    }

    bool transposed_[2];
};

GOSSAMER_OPERATOR("matmul", Matmul)

}  // namespace
}  // namespace gossamer
#endif
