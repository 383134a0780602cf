// The loops of single/linear.hpp, compiled once for each instruction set (simd/dispatch.hpp).
#include "single/linear.hpp"

#include "simd/vectors.hpp"

namespace gossamer::single {
namespace {

typedef float Eight __attribute__((vector_size(32), may_alias, aligned(4)));
typedef float Four __attribute__((vector_size(16)));

// Eight inputs by their columns. One wide load of indices and shifts leave the load units, which
// are the bottleneck, to the inputs; the gather instruction is half as fast on Zen 3.
GOSSAMER_INLINE void pick(const float* input, const std::uint16_t* indices, Eight& picked) {
    const auto low = load_any<std::uint64_t>(indices);
    const auto high = load_any<std::uint64_t>(indices + 4);
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
void sliced(const SlicedTask& task, Range slices) {
    for (std::int64_t slice = slices.begin; slice < slices.end; ++slice) {
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
    for (int lane = 0; lane < width; ++lane) {
        const int place = places[lane] & 31;
        found[lane] = place < width ? low[place] : high[place - width];
    }
    return found;
#endif
}

template <int steps>
void tabled_in(const TabledTask& task, Range bands) {
    constexpr int pick_lines = lines_of_picks(steps);
    Integers all_but_last = Integers{} - 1;
    all_but_last[width - 1] = 0;
    const TableLine* line = task.lines + bands.begin * task.tables * (pick_lines + steps);
    for (std::int64_t band = bands.begin; band < bands.end; ++band) {
        Sums<steps> sums{};
        const float* input = task.input;
        for (std::int64_t table = 0; table < task.tables; ++table) {
            const Vector low = load_any<Vector>(input);
            const Integers high = load_any<Integers>(input + width) & all_but_last;
#pragma GCC unroll 12
            for (int step = 0; step < steps; ++step) {
                const Integers picks = load_any<Integers>(line[step / picks_in_line].numbers);
                const Vector inputs = looked_up(low, reinterpret_cast<Vector>(high),
                                                picks >> (pick_bits * (step % picks_in_line)));
                sums.at[step] += inputs * load_any<Vector>(line[pick_lines + step].numbers);
            }
            line += pick_lines + steps;
            input += table_columns;
        }
        float* const output = task.output + band * table_rows;
        Vector sum = load_any<Vector>(output);
#pragma GCC unroll 12
        for (int step = 0; step < steps; ++step) sum += sums.at[step];
        store_any(output, sum);
    }
}

void tabled(const TabledTask& task, Range bands) {
    using Function = void (*)(const TabledTask&, Range);
    constexpr Function by_steps[longest_steps] = {
        tabled_in<1>, tabled_in<2>, tabled_in<3>, tabled_in<4>,  tabled_in<5>,  tabled_in<6>,
        tabled_in<7>, tabled_in<8>, tabled_in<9>, tabled_in<10>, tabled_in<11>, tabled_in<12>,
    };
    by_steps[task.steps - 1](task, bands);
}
#else
constexpr void (*tabled)(const TabledTask&, Range) = nullptr;
#endif

template <typename Index>
void blocked(const BlockedTask& task, Range groups) {
    constexpr int together = 4;
    const Index* const indices = static_cast<const Index*>(task.indices);
    for (std::int64_t group = groups.begin; group < groups.end; ++group) {
        std::int64_t at = task.starts[group];
        const std::int64_t end = task.starts[group + 1];
        Four sums[together] = {};
        for (; end - at >= together; at += together)
            for (int way = 0; way < together; ++way)
                sums[way] += load_any<Four>(task.values + (at + way) * block_rows) *
                             (task.input[indices[at + way]] - Four{});
        for (; at < end; ++at)
            sums[0] +=
                load_any<Four>(task.values + at * block_rows) * (task.input[indices[at]] - Four{});
        store_any(task.output + group * block_rows, (sums[0] + sums[1]) + (sums[2] + sums[3]));
    }
}

GOSSAMER_INLINE float total(const Vector& value) {
    float numbers[width];
    store_any(numbers, value);
    for (int half = width / 2; half > 0; half /= 2)
        for (int lane = 0; lane < half; ++lane) numbers[lane] += numbers[lane + half];
    return numbers[0];
}

// Rows four at a time, so that a load of the input serves four.
void dense(const DenseTask& task, Range rows) {
    constexpr int together = 4;
    std::int64_t row = rows.begin;
    for (; row + together <= rows.end; row += together) {
        const float* values = task.values + row * task.stride;
        Vector sums[together][2] = {};
        for (std::int64_t column = 0; column < task.stride; column += 2 * width) {
            for (int part = 0; part < 2; ++part) {
                const std::int64_t at = column + part * width;
                const Vector input = load_any<Vector>(task.input + at);
                for (int way = 0; way < together; ++way)
                    sums[way][part] += input * load_any<Vector>(values + way * task.stride + at);
            }
        }
        for (int way = 0; way < together; ++way)
            task.output[row + way] = total(sums[way][0] + sums[way][1]);
    }
    for (; row < rows.end; ++row) {
        Vector sum{};
        for (std::int64_t at = 0; at < task.stride; at += width)
            sum += load_any<Vector>(task.input + at) *
                   load_any<Vector>(task.values + row * task.stride + at);
        task.output[row] = total(sum);
    }
}

}  // namespace

GOSSAMER_EXPORT(LinearLoops, linear_loops,
                {
                    width,
                    sliced<std::uint16_t>,
                    sliced<std::int32_t>,
                    tabled,
                    blocked<std::uint16_t>,
                    blocked<std::int32_t>,
                    dense,
                })

}  // namespace gossamer::single
