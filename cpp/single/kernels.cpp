// The kernels for one sample, written over vectors of any number of lanes.
//
// Compiled once for each instruction set (simd/dispatch.hpp).

#include <cstdint>

#include "simd/activations.hpp"
#include "single/kernels.hpp"

namespace gossamer::single {
namespace {

constexpr int lane_count = GOSSAMER_WIDTH;
typedef float Eight __attribute__((vector_size(32), may_alias, aligned(4)));
typedef float Four __attribute__((vector_size(16)));

template <int... lane>
struct Lanes {};

template <int count, int... lane>
struct Counted : Counted<count - 1, count - 1, lane...> {};

template <int... lane>
struct Counted<0, lane...> {
    using Type = Lanes<lane...>;
};

using EveryLane = Counted<lane_count>::Type;

template <typename Value, typename Number>
GOSSAMER_INLINE Value load(const Number* from) {
    Value value;
    __builtin_memcpy(&value, from, sizeof value);
    return value;
}

template <typename Value>
GOSSAMER_INLINE void store(float* to, const Value& value) {
    __builtin_memcpy(to, &value, sizeof value);
}

// Stores the first `count` numbers, at least 0 and below lane_count: halves, quarters and so on,
// whose branches go the same way for every row of an image.
GOSSAMER_INLINE void store_first(float* to, const Vector& value, std::int64_t count) {
    float numbers[lane_count];
    store(numbers, value);
    const float* from = numbers;
#pragma GCC unroll 4
    for (int part = lane_count / 2; part > 0; part /= 2) {
        if ((count & part) == 0) continue;
        __builtin_memcpy(to, from, 4 * part);
        to += part;
        from += part;
    }
}

using gossamer::larger;

GOSSAMER_INLINE float larger(float left, float right) {
    const float found = left > right ? left : right;
    return left != left ? left : found;
}

// Out of line: one copy of the long activations for all tiles.
__attribute__((noinline)) void activate_run(ActivationKind activation, float alpha, float* values,
                                            std::int64_t vectors) {
    for (std::int64_t at = 0; at < vectors; ++at) {
        float* place = values + at * lane_count;
        store(place, activated(activation, alpha, load<Vector>(place)));
    }
}

// What one tile of pixels adds up to; unrolled, so that it stays in registers.
template <int tile>
struct Sums {
    Vector at[tile];
};

// What the sums of a tile begin with: bias, bias by position, residual.
template <int tile>
GOSSAMER_INLINE Sums<tile> begun(const ConvolutionTask& task, std::int64_t channel,
                                 std::int64_t position) {
    Sums<tile> sums;
    const Vector bias = broadcast(task.bias != nullptr ? task.bias[channel] : 0.0f);
#pragma GCC unroll 16
    for (int at = 0; at < tile; ++at) sums.at[at] = bias;
    if (task.bias_map != nullptr) {
        const float* map = task.bias_map + channel * task.bias_map_plane + position;
#pragma GCC unroll 16
        for (int at = 0; at < tile; ++at) sums.at[at] = load<Vector>(map + at * lane_count);
    }
    if (task.residual != nullptr) {
        const float* map = task.residual + channel * task.residual_plane + position;
#pragma GCC unroll 16
        for (int at = 0; at < tile; ++at) sums.at[at] += load<Vector>(map + at * lane_count);
    }
    return sums;
}

// The sums become values: activation, scale, shift, mask.
template <int tile>
GOSSAMER_INLINE void finish_tile(const ConvolutionTask& task, std::int64_t channel,
                                 std::int64_t position, Sums<tile> sums) {
    float* output = task.output + channel * task.output_plane + position;
    if (task.finish.activation == ActivationKind::relu) {
#pragma GCC unroll 16
        for (int at = 0; at < tile; ++at) sums.at[at] = at_least(sums.at[at], 0.0f);
    } else if (task.finish.activation != ActivationKind::identity) {
#pragma GCC unroll 16
        for (int at = 0; at < tile; ++at) store(output + at * lane_count, sums.at[at]);
        activate_run(task.finish.activation, task.finish.alpha, output, tile);
#pragma GCC unroll 16
        for (int at = 0; at < tile; ++at) sums.at[at] = load<Vector>(output + at * lane_count);
    }
    if (task.finish.scale != nullptr) {
        const Vector scale = broadcast(task.finish.scale[channel]);
        const Vector shift = broadcast(task.finish.shift[channel]);
#pragma GCC unroll 16
        for (int at = 0; at < tile; ++at) sums.at[at] = sums.at[at] * scale + shift;
    }
    if (task.mask != nullptr) {
        const std::uint32_t* mask = task.mask + position;
#pragma GCC unroll 16
        for (int at = 0; at < tile; ++at)
            sums.at[at] = reinterpret_cast<Vector>(reinterpret_cast<Integers>(sums.at[at]) &
                                                   load<Integers>(mask + at * lane_count));
    }
#pragma GCC unroll 16
    for (int at = 0; at < tile; ++at) store(output + at * lane_count, sums.at[at]);
}

// Compilers would add the offset to each address of a tile anew; this makes it one addition.
GOSSAMER_INLINE void keep_pointer(const float*& pointer) { __asm__("" : "+r"(pointer)); }

template <int tile>
GOSSAMER_INLINE void add_tap(const float* input, const Tap& tap, Sums<tile>& sums) {
    const Vector weight = broadcast(tap.weight);
    const float* from = input + tap.offset;
    keep_pointer(from);
#pragma GCC unroll 16
    for (int at = 0; at < tile; ++at)
        sums.at[at] += weight * load<Vector>(from + at * lane_count);
}

template <int tile>
GOSSAMER_INLINE void add_product(float weight, const Sums<tile>& pixels, Sums<tile>& sums) {
    const Vector factor = broadcast(weight);
#pragma GCC unroll 16
    for (int at = 0; at < tile; ++at) sums.at[at] += factor * pixels.at[at];
}

template <int tile>
GOSSAMER_INLINE void add(Sums<tile>& sums, const Sums<tile>& others) {
#pragma GCC unroll 16
    for (int at = 0; at < tile; ++at) sums.at[at] += others.at[at];
}

// A multiply-add takes four cycles and two begin in each: few vectors a tile would leave units
// idle, so that several taps are added up side by side then.
template <int tile>
constexpr int taps_at_once = tile <= 2 ? 4 : tile <= 5 ? 2 : 1;

template <int tile>
void convolve_tile(const ConvolutionTask& task, std::int64_t entry, std::int64_t position) {
    constexpr int together = taps_at_once<tile>;
    const std::int64_t channel = task.order[entry];
    const float* input = task.input + position;
    const Tap* tap = task.taps + task.starts[entry];
    const Tap* const end = task.taps + task.starts[entry + 1];
    Sums<tile> sums = begun<tile>(task, channel, position);
    if constexpr (together == 4) {
        Sums<tile> second{}, third{}, fourth{};
        for (; end - tap >= together; tap += together) {
            add_tap(input, tap[0], sums);
            add_tap(input, tap[1], second);
            add_tap(input, tap[2], third);
            add_tap(input, tap[3], fourth);
        }
        add(third, fourth);
        add(second, third);
        add(sums, second);
    }
    if constexpr (together == 2) {
        Sums<tile> second{};
        for (; end - tap >= together; tap += together) {
            add_tap(input, tap[0], sums);
            add_tap(input, tap[1], second);
        }
        add(sums, second);
    }
    for (; tap != end; ++tap) add_tap(input, *tap, sums);
    finish_tile(task, channel, position, sums);
}

template <int tile>
void convolve_block_tile(const ConvolutionTask& task, std::int64_t entry, std::int64_t position) {
    const std::int64_t channel = task.order[entry];
    // Rows beyond the last repeat it, with weights of zero, and are not stored.
    const auto row = [&](int number) {
        return channel + number < task.channels ? channel + number : task.channels - 1;
    };
    const float* input = task.input + position;
    const BlockTap* const end = task.block_taps + task.starts[entry + 1];
    Sums<tile> first = begun<tile>(task, row(0), position);
    Sums<tile> second = begun<tile>(task, row(1), position);
    Sums<tile> third = begun<tile>(task, row(2), position);
    Sums<tile> fourth = begun<tile>(task, row(3), position);
    for (const BlockTap* tap = task.block_taps + task.starts[entry]; tap != end; ++tap) {
        const float* from = input + tap->offset;
        keep_pointer(from);
        Sums<tile> pixels;
#pragma GCC unroll 16
        for (int at = 0; at < tile; ++at) pixels.at[at] = load<Vector>(from + at * lane_count);
        add_product(tap->weights[0], pixels, first);
        add_product(tap->weights[1], pixels, second);
        add_product(tap->weights[2], pixels, third);
        add_product(tap->weights[3], pixels, fourth);
    }
    finish_tile(task, channel, position, first);
    if (channel + 1 < task.channels) finish_tile(task, channel + 1, position, second);
    if (channel + 2 < task.channels) finish_tile(task, channel + 2, position, third);
    if (channel + 3 < task.channels) finish_tile(task, channel + 3, position, fourth);
}

using TileFunction = void (*)(const ConvolutionTask&, std::int64_t, std::int64_t);

constexpr TileFunction tiles_by_size[longest_tile] = {
    convolve_tile<1>,  convolve_tile<2>,  convolve_tile<3>,  convolve_tile<4>,  convolve_tile<5>,
    convolve_tile<6>,  convolve_tile<7>,  convolve_tile<8>,  convolve_tile<9>,  convolve_tile<10>,
    convolve_tile<11>, convolve_tile<12>, convolve_tile<13>, convolve_tile<14>,
};

constexpr TileFunction block_tiles_by_size[longest_block_tile] = {
    convolve_block_tile<1>, convolve_block_tile<2>, convolve_block_tile<3>,
};

// The run in stretches of nearly equal size, all channels of one before the next, so that its
// inputs stay in the first cache; a stretch in tiles one after another, so that its outputs do.
GOSSAMER_INLINE void convolve_run(const ConvolutionTask& task, std::int64_t first,
                                  std::int64_t last, const TileFunction* functions,
                                  std::int64_t longest, std::int64_t tiles) {
    const std::int64_t stretches = (task.vectors + longest * tiles - 1) / (longest * tiles);
    for (std::int64_t stretch = 0; stretch < stretches; ++stretch) {
        const std::int64_t begin = task.vectors * stretch / stretches;
        const std::int64_t end = task.vectors * (stretch + 1) / stretches;
        for (std::int64_t entry = first; entry < last; ++entry) {
            for (std::int64_t at = begin; at < end; at += longest) {
                const std::int64_t size = end - at < longest ? end - at : longest;
                functions[size - 1](task, entry, at * lane_count);
            }
        }
    }
}

void convolve(const ConvolutionTask& task, std::int64_t first, std::int64_t last) {
    convolve_run(task, first, last, tiles_by_size, longest_tile, 1);
}

void convolve_blocks(const ConvolutionTask& task, std::int64_t first, std::int64_t last) {
    convolve_run(task, first, last, block_tiles_by_size, longest_block_tile, 4);
}

// Eight inputs by their columns. One wide load of indices and shifts leave the load units, which
// are the bottleneck, to the inputs; the gather instruction is half as fast on Zen 3.
GOSSAMER_INLINE void pick(const float* input, const std::uint16_t* indices, Eight& picked) {
    const auto low = load<std::uint64_t>(indices);
    const auto high = load<std::uint64_t>(indices + 4);
    picked = Eight{input[low & 0xffff],          input[(low >> 16) & 0xffff],
                   input[(low >> 32) & 0xffff],  input[low >> 48],
                   input[high & 0xffff],         input[(high >> 16) & 0xffff],
                   input[(high >> 32) & 0xffff], input[high >> 48]};
}

GOSSAMER_INLINE void pick(const float* input, const std::int32_t* at, Eight& picked) {
    picked = Eight{input[at[0]], input[at[1]], input[at[2]], input[at[3]],
                   input[at[4]], input[at[5]], input[at[6]], input[at[7]]};
}

template <typename Index>
void sliced(const SlicedTask& task, std::int64_t first, std::int64_t last) {
    for (std::int64_t slice = first; slice < last; ++slice) {
        const std::int64_t begin = task.starts[slice] * slice_rows;
        const std::int64_t end = task.starts[slice + 1] * slice_rows;
        const Index* const indices = static_cast<const Index*>(task.indices);
        Eight sums{};
        for (std::int64_t at = begin; at < end; at += slice_rows) {
            Eight inputs;
            pick(task.input, indices + at, inputs);
            sums += *reinterpret_cast<const Eight*>(task.values + at) * inputs;
        }
        const std::int32_t* rows = task.rows + slice * slice_rows;
        for (int lane = 0; lane < slice_rows; ++lane)
            if (rows[lane] >= 0) task.output[rows[lane]] = sums[lane];
    }
}

#if GOSSAMER_WIDTH == 16
// The numbers of two vectors by their places, of which the lowest 5 bits count.
GOSSAMER_INLINE Vector looked_up(const Vector& low, const Vector& high, const Integers& places) {
#if defined(__AVX512F__)
    return _mm512_permutex2var_ps(low, reinterpret_cast<__m512i>(places), high);
#else
    Vector found;
    for (int lane = 0; lane < lane_count; ++lane) {
        const int place = places[lane] & 31;
        found[lane] = place < lane_count ? low[place] : high[place - lane_count];
    }
    return found;
#endif
}

template <int steps>
void tabled_in(const TabledTask& task, std::int64_t first, std::int64_t last) {
    constexpr int pick_lines = lines_of_picks(steps);
    Integers all_but_last = Integers{} - 1;
    all_but_last[lane_count - 1] = 0;
    const TableLine* line = task.lines + first * task.tables * (pick_lines + steps);
    for (std::int64_t band = first; band < last; ++band) {
        Sums<steps> sums{};
        const float* input = task.input;
        for (std::int64_t table = 0; table < task.tables; ++table) {
            const Vector low = load<Vector>(input);
            const Integers high = load<Integers>(input + lane_count) & all_but_last;
#pragma GCC unroll 12
            for (int step = 0; step < steps; ++step) {
                const Integers picks = load<Integers>(line[step / picks_in_line].numbers);
                const Vector inputs = looked_up(low, reinterpret_cast<Vector>(high),
                                                picks >> (pick_bits * (step % picks_in_line)));
                sums.at[step] += inputs * load<Vector>(line[pick_lines + step].numbers);
            }
            line += pick_lines + steps;
            input += table_columns;
        }
        float* const output = task.output + band * table_rows;
        Vector sum = load<Vector>(output);
#pragma GCC unroll 12
        for (int step = 0; step < steps; ++step) sum += sums.at[step];
        store(output, sum);
    }
}

void tabled(const TabledTask& task, std::int64_t first, std::int64_t last) {
    using Function = void (*)(const TabledTask&, std::int64_t, std::int64_t);
    constexpr Function by_steps[longest_steps] = {
        tabled_in<1>, tabled_in<2>, tabled_in<3>, tabled_in<4>,  tabled_in<5>,  tabled_in<6>,
        tabled_in<7>, tabled_in<8>, tabled_in<9>, tabled_in<10>, tabled_in<11>, tabled_in<12>,
    };
    by_steps[task.steps - 1](task, first, last);
}
#else
constexpr void (*tabled)(const TabledTask&, std::int64_t, std::int64_t) = nullptr;
#endif

template <typename Index>
void blocked(const BlockedTask& task, std::int64_t first, std::int64_t last) {
    constexpr int together = 4;
    const Index* const indices = static_cast<const Index*>(task.indices);
    for (std::int64_t group = first; group < last; ++group) {
        std::int64_t at = task.starts[group];
        const std::int64_t end = task.starts[group + 1];
        Four sums[together] = {};
        for (; end - at >= together; at += together)
            for (int way = 0; way < together; ++way)
                sums[way] += load<Four>(task.values + (at + way) * rows_of_block) *
                             (task.input[indices[at + way]] - Four{});
        for (; at < end; ++at)
            sums[0] += load<Four>(task.values + at * rows_of_block) *
                       (task.input[indices[at]] - Four{});
        store(task.output + group * rows_of_block, (sums[0] + sums[1]) + (sums[2] + sums[3]));
    }
}

GOSSAMER_INLINE float total(const Vector& value) {
    float numbers[lane_count];
    store(numbers, value);
    for (int half = lane_count / 2; half > 0; half /= 2)
        for (int lane = 0; lane < half; ++lane) numbers[lane] += numbers[lane + half];
    return numbers[0];
}

// Rows four at a time, so that a load of the input serves four.
void dense(const DenseTask& task, std::int64_t first, std::int64_t last) {
    constexpr int together = 4;
    std::int64_t row = first;
    for (; row + together <= last; row += together) {
        const float* values = task.values + row * task.stride;
        Vector sums[together][2] = {};
        for (std::int64_t column = 0; column < task.stride; column += 2 * lane_count) {
            for (int part = 0; part < 2; ++part) {
                const std::int64_t at = column + part * lane_count;
                const Vector input = load<Vector>(task.input + at);
                for (int way = 0; way < together; ++way)
                    sums[way][part] += input * load<Vector>(values + way * task.stride + at);
            }
        }
        for (int way = 0; way < together; ++way)
            task.output[row + way] = total(sums[way][0] + sums[way][1]);
    }
    for (; row < last; ++row) {
        Vector sum{};
        for (std::int64_t at = 0; at < task.stride; at += lane_count)
            sum += load<Vector>(task.input + at) *
                   load<Vector>(task.values + row * task.stride + at);
        task.output[row] = total(sum);
    }
}

GOSSAMER_INLINE Vector finished(const FinishTask& task, std::int64_t at) {
    Vector value = load<Vector>(task.values + at);
    if (task.bias != nullptr) value += load<Vector>(task.bias + at);
    if (task.residual != nullptr) value += load<Vector>(task.residual + at);
    value = activated(task.finish.activation, task.finish.alpha, value);
    if (task.finish.scale != nullptr)
        value = value * load<Vector>(task.finish.scale + at) + load<Vector>(task.finish.shift + at);
    return value;
}

void finish(const FinishTask& task) {
    std::int64_t at = 0;
    for (; at + lane_count <= task.count; at += lane_count)
        store(task.values + at, finished(task, at));
    store_first(task.values + at, finished(task, at), task.count - at);
}

void finish_row(const RowTask& task, const float* input, const float* residual, float* output) {
    const auto finished_row = [&](std::int64_t at) {
        Vector value = load<Vector>(input + at);
        if (residual != nullptr) value += load<Vector>(residual + at);
        value = activated(task.activation, task.alpha, value);
        return value * broadcast(task.scale) + broadcast(task.shift);
    };
    std::int64_t at = 0;
    for (; at + lane_count <= task.count; at += lane_count) store(output + at, finished_row(at));
    store_first(output + at, finished_row(at), task.count - at);
}

// Reduce the rows of a window into one row of `task.width`.
template <bool maximum>
GOSSAMER_INLINE void reduce_rows(const PoolTask& task, const float* input, std::int64_t top) {
    bool begun = false;
    for (std::int64_t step = 0; step < task.kernel[0]; ++step) {
        const std::int64_t y = top + step * task.dilation[0];
        if (y < 0 || y >= task.height) continue;
        const float* row = input + y * task.pitch;
        for (std::int64_t at = 0; at < task.width; at += lane_count) {
            const Vector next = load<Vector>(row + at);
            const Vector last = load<Vector>(task.row + at);
            const Vector both = maximum ? larger(last, next) : last + next;
            store(task.row + at, begun ? both : next);
        }
        begun = true;
    }
    if (begun) return;
    // With a dilation all rows of a window may lie outside of the image.
    for (std::int64_t at = 0; at < task.width; at += lane_count)
        store(task.row + at, broadcast(maximum ? -__builtin_inff() : 0.0f));
}

// How many positions of a window an average counts along one axis.
GOSSAMER_INLINE std::int64_t counted(const PoolTask& task, int axis, std::int64_t begin,
                                     std::int64_t size) {
    std::int64_t end = begin + task.kernel[axis];
    if (end > size + task.padding[axis]) end = size + task.padding[axis];
    if (task.counts_padding) return end - begin;
    if (end > size) end = size;
    return end - (begin < 0 ? 0 : begin);
}

template <bool maximum>
GOSSAMER_INLINE float reduce_columns(const PoolTask& task, std::int64_t left) {
    float found = maximum ? -__builtin_inff() : 0.0f;
    for (std::int64_t step = 0; step < task.kernel[1]; ++step) {
        const std::int64_t x = left + step * task.dilation[1];
        if (x < 0 || x >= task.width) continue;
        found = maximum ? larger(found, task.row[x]) : found + task.row[x];
    }
    return found;
}

template <bool maximum>
void pool_windows(const PoolTask& task, const float* input, float* output) {
    for (std::int64_t y = 0; y < task.output_height; ++y) {
        const std::int64_t top = y * task.stride[0] - task.padding[0];
        reduce_rows<maximum>(task, input, top);
        const std::int64_t rows = maximum ? 1 : counted(task, 0, top, task.height);
        for (std::int64_t x = 0; x < task.output_width; ++x) {
            const std::int64_t left = x * task.stride[1] - task.padding[1];
            const float found = reduce_columns<maximum>(task, left);
            const std::int64_t count =
                maximum ? 1 : rows * counted(task, 1, left, task.width);
            output[y * task.output_pitch + x] =
                maximum ? found : found / static_cast<float>(count);
        }
        for (std::int64_t x = task.output_width; x < task.output_pitch; ++x)
            output[y * task.output_pitch + x] = 0.0f;
    }
}

// The maxima of neighbouring lanes, those of `left` first. Even and odd lanes are brought together
// within quarters of 16 bytes, which is quick, and pairs put in order afterwards.
template <int... lane>
GOSSAMER_INLINE Vector neighbours(const Vector& left, const Vector& right, Lanes<lane...>) {
    constexpr int quarters = lane_count / 4;
    const Vector even = __builtin_shufflevector(
        left, right, (lane / 4 * 4 + lane % 2 * 2 + lane % 4 / 2 * lane_count)...);
    const Vector odd = __builtin_shufflevector(
        left, right, (lane / 4 * 4 + lane % 2 * 2 + lane % 4 / 2 * lane_count + 1)...);
    const Vector both = larger(even, odd);
    return __builtin_shufflevector(
        both, both, (lane / 2 % quarters * 4 + lane / 2 / quarters * 2 + lane % 2)...);
}

// Maxima of 2 x 2 pixels, the commonest pooling by far.
void pool_pairs(const PoolTask& task, const float* input, float* output) {
    const std::int64_t count = task.output_width;
    const auto pooled = [&](const float* top, std::int64_t x) {
        const float* bottom = top + task.pitch;
        const Vector left = larger(load<Vector>(top + 2 * x), load<Vector>(bottom + 2 * x));
        const Vector right = larger(load<Vector>(top + 2 * x + lane_count),
                                    load<Vector>(bottom + 2 * x + lane_count));
        return neighbours(left, right, EveryLane{});
    };
    Integers lanes;
    for (int lane = 0; lane < lane_count; ++lane) lanes[lane] = lane;
    const Integers inside = lanes < static_cast<std::int32_t>(count % lane_count);
    for (std::int64_t y = 0; y < task.output_height; ++y) {
        const float* top = input + 2 * y * task.pitch;
        // Whole vectors, also over the beginning of the next row, which comes later.
        const auto put = [&](std::int64_t x, const Vector& value) {
            const std::int64_t at = y * task.output_pitch + x;
            if (at + lane_count <= task.output_room)
                store(output + at, value);
            else
                store_first(output + at, value, task.output_room - at);
        };
        std::int64_t x = 0;
        for (; x + lane_count <= count; x += lane_count) put(x, pooled(top, x));
        if (x < count) {
            put(x, reinterpret_cast<Vector>(reinterpret_cast<Integers>(pooled(top, x)) & inside));
            x += lane_count;
        }
        for (; x < task.output_pitch; x += lane_count) put(x, Vector{});
    }
}

GOSSAMER_INLINE bool of_pairs(const PoolTask& task) {
    return task.maximum && task.kernel[0] == 2 && task.kernel[1] == 2 && task.stride[0] == 2 &&
           task.stride[1] == 2 && task.padding[0] == 0 && task.padding[1] == 0 &&
           task.dilation[0] == 1 && task.dilation[1] == 1 &&
           2 * task.output_height <= task.height && 2 * task.output_width <= task.width;
}

void pool(const PoolTask& task, const float* input, float* output) {
    if (of_pairs(task))
        pool_pairs(task, input, output);
    else if (task.maximum)
        pool_windows<true>(task, input, output);
    else
        pool_windows<false>(task, input, output);
}

constexpr Kernels table = {
    lane_count,  convolve, convolve_blocks,         sliced<std::uint16_t>, sliced<std::int32_t>,
    tabled, blocked<std::uint16_t>, blocked<std::int32_t>, dense, finish, finish_row, pool,
};

}  // namespace

const Kernels& GOSSAMER_EXPORTED(kernels)() { return table; }

}  // namespace gossamer::single
