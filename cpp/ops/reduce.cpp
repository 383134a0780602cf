// One number of all that lie along some axes: sums, means, extremes, norms.
#include "core/plain.hpp"
#include "simd/dispatch.hpp"

namespace gossamer {

enum class Reduction { argmax, argmin, maximum, mean, minimum, norm, product, sum, variance };

// Some axes of a value, outermost first, and the floats between neighbours along each.
struct ReduceAxes {
    int count;
    int64_t sizes[5];
    ptrdiff_t from[5], to[5];  // in what is read and in what is written
};

struct ReduceTask {
    Reduction reduction;
    ReduceAxes kept, gone;
};

using ReduceLoop = void (*)(const ReduceTask&, const float* from, float* to);

struct ReduceLoops {
    ReduceLoop side_by_side;  // all of it for as many examples as a vector has lanes
    ReduceLoop across;        // neighbours along the last axis that is kept lie side by side
    ReduceLoop along;         // those along the last axis that goes do
};

GOSSAMER_DECLARE(ReduceLoops, reduce_loops)

}  // namespace gossamer

#ifdef GOSSAMER_INSTRUCTION_SET
#include "simd/exact_sum.hpp"

namespace gossamer {
namespace {

// Visits the places along the first `count` axes in their order.
template <typename Visit>
GOSSAMER_INLINE void each(const ReduceAxes& axes, int count, const Visit& visit) {
    int64_t at[5] = {}, total = 1;
    ptrdiff_t from = 0, to = 0;
    for (int axis = 0; axis < count; ++axis) total *= axes.sizes[axis];
    for (int64_t number = 0; number < total; ++number) {
        visit(number, from, to);
        for (int axis = count; axis-- > 0;) {
            from += axes.from[axis];
            to += axes.to[axis];
            if (++at[axis] < axes.sizes[axis]) break;
            from -= axes.from[axis] * axes.sizes[axis];
            to -= axes.to[axis] * axes.sizes[axis];
            at[axis] = 0;
        }
    }
}

GOSSAMER_INLINE Vector numbered() {
    Vector found;
    for (int lane = 0; lane < width; ++lane) found[lane] = static_cast<float>(lane);
    return found;
}

// What is reduced to one number in each lane: visit(numbers, their place, how many).
struct Apart {
    static constexpr bool together = false;
    const ReduceAxes& axes;
    const float* from;
    int64_t lanes;

    template <typename Visit>
    GOSSAMER_INLINE void visit(const Visit& found) const {
        const int last = axes.count - 1;
        const int64_t size = axes.sizes[last];
        each(axes, last, [&](int64_t number, ptrdiff_t at, ptrdiff_t) GOSSAMER_LAMBDA_INLINE {
            const float* start = from + at;
            for (int64_t next = 0; next < size; ++next, start += axes.from[last])
                found(lanes < width ? load_first(start, lanes) : load_any<Vector>(start),
                      broadcast(static_cast<float>(number * size + next)), width);
        });
    }
};

// What is reduced to one number altogether.
struct Together {
    static constexpr bool together = true;
    const ReduceAxes& axes;
    const float* from;

    template <typename Visit>
    GOSSAMER_INLINE void visit(const Visit& found) const {
        const int last = axes.count - 1;
        const int64_t size = axes.sizes[last];
        each(axes, last, [&](int64_t number, ptrdiff_t at, ptrdiff_t) GOSSAMER_LAMBDA_INLINE {
            for (int64_t next = 0; next < size; next += width) {
                const int64_t count = least(size - next, width);
                const float* start = from + at + next;
                found(count < width ? load_first(start, count) : load_any<Vector>(start),
                      numbered() + static_cast<float>(number * size + next), count);
            }
        });
    }
};

GOSSAMER_INLINE int64_t numbers(const ReduceAxes& axes) {
    int64_t found = 1;
    for (int axis = 0; axis < axes.count; ++axis) found *= axes.sizes[axis];
    return found;
}

template <typename Numbers>
GOSSAMER_INLINE Vector sum(const Numbers& all, bool squares) {
    Sum found;
    all.visit([&](Vector value, Vector, int64_t)
                  GOSSAMER_LAMBDA_INLINE { found.add(squares ? value * value : value); });
    return found.whole(Numbers::together);
}

// As in a normalisation (ops/layer_norm.cpp), with what the rounded mean leaves.
template <typename Numbers>
GOSSAMER_INLINE Vector variance(const Numbers& all, float count) {
    const Vector mean = sum(all, false) / count;
    Sum first, second;
    all.visit([&](Vector value, Vector, int64_t some) GOSSAMER_LAMBDA_INLINE {
        Vector less = value - mean;
        if (some < width) less = first_of(less, some);
        first.add(less);
        second.add(less * less);
    });
    const Vector rest = first.whole(Numbers::together) / count;
    return second.whole(Numbers::together) / count - rest * rest;
}

// The largest numbers times a sign, NaN where there is one, and their places.
struct Extreme {
    Vector value, place;

