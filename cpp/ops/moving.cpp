// Numbers that only change their place: the walk over them, and the squares that are turned.
#include "core/plain.hpp"
#include "simd/dispatch.hpp"

namespace gossamer {

// Rows become columns: to[row * far + column] = from[column * near + row].
using TurnLoop = void (*)(const float* from, std::ptrdiff_t near, std::int64_t rows,
                          std::int64_t columns, float* to, std::ptrdiff_t far);

GOSSAMER_DECLARE(TurnLoop, turn_loop)

}  // namespace gossamer

#ifdef GOSSAMER_INSTRUCTION_SET
#include "simd/transpose.hpp"

namespace gossamer {
namespace {

// In squares whose lines all stay in the first cache.
void turn(const float* from, std::ptrdiff_t near, std::int64_t rows, std::int64_t columns,
          float* to, std::ptrdiff_t far) {
    constexpr int64_t square = 16;
    for (int64_t row = 0; row < rows; row += square) {
        const int64_t count = least(square, rows - row);
        int64_t column = 0;
        for (; column + width <= columns; column += width)
            take_numbers(from + column * near + row, width, near, count, to + row * far + column,
                         width, far);
        if (column == columns) continue;
        alignas(64) float turned[square * width];
        take_numbers(from + column * near + row, columns - column, near, count, turned, width,
                     width);
        for (int64_t r = 0; r < count; ++r)
            store_first(to + (row + r) * far + column, load(turned + r * width), columns - column);
    }
}

}  // namespace

GOSSAMER_EXPORT(TurnLoop, turn_loop, turn)

}  // namespace gossamer

#else
#include "ops/moving.hpp"

#include <algorithm>

namespace gossamer {
namespace {

void copy(const float* from, std::ptrdiff_t from_stride, float* to, std::ptrdiff_t to_stride,
          std::int64_t count, std::int64_t lanes) {
    if (from_stride == lanes && to_stride == lanes)
        std::copy_n(from, count * lanes, to);
    else if (lanes == 1)
        for (std::int64_t at = 0; at < count; ++at) to[at * to_stride] = from[at * from_stride];
    else
        for (std::int64_t at = 0; at < count; ++at)
            std::copy_n(from + at * from_stride, lanes, to + at * to_stride);
}

struct Copying {
    const Strided& from;  // its axes in the order of the output's
    const Strided& to;
    std::int64_t lanes;
    int table_axis;
    const std::int64_t* table;
    TurnLoop turn;

    // Whether rows of what is read become columns: neighbours along one axis lie apart along the
    // other.
    bool turns(int axis) const {
        return axis == to.rank - 2 && lanes == 1 && table_axis < 0 && from.strides[axis] == 1 &&
               to.strides[axis + 1] == 1 && from.strides[axis + 1] != 1;
    }

    void run(int axis, const float* source, float* place) const {
        const std::ptrdiff_t near = from.strides[axis], far = to.strides[axis];
        if (turns(axis))
            return turn(source, from.strides[axis + 1], to.sizes[axis], to.sizes[axis + 1], place,
                        far);
        const bool last = axis == to.rank - 1;
        if (last && axis != table_axis)
            return copy(source, near, place, far, to.sizes[axis], lanes);
        for (std::int64_t at = 0; at < to.sizes[axis]; ++at) {
            const float* const here = source + (axis == table_axis ? table[at] : at) * near;
            if (last)
                std::copy_n(here, lanes, place + at * far);
            else
                run(axis + 1, here, place + at * far);
        }
    }
};

// Without axes of one number: those of many may then follow each other.
void leave_out_ones(Strided& from, Strided& to) {
    int kept = 0;
    for (int axis = 0; axis < to.rank; ++axis) {
        if (to.sizes[axis] == 1 && (kept > 0 || axis + 1 < to.rank)) continue;
        for (Strided* value : {&from, &to}) {
            value->sizes[kept] = value->sizes[axis];
            value->strides[kept] = value->strides[axis];
        }
        ++kept;
    }
    from.rank = to.rank = kept;
}

// The axis along which numbers follow each other in what is read, beside the last one, so that
// squares of both can be turned.
void put_nearest_beside_last(Strided& from, Strided& to) {
    const int last = to.rank - 1;
    if (last < 1 || from.strides[last] == 1 || to.strides[last] != 1) return;
    const auto* const nearest = std::find(from.strides, from.strides + last, 1);
    if (nearest == from.strides + last) return;
    const auto axis = static_cast<int>(nearest - from.strides);
    for (Strided* value : {&from, &to}) {
        std::rotate(value->sizes + axis, value->sizes + axis + 1, value->sizes + last);
        std::rotate(value->strides + axis, value->strides + axis + 1, value->strides + last);
    }
}

// A value as a walk over it goes.
Strided walked(const Strided& value, const Strided& output, const Walk& walk) {
    Strided found{value.data, output.rank, {}, {}};
    for (int axis = 0; axis < value.rank; ++axis)
        if (!walk.first.empty())
            found.data += walk.first[static_cast<std::size_t>(axis)] * value.strides[axis];
    for (int axis = 0; axis < output.rank; ++axis) {
        const int source = walk.axes[static_cast<std::size_t>(axis)];
        found.sizes[axis] = output.sizes[axis];
        if (source < 0) continue;
        const std::int64_t step =
            walk.steps.empty() ? 1 : walk.steps[static_cast<std::size_t>(source)];
        found.strides[axis] = step * value.strides[source];
    }
    return found;
}

}  // namespace

void copy_numbers(const Strided& from, const Strided& to, std::int64_t lanes, InstructionSet set) {
    Copying{from, to, lanes, -1, nullptr, turn_loop(set)}.run(0, from.data, to.data);
}

Prepared Moving::prepare(InstructionSet set, bool) const {
    return {
        [walk = walk, taken = taken[0], given = given, turn = turn_loop(set)](const Call& call) {
            const View input = call.read(0);
            const std::int64_t lanes = call.output.pixel;
            const std::int64_t groups = given.image ? 1 : call.output.pixels;
            for (std::int64_t group = 0; group < groups; ++group) {
                Strided output = of_example(call.output, given, group * lanes);
                Strided from = walked(of_example(input, taken, group * lanes), output, walk);
                if (walk.table_axis < 0) {
                    leave_out_ones(from, output);
                    if (lanes == 1) put_nearest_beside_last(from, output);
                }
                Copying{from, output, lanes, walk.table_axis, walk.table.data(), turn}.run(
                    0, from.data, output.data);
            }
        },
        0.0, /*by_rows=*/false, /*over_rows=*/false, /*writes_inside=*/true};
}

}  // namespace gossamer
#endif
