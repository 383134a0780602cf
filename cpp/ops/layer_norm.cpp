// Each example less its mean and divided by its standard deviation, over the last axes of a value.
#include "core/plain.hpp"
#include "simd/dispatch.hpp"

namespace gossamer {

// What is normalized as one: some rows of a channel, or, where `whole`, all there is.
struct LayerNormTask {
    float epsilon;
    bool whole;
    int64_t rows;
    const float* scale;  // of each number that is normalized, or null
    const float* shift;
};

// Some channels of the output.
using LayerNormLoop = void (*)(const LayerNormTask&, const View& input, const View& output,
                               Range channels);

struct LayerNormLoops {
    LayerNormLoop batched, single;
};

GOSSAMER_DECLARE(LayerNormLoops, layer_norm_loops)

}  // namespace gossamer

#ifdef GOSSAMER_INSTRUCTION_SET
#include "simd/exact_sum.hpp"

namespace gossamer {
namespace {

// Numbers are visited as vectors, each of which is so many of a row, or one of all examples.

struct SideBySide {
    static constexpr bool together = false;  // whether lanes belong to one example

    template <typename Visit>
    static GOSSAMER_INLINE void row(int64_t pixels, ptrdiff_t pixel, const Visit& visit) {
        for (int64_t at = 0; at < pixels; ++at) visit(at, at * pixel, width);
    }
    static GOSSAMER_INLINE Vector of(const float* from, int64_t) { return load_any<Vector>(from); }
    static GOSSAMER_INLINE void put(float* to, Vector value, int64_t) { store_any(to, value); }
    static GOSSAMER_INLINE Vector constant(const float* from, int64_t) { return broadcast(*from); }
};

struct Alone {
    static constexpr bool together = true;

    template <typename Visit>
    static GOSSAMER_INLINE void row(int64_t pixels, ptrdiff_t, const Visit& visit) {
        int64_t at = 0;
        for (; at + width <= pixels; at += width) visit(at, at, width);
        if (at < pixels) visit(at, at, pixels - at);
    }
    // Zeros behind the numbers of a row that ends.
    static GOSSAMER_INLINE Vector of(const float* from, int64_t count) {
        return count < width ? load_first(from, count) : load_any<Vector>(from);
    }
    static GOSSAMER_INLINE void put(float* to, Vector value, int64_t count) {
        if (count < width)
            store_first(to, value, count);
        else
            store_any(to, value);
    }
    static GOSSAMER_INLINE Vector constant(const float* from, int64_t count) {
        return of(from, count);
    }
};

// Numbers that are normalized as one.
struct Block {
    int64_t channels, rows, pixels;

    int64_t count() const { return channels * rows * pixels; }
};

// Visits the rows of a block in a view.
template <typename Visit>
GOSSAMER_INLINE void each_row(const Block& block, const Visit& visit) {
    for (int64_t channel = 0; channel < block.channels; ++channel)
        for (int64_t row = 0; row < block.rows; ++row) visit(channel, row);
}

struct Normal {
    Vector mean, rest;  // which add up to the mean
    Vector factor;
};

// The mean comes off first, and what rounding left of it is seen in what remains: digits of numbers
// far from zero are kept (the corrected two-pass algorithm of Chan, Golub and LeVeque 1983).
template <typename Lanes>
GOSSAMER_INLINE Normal normal_of(const View& input, const float* from, const Block& block,
                                 float epsilon) {
    const float share = 1.0f / static_cast<float>(block.count());
    Sum sum;
    each_row(block, [&](int64_t channel, int64_t row) GOSSAMER_LAMBDA_INLINE {
        const float* start = from + channel * input.channel + row * input.row;
        Lanes::row(block.pixels, input.pixel,
                   [&](int64_t, ptrdiff_t at, int64_t count)
                       GOSSAMER_LAMBDA_INLINE { sum.add(Lanes::of(start + at, count)); });
    });
    const Vector mean = sum.whole(Lanes::together) * share;
    Sum first, second;
    each_row(block, [&](int64_t channel, int64_t row) GOSSAMER_LAMBDA_INLINE {
        const float* start = from + channel * input.channel + row * input.row;
        Lanes::row(block.pixels, input.pixel,
                   [&](int64_t, ptrdiff_t at, int64_t count) GOSSAMER_LAMBDA_INLINE {
                       Vector less = Lanes::of(start + at, count) - mean;
                       if (count < width) less = first_of(less, count);
                       first.add(less);
                       second.add(less * less);
                   });
    });
    const Vector rest = first.whole(Lanes::together) * share;
    const Vector variance =
        most(second.whole(Lanes::together) * share - rest * rest, broadcast(0.0f));
    return {mean, rest, 1.0f / root(variance + epsilon)};
}

template <typename Lanes>
GOSSAMER_INLINE void write_row(const LayerNormTask& task, const Normal& normal, const float* from,
                               ptrdiff_t from_pixel, float* to, ptrdiff_t to_pixel, int64_t pixels,
                               int64_t constants) {
    Lanes::row(pixels, from_pixel,
               [&](int64_t number, ptrdiff_t at, int64_t count) GOSSAMER_LAMBDA_INLINE {
                   Vector value =
                       (Lanes::of(from + at, count) - normal.mean - normal.rest) * normal.factor;
                   if (task.scale) value *= Lanes::constant(task.scale + constants + number, count);
                   if (task.shift) value += Lanes::constant(task.shift + constants + number, count);
                   Lanes::put(to + (Lanes::together ? at : number * to_pixel), value, count);
               });
}

template <typename Lanes>
void normalize_parts(const LayerNormTask& task, const View& input, const View& output,
                     Range channels) {
    const Block block{1, task.rows, input.pixels};
    for (int64_t channel = channels.begin; channel < channels.end; ++channel)
        for (int64_t first = 0; first < input.rows; first += task.rows) {
            const float* from = input.data + channel * input.channel + first * input.row;
            float* to = output.data + channel * output.channel + first * output.row;
            const Normal normal = normal_of<Lanes>(input, from, block, task.epsilon);
            for (int64_t row = 0; row < task.rows; ++row)
                write_row<Lanes>(task, normal, from + row * input.row, input.pixel,
                                 to + row * output.row, output.pixel, input.pixels,
                                 row * input.pixels);
        }
}

// Each thread sees to all numbers, and writes those of its channels.
template <typename Lanes>
void normalize_whole(const LayerNormTask& task, const View& input, const View& output,
                     Range channels) {
    const Block block{input.channels, input.rows, input.pixels};
    const Normal normal = normal_of<Lanes>(input, input.data, block, task.epsilon);
    for (int64_t channel = channels.begin; channel < channels.end; ++channel)
        for (int64_t row = 0; row < input.rows; ++row)
            write_row<Lanes>(task, normal, input.data + channel * input.channel + row * input.row,
                             input.pixel, output.data + channel * output.channel + row * output.row,
                             output.pixel, input.pixels,
                             (channel * input.rows + row) * input.pixels);
}

template <typename Lanes>
void normalize(const LayerNormTask& task, const View& input, const View& output, Range channels) {
    if (task.whole)
        normalize_whole<Lanes>(task, input, output, channels);
    else
        normalize_parts<Lanes>(task, input, output, channels);
}

}  // namespace

GOSSAMER_EXPORT(LayerNormLoops, layer_norm_loops, {normalize<SideBySide>, normalize<Alone>})

}  // namespace gossamer

