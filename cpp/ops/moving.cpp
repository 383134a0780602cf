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

    void run(int axis, const float* source, float* place) const {
        const std::ptrdiff_t near = from.strides[axis], far = to.strides[axis];
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

void copy_numbers(const Strided& from, const Strided& to, std::int64_t lanes) {
    Copying{from, to, lanes, -1, nullptr}.run(0, from.data, to.data);
}

Prepared Moving::prepare(InstructionSet, bool) const {
    return {[walk = walk, taken = taken[0], given = given](const Call& call) {
                const View input = call.read(0);
                const std::int64_t lanes = call.output.pixel;
                const std::int64_t groups = given.image ? 1 : call.output.pixels;
                for (std::int64_t group = 0; group < groups; ++group) {
                    const Strided output = of_example(call.output, given, group * lanes);
                    const Strided from =
                        walked(of_example(input, taken, group * lanes), output, walk);
                    Copying{from, output, lanes, walk.table_axis, walk.table.data()}.run(
                        0, from.data, output.data);
                }
            },
            0.0};
}

}  // namespace gossamer
