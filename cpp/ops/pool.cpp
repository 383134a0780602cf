// Windows of the channels of an image: their maximum or average.
#include "ops/loops.hpp"

#ifdef GOSSAMER_INSTRUCTION_SET
#include "simd/exact_sum.hpp"

namespace gossamer {
namespace {

// The taps of the window that lie within [0, size).
GOSSAMER_INLINE Range inside(int64_t start, int64_t dilation, int64_t kernel, int64_t size) {
    const int64_t begin = start >= 0 ? 0 : (-start + dilation - 1) / dilation;
    const int64_t end = start >= size ? 0 : (size - 1 - start) / dilation + 1;
    return {begin, least(kernel, end)};
}

// How many taps along one axis an average divides by.
GOSSAMER_INLINE int64_t counted(const Pooling& pooling, Range taps, int64_t start, int64_t kernel,
                                int64_t size, int64_t padding) {
    if (!pooling.counts_padding) return most(0, taps.end - taps.begin);
    return least(start + kernel, size + padding) - start;
}

template <typename Number>
GOSSAMER_INLINE Number largest(const float* corner, Range down, ptrdiff_t row, Range along,
                               ptrdiff_t pixel) {
    Number value = Number{} - __builtin_inff();
    for (int64_t y = down.begin; y < down.end; ++y)
        for (int64_t x = along.begin; x < along.end; ++x)
            value = larger(value, load_any<Number>(corner + y * row + x * pixel));
    return value;
}

template <typename Number>
GOSSAMER_INLINE Number summed_plainly(const float* corner, Range down, ptrdiff_t row, Range along,
                                      ptrdiff_t pixel) {
    Number value{};
    for (int64_t y = down.begin; y < down.end; ++y)
        for (int64_t x = along.begin; x < along.end; ++x)
            value += load_any<Number>(corner + y * row + x * pixel);
    return value;
}

// Constant channels, as pruning leaves them, are rounded the same way each time, which would add
// up: only few taps are summed plainly.
template <typename Number>
GOSSAMER_INLINE Number summed(const float* corner, Range down, ptrdiff_t row, Range along,
                              ptrdiff_t pixel) {
    constexpr int64_t few = 16, together = 4;
    if ((down.end - down.begin) * (along.end - along.begin) <= few)
        return summed_plainly<Number>(corner, down, row, along, pixel);
    SumOf<Number> sum;
    for (int64_t y = down.begin; y < down.end; ++y)
        for (int64_t x = along.begin; x < along.end; x += together)
            sum.add(summed_plainly<Number>(corner, {y, y + 1}, row,
                                           {x, least(x + together, along.end)}, pixel));
    return sum.total;
}

template <typename Number, bool maximum>
GOSSAMER_INLINE Number reduced(const float* corner, Range down, ptrdiff_t row, Range along,
                               ptrdiff_t pixel) {
    return maximum ? largest<Number>(corner, down, row, along, pixel)
                   : summed<Number>(corner, down, row, along, pixel);
}

// One row of windows. `of` gives what the taps inside of a window come to, by its first pixel.
template <typename Number, bool maximum, typename Of>
GOSSAMER_INLINE void pool_row(const Pooling& pooling, int64_t rows, int64_t pixels, float* to,
                              Range given, const Of& of) {
    const Window& window = pooling.window;
    for (int64_t pixel = given.begin; pixel < given.end; ++pixel) {
        const int64_t left = pixel * window.stride.width - window.padding.width;
        const Range along = inside(left, window.dilation.width, window.kernel.width, pixels);
        Number value = of(left, along);
        if (!maximum) {
            const int64_t taps = rows * counted(pooling, along, left, window.kernel.width, pixels,
                                                window.padding.width);
            value = value / static_cast<float>(most(1, taps));
        }
        store_any(to + pixel * (sizeof(Number) / sizeof(float)), value);
    }
}

// Side by side, windows are taken at once; of one example, their rows first, in `room`.
template <typename Number, bool maximum>
GOSSAMER_INLINE void pool_windows(const Pooling& pooling, const View& input, const View& output,
                                  Range channels, Range rows, Range pixels, float* room) {
    const Window& window = pooling.window;
    const ptrdiff_t tap_row = window.dilation.height * input.row;
    const int64_t dilation = window.dilation.width;
    for (int64_t channel = channels.begin; channel < channels.end; ++channel) {
        for (int64_t row = rows.begin; row < rows.end; ++row) {
            const int64_t top = row * window.stride.height - window.padding.height;
            const Range down =
                inside(top, window.dilation.height, window.kernel.height, input.rows);
            const int64_t taps = counted(pooling, down, top, window.kernel.height, input.rows,
                                         window.padding.height);
            const float* from = input.data + channel * input.channel + top * input.row;
            float* to = output.data + channel * output.channel + row * output.row;
            if (!room) {
                pool_row<Number, maximum>(pooling, taps, input.pixels, to, pixels,
                                          [&](int64_t left, Range along) GOSSAMER_LAMBDA_INLINE {
                                              return reduced<Number, maximum>(from + left * width,
                                                                              down, tap_row, along,
                                                                              dilation * width);
                                          });
                continue;
            }
            for (int64_t at = 0; at < input.pixels; at += width)
                store_any(room + at, reduced<Vector, maximum>(from + at, down, tap_row, {0, 1}, 0));
            pool_row<Number, maximum>(pooling, taps, input.pixels, to, pixels,
                                      [&](int64_t left, Range along) GOSSAMER_LAMBDA_INLINE {
                                          return reduced<Number, maximum>(room + left, {0, 1}, 0,
                                                                          along, dilation);
                                      });
            for (int64_t x = output.pixels; x < output.row; ++x) to[x] = 0.0f;
        }
    }
}

void pool_batched(const Pooling& pooling, const View& input, const View& output, Range rows,
                  Range pixels) {
    const Range all{0, output.channels};
    if (pooling.kind == PoolingKind::max)
        pool_windows<Vector, true>(pooling, input, output, all, rows, pixels, nullptr);
    else
        pool_windows<Vector, false>(pooling, input, output, all, rows, pixels, nullptr);
}

// The maxima of neighbouring lanes, those of `left` first. Even and odd lanes are brought together
// within quarters of 16 bytes, which is quick, and pairs put in order afterwards.
template <int... lane>
GOSSAMER_INLINE Vector neighbours(const Vector& left, const Vector& right, Lanes<lane...>) {
    constexpr int quarters = width / 4;
    const Vector even = __builtin_shufflevector(
        left, right, (lane / 4 * 4 + lane % 2 * 2 + lane % 4 / 2 * width)...);
    const Vector odd = __builtin_shufflevector(
        left, right, (lane / 4 * 4 + lane % 2 * 2 + lane % 4 / 2 * width + 1)...);
    const Vector both = larger(even, odd);
    return __builtin_shufflevector(
        both, both, (lane / 2 % quarters * 4 + lane / 2 / quarters * 2 + lane % 2)...);
}

// Maxima of 2 x 2 pixels of one example, the commonest pooling by far.
void pool_pairs(const View& input, const View& output, int64_t channel) {
    const int64_t count = output.pixels;
    const auto pooled = [&](const float* top, int64_t x) {
        const float* bottom = top + input.row;
        const Vector left = larger(load_any<Vector>(top + 2 * x), load_any<Vector>(bottom + 2 * x));
        const Vector right =
            larger(load_any<Vector>(top + 2 * x + width), load_any<Vector>(bottom + 2 * x + width));
        return neighbours(left, right, EveryLane{});
    };
    Integers lanes;
    for (int lane = 0; lane < width; ++lane) lanes[lane] = lane;
    const Integers inside = lanes < static_cast<int32_t>(count % width);
    float* const plane = output.data + channel * output.channel;
    for (int64_t y = 0; y < output.rows; ++y) {
        const float* top = input.data + channel * input.channel + 2 * y * input.row;
        // Whole vectors, also over the beginning of the next row, which comes later.
        const auto put = [&](int64_t x, const Vector& value) {
            const int64_t at = y * output.row + x;
            if (at + width <= output.room)
                store_any(plane + at, value);
            else
                store_first(plane + at, value, output.room - at);
        };
        int64_t x = 0;
        for (; x + width <= count; x += width) put(x, pooled(top, x));
        if (x < count) {
            put(x, reinterpret_cast<Vector>(reinterpret_cast<Integers>(pooled(top, x)) & inside));
            x += width;
        }
        for (; x < output.row; x += width) put(x, Vector{});
    }
}

GOSSAMER_INLINE bool all_are(const Pair& pair, int64_t both) {
    return pair.height == both && pair.width == both;
}

void pool_single(const Pooling& pooling, const View& input, const View& output, Range channels,
                 float* room) {
    const Window& window = pooling.window;
    const bool pairs = all_are(window.kernel, 2) && all_are(window.stride, 2) &&
                       all_are(window.padding, 0) && all_are(window.dilation, 1) &&
                       2 * output.rows <= input.rows && 2 * output.pixels <= input.pixels;
    const Range rows{0, output.rows}, pixels{0, output.pixels};
    if (pooling.kind != PoolingKind::max)
        pool_windows<float, false>(pooling, input, output, channels, rows, pixels, room);
    else if (!pairs)
        pool_windows<float, true>(pooling, input, output, channels, rows, pixels, room);
    else
        for (int64_t channel = channels.begin; channel < channels.end; ++channel)
            pool_pairs(input, output, channel);
}

}  // namespace

GOSSAMER_EXPORT(PoolLoops, pool_loops, {pool_batched, pool_single})

}  // namespace gossamer

#else
#include "ops/layer.hpp"

namespace gossamer {
namespace {

class Pool final : public Layer {
  public:
    explicit Pool(Fields& fields) : pooling_(fields.take<Pooling>("pooling")) {}

    Shape check(const Check& check) override { return check.pooled(pooling_, taken[0]); }

    Prepared prepare(InstructionSet set, bool side_by_side) const override {
        const PoolLoops& loops = pool_loops(set);
        const Pair& kernel = pooling_.window.kernel;
        return {[loops, side_by_side, pooling = pooling_](const Call& call) {
                    const View& output = call.output;
                    if (side_by_side)
                        return loops.batched(pooling, call.read(0), output, {0, output.rows},
                                             {0, output.pixels});
                    loops.single(pooling, call.read(0), output, call.part, call.room);
                },
                0.1 * static_cast<double>(kernel.height * kernel.width), /*by_rows=*/false,
                /*over_rows=*/true};
    }

  private:
    Pooling pooling_;
};

GOSSAMER_OPERATOR("pool", Pool)

}  // namespace
}  // namespace gossamer
#endif