#else
#include <cmath>
#include <utility>

#include "ops/layer.hpp"

namespace gossamer {
namespace {

class LayerNorm final : public Layer {
  public:
    explicit LayerNorm(Fields& fields)
        : axes_(fields.take<std::int64_t>("axes", 1)),
          epsilon_(fields.take<double>("epsilon", 1e-5)),
          scale_(fields.take<Floats>("scale", {})),
          shift_(fields.take<Floats>("shift", {})) {}

    Shape check(const Check& check) override {
        const Sizes sizes = taken[0].sizes();
        check.require(axes_ >= 1 && axes_ <= static_cast<std::int64_t>(sizes.size()),
                      "axes must be between 1 and those of the value that it reads");
        check.require(epsilon_ >= 0.0 && std::isfinite(epsilon_), "epsilon must be 0 or more");
        const auto numbers = static_cast<std::size_t>(std::accumulate(
            sizes.end() - axes_, sizes.end(), std::int64_t{1}, std::multiplies<>()));
        for (const Floats* given : {&scale_, &shift_}) {
            check.require(given->empty() || given->size() == numbers,
                          "scale and shift must have a number for each one that is normalized");
        }
        return taken[0];
    }

    Prepared prepare(InstructionSet set, bool side_by_side) const override {
        const LayerNormLoops& loops = layer_norm_loops(set);
        const LayerNormLoop loop = side_by_side ? loops.batched : loops.single;
        return {[loop, task = task(), features = !taken[0].image && taken[0].axes.empty(),
                 scale = scale_, shift = shift_](const Call& call) {
                    LayerNormTask given = task;
                    given.scale = scale.empty() ? nullptr : scale.data();
                    given.shift = shift.empty() ? nullptr : shift.data();
                    run_on(loop, given, features, call);
                },
                1.5};
    }

  private:
    LayerNormTask task() const {
        const Sizes sizes = taken[0].sizes();
        const bool whole = axes_ == static_cast<std::int64_t>(sizes.size());
        const std::int64_t rows = whole ? 1
                                        : std::accumulate(sizes.end() - axes_, sizes.end() - 1,
                                                          std::int64_t{1}, std::multiplies<>());
        return {static_cast<float>(epsilon_), whole, rows, nullptr, nullptr};
    }

    // Features of groups of examples lie in pixels, one group in each; those of one example, which
    // follow each other, are a row, and one thread sees to it.
    static void run_on(LayerNormLoop loop, const LayerNormTask& task, bool features,
                       const Call& call) {
        View input = call.read(0), output = call.output;
        if (!features) return loop(task, input, output, call.part);
        if (input.pixels == 1 && input.channel == 1 && output.channel == 1) {
            if (call.part.begin > 0 || call.part.end == 0) return;
            std::swap(input.channels, input.pixels);
            return loop(task, input, output, {0, 1});
        }
        const std::int64_t groups = input.pixels;
        input.pixels = output.pixels = 1;
        for (std::int64_t group = 0; group < groups; ++group) {
            loop(task, input, output, call.part);
            input.data += input.pixel;
            output.data += output.pixel;
        }
    }

    std::int64_t axes_;
    double epsilon_;
    Floats scale_;
    Floats shift_;
};

GOSSAMER_OPERATOR("layer_norm", LayerNorm)

}  // namespace
}  // namespace gossamer
#endif