    GOSSAMER_INLINE void see(Vector other, Vector at) {
        const Integers better = (other > value) | ((other != other) & (value == value));
        value = better ? other : value;
        place = better ? at : place;
    }
    // The one of all lanes, in each of them; the first of several.
    GOSSAMER_INLINE void join() {
        int best = 0;
        for (int lane = 1; lane < width; ++lane) {
            const bool none = value[lane] != value[lane], yet = value[best] != value[best];
            const bool alike = none ? yet : !yet && value[lane] == value[best];
            const bool better = none ? !yet : !yet && value[lane] > value[best];
            if (better || (alike && place[lane] < place[best])) best = lane;
        }
        value = broadcast(value[best]);
        place = broadcast(place[best]);
    }
};

template <typename Numbers>
GOSSAMER_INLINE Extreme extreme(const Numbers& all, float sign) {
    const Vector least_of_all = broadcast(-__builtin_inff());
    Extreme found{least_of_all, Numbers::together ? numbered() : Vector{}};
    all.visit([&](Vector value, Vector place, int64_t count) GOSSAMER_LAMBDA_INLINE {
        Vector signed_value = value * sign;
        if (count < width)
            signed_value = numbered() < static_cast<float>(count) ? signed_value : least_of_all;
        found.see(signed_value, place);
    });
    if (Numbers::together) found.join();
    return found;
}

// Squares of tiny numbers vanish, and those of large ones are infinite: where they may, numbers are
// taken as shares of the largest.
template <typename Numbers>
GOSSAMER_INLINE Vector norm(const Numbers& all) {
    const Vector squares = sum(all, true);
    const Integers clear = (squares > 1e-30f) & (squares < 1e36f);
    bool every = true;
    for (int lane = 0; lane < width; ++lane) every = every && clear[lane] != 0;
    if (every) return root(squares);
    Vector largest{};
    all.visit([&](Vector value, Vector, int64_t)
                  GOSSAMER_LAMBDA_INLINE { largest = larger(magnitude(value), largest); });
    if (Numbers::together) {
        float found = 0.0f;
        for (int lane = 0; lane < width; ++lane) found = larger(found, largest[lane]);
        largest = broadcast(found);
    }
    const Vector unit = largest > 0.0f && largest < __builtin_inff() ? largest : broadcast(1.0f);
    Sum shares;
    all.visit([&](Vector value, Vector, int64_t) GOSSAMER_LAMBDA_INLINE {
        const Vector share = value / unit;
        shares.add(share * share);
    });
    return unit * root(shares.whole(Numbers::together));
}

template <typename Numbers>
GOSSAMER_INLINE Vector reduced(Reduction reduction, const Numbers& all) {
    const auto count = static_cast<float>(numbers(all.axes));
    switch (reduction) {
        case Reduction::argmax: return extreme(all, 1.0f).place;
        case Reduction::argmin: return extreme(all, -1.0f).place;
        case Reduction::maximum: return extreme(all, 1.0f).value;
        case Reduction::minimum: return -extreme(all, -1.0f).value;
        case Reduction::mean: return sum(all, false) / count;
        case Reduction::norm: return norm(all);
        case Reduction::variance: return variance(all, count);
        default: return sum(all, false);
    }
}

void side_by_side(const ReduceTask& task, const float* from, float* to) {
    each(task.kept, task.kept.count, [&](int64_t, ptrdiff_t input, ptrdiff_t output) {
        store_any(to + output, reduced(task.reduction, Apart{task.gone, from + input, width}));
    });
}

void across(const ReduceTask& task, const float* from, float* to) {
    const int last = task.kept.count - 1;
    const int64_t size = task.kept.sizes[last];
    each(task.kept, last, [&](int64_t, ptrdiff_t input, ptrdiff_t output) {
        for (int64_t at = 0; at < size; at += width) {
            const int64_t lanes = least(size - at, width);
            const Apart all{task.gone, from + input + at, lanes};
            const Vector found = reduced(task.reduction, all);
            if (lanes < width)
                store_first(to + output + at, found, lanes);
            else
                store_any(to + output + at, found);
        }
    });
}

void along(const ReduceTask& task, const float* from, float* to) {
    each(task.kept, task.kept.count, [&](int64_t, ptrdiff_t input, ptrdiff_t output) {
        to[output] = reduced(task.reduction, Together{task.gone, from + input})[0];
    });
}

}  // namespace

GOSSAMER_EXPORT(ReduceLoops, reduce_loops, {side_by_side, across, along})

}  // namespace gossamer

#else
#include <algorithm>
#include <map>
#include <string>

#include "ops/layer.hpp"

namespace gossamer {
namespace {

static_assert(most_axes == 5, "as many as ReduceAxes holds");

const std::map<std::string, Reduction> reductions = {
    {"argmax", Reduction::argmax},     {"argmin", Reduction::argmin},
    {"maximum", Reduction::maximum},   {"mean", Reduction::mean},
    {"minimum", Reduction::minimum},   {"norm", Reduction::norm},
    {"product", Reduction::product},   {"sum", Reduction::sum},
    {"variance", Reduction::variance},
};

void add_axis(ReduceAxes& axes, std::int64_t size, std::ptrdiff_t from, std::ptrdiff_t to) {
    axes.sizes[axes.count] = size;
    axes.from[axes.count] = from;
    axes.to[axes.count++] = to;
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
        for (const std::int64_t axis : axes_) {
            check.require(
                axis >= 0 && axis < static_cast<std::int64_t>(sizes.size()) && !over_[axis],
                "axes must each be one of the value that it reads");
            over_[axis] = true;
            sizes[static_cast<std::size_t>(axis)] = 1;
        }
        return check.shape(sizes);
    }

    Prepared prepare(InstructionSet set, bool side_by_side) const override {
        // Products of many numbers take the digits of a double.
        if (reduction_ == Reduction::product) return Layer::prepare(set, side_by_side);
        const ReduceLoops& loops = reduce_loops(set);
        const auto layer = std::static_pointer_cast<const Reduce>(shared_from_this());
        const double count = static_cast<double>(taken[0].size()) /
                             static_cast<double>(std::max<std::int64_t>(given.size(), 1));
        return {[layer, &loops, side_by_side](const Call& call) {
                    const View input = call.read(0);
                    const std::int64_t groups = layer->given.image ? 1 : call.output.pixels;
                    for (std::int64_t group = 0; group < groups; ++group)
                        layer->run_on(
                            loops, side_by_side,
                            of_example(input, layer->taken[0], group * input.pixel),
                            of_example(call.output, layer->given, group * call.output.pixel),
                            call.part);
                },
                0.1 * count};
    }

    void run(const Strided* inputs, const Strided& output) const override {
        multiply(inputs[0], output, 0, inputs[0].data, output.data);
    }

  private:
    // Some channels of the output.
    void run_on(const ReduceLoops& loops, bool side_by_side, const Strided& input,
                const Strided& output, Range channels) const {
        ReduceTask task{reduction_, {}, {}};
        const float* from = input.data;
        float* to = output.data;
        for (int axis = 0; axis < input.rank; ++axis) {
            if (over_[axis]) {
                add_axis(task.gone, input.sizes[axis], input.strides[axis], 0);
            } else if (axis == 0) {
                from += channels.begin * input.strides[0];
                to += channels.begin * output.strides[0];
                add_axis(task.kept, channels.end - channels.begin, input.strides[0],
                         output.strides[0]);
            } else {
                add_axis(task.kept, input.sizes[axis], input.strides[axis], output.strides[axis]);
            }
        }
        if (over_[0] && (channels.begin > 0 || channels.end == 0)) return;  // the first one's
        if (side_by_side) return loops.side_by_side(task, from, to);
        const auto neighbours = [](const ReduceAxes& axes, const std::ptrdiff_t* strides) {
            return axes.count > 0 && strides[axes.count - 1] == 1;
        };
        if (over_[input.rank - 1]
                ? neighbours(task.gone, task.gone.from)
                : neighbours(task.kept, task.kept.from) && neighbours(task.kept, task.kept.to))
            return (over_[input.rank - 1] ? loops.along : loops.across)(task, from, to);
        // One by one, as a row of one.
        add_axis(task.kept, 1, 1, 1);
        loops.across(task, from, to);
    }

    void multiply(const Strided& input, const Strided& output, int axis, const float* from,
                  float* to) const {
        if (axis == output.rank) {
            *to = static_cast<float>(product(input, 0, from));
            return;
        }
        for (std::int64_t at = 0; at < output.sizes[axis]; ++at)
            multiply(input, output, axis + 1, from + at * input.strides[axis],
                     to + at * output.strides[axis]);
    }

    double product(const Strided& input, int axis, const float* from) const {
        if (axis == input.rank) return *from;
        double found = 1.0;
        for (std::int64_t at = 0; at < (over_[axis] ? input.sizes[axis] : 1); ++at)
            found *= product(input, axis + 1, from + at * input.strides[axis]);
        return found;
    }

    std::string name_;
    Sizes axes_;
    Reduction reduction_ = Reduction::sum;
    bool over_[most_axes] = {};
};

GOSSAMER_OPERATOR("reduce", Reduce)

}  // namespace
}  // namespace gossamer
#endif
