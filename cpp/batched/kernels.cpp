// The loops of batched/kernels.hpp for vectors of GOSSAMER_WIDTH floats, compiled once for each
// instruction set (simd/dispatch.hpp).

#include "batched/kernels.hpp"
#include "simd/activations.hpp"

#define GOSSAMER_LAMBDA_INLINE __attribute__((always_inline))

namespace gossamer {
namespace {

// Out of line, so that the sums of the loops below stay in registers.
__attribute__((noinline)) void activate(ActivationKind kind, float alpha, float* values,
                                        int count) {
    for (int i = 0; i < count; ++i) {
        store(values + i * width, activated(kind, alpha, load(values + i * width)));
    }
}

// ---- what happens to sums

template <int count>
struct Sums {
    Vector at[count];
};

template <int count>
GOSSAMER_INLINE void apply(const Finish& finish, int64_t channel, Sums<count>& sums) {
    if (finish.activation == ActivationKind::relu) {
#pragma GCC unroll 16
        for (int i = 0; i < count; ++i) sums.at[i] = at_least(sums.at[i], 0.0f);
    } else if (finish.activation != ActivationKind::identity) {
        alignas(64) float values[count * width];
#pragma GCC unroll 16
        for (int i = 0; i < count; ++i) store(values + i * width, sums.at[i]);
        activate(finish.activation, finish.alpha, values, count);
#pragma GCC unroll 16
        for (int i = 0; i < count; ++i) sums.at[i] = load(values + i * width);
    }
    if (finish.scale) {
        const Vector scale = broadcast(finish.scale[channel]);
        const Vector shift = broadcast(finish.shift[channel]);
#pragma GCC unroll 16
        for (int i = 0; i < count; ++i) sums.at[i] = sums.at[i] * scale + shift;
    }
}

enum class Pooled { no, maximum, average };

// The first pixels / 2 sums become those of the windows of 2 by 2.
template <int pixels, Pooled pooled>
GOSSAMER_INLINE void pool_sums(Sums<2 * pixels>& sums) {
#pragma GCC unroll 16
    for (int i = 0; i < pixels / 2; ++i) {
        const Vector a = sums.at[2 * i], b = sums.at[2 * i + 1];
        const Vector c = sums.at[pixels + 2 * i], d = sums.at[pixels + 2 * i + 1];
        sums.at[i] = pooled == Pooled::maximum ? larger(larger(a, b), larger(c, d))
                                               : (a + b + (c + d)) * 0.25f;
    }
}

template <int rows, int pixels, Pooled pooled>
GOSSAMER_INLINE void finish_sums(const Strip& strip, int64_t channel,
                                 Sums<rows * pixels>& sums) {
    if (strip.residual) {
        const float* residual = strip.residual + channel * strip.residual_channel;
#pragma GCC unroll 16
        for (int i = 0; i < rows * pixels; ++i) {
            sums.at[i] += load(residual + (i / pixels) * strip.residual_row + i % pixels * width);
        }
    }
    constexpr int stored = pooled == Pooled::no ? pixels : pixels / 2;
    const Finish& finish = strip.finish;
    if (pooled == Pooled::maximum && finish.activation == ActivationKind::relu && !finish.scale) {
        // The same, on a quarter of the numbers.
        if constexpr (pooled != Pooled::no) pool_sums<pixels, pooled>(sums);
#pragma GCC unroll 16
        for (int i = 0; i < stored; ++i) sums.at[i] = at_least(sums.at[i], 0.0f);
    } else {
        apply(finish, channel, sums);
        if constexpr (pooled != Pooled::no) pool_sums<pixels, pooled>(sums);
    }
    float* output = strip.output + channel * strip.output_channel;
#pragma GCC unroll 16
    for (int i = 0; i < stored; ++i) store(output + i * width, sums.at[i]);
}

template <int rows, int pixels>
GOSSAMER_INLINE void begin_sums(const Strip& strip, int64_t channel,
                                Sums<rows * pixels>& sums) {
    if (!strip.bias) {
#pragma GCC unroll 16
        for (int i = 0; i < rows * pixels; ++i) sums.at[i] = Vector{};
        return;
    }
    const float* bias = strip.bias + channel * strip.bias_channel;
    if (strip.bias_pixel == 0) {
        const Vector same = broadcast(*bias);
#pragma GCC unroll 16
        for (int i = 0; i < rows * pixels; ++i) sums.at[i] = same;
        return;
    }
#pragma GCC unroll 16
    for (int i = 0; i < rows * pixels; ++i) {
        sums.at[i] =
            broadcast(bias[(i / pixels) * strip.bias_row + (i % pixels) * strip.bias_pixel]);
    }
}

// ---- scattered non-zeros: a multiply-add from memory for each of them and each pixel

// Two loads begin in a cycle, as do two multiply-adds, and each of these needs a load: whatever
// else is loaded costs time. So weights come in fours (see Entry), and their offsets in twos.
typedef uint64_t Offsets __attribute__((may_alias));

template <int lane>
GOSSAMER_INLINE Vector spread(Vector fours) {
#if GOSSAMER_WIDTH == 4
    return __builtin_shufflevector(fours, fours, lane, lane, lane, lane);
#elif GOSSAMER_WIDTH == 8
    return __builtin_shufflevector(fours, fours, lane, lane, lane, lane, lane + 4, lane + 4,
                                   lane + 4, lane + 4);
#else
    return __builtin_shufflevector(fours, fours, lane, lane, lane, lane, lane + 4, lane + 4,
                                   lane + 4, lane + 4, lane + 8, lane + 8, lane + 8, lane + 8,
                                   lane + 12, lane + 12, lane + 12, lane + 12);
#endif
}

// The same 4 numbers over and over. As one load, which compilers do not make of a shuffle: GCC 12
// takes it through the stack, and every multiply-add waits.
GOSSAMER_INLINE Vector load_fours(const float* from) {
#if GOSSAMER_WIDTH == 16 && defined(__AVX512F__)
    return _mm512_maskz_broadcast_f32x4(0xffff, _mm_loadu_ps(from));  // GCC 12 warns of the plain one
#elif GOSSAMER_WIDTH == 8 && defined(__AVX2__)
    return reinterpret_cast<Vector>(
        _mm256_broadcast_ps(reinterpret_cast<const __m128*>(from)));
#else
    const Quad four = *reinterpret_cast<const Quad*>(from);
#if GOSSAMER_WIDTH == 4
    return four;
#elif GOSSAMER_WIDTH == 8
    return __builtin_shufflevector(four, four, 0, 1, 2, 3, 0, 1, 2, 3);
#else
    return __builtin_shufflevector(four, four, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3);
#endif
#endif
}

// `step` is how many pixels apart the inputs of neighbouring outputs are, 0 if any number.
template <int rows, int pixels, int step>
GOSSAMER_INLINE void add_scattered(Vector weight, const float* input, ptrdiff_t input_row,
                                   ptrdiff_t input_pixel, Sums<rows * pixels>& sums) {
    const ptrdiff_t apart = step ? step * width : input_pixel;
#pragma GCC unroll 16
    for (int i = 0; i < rows * pixels; ++i) {
        sums.at[i] += weight * load(input + (i / pixels) * input_row + i % pixels * apart);
    }
}

// How many entries are added up side by side. A multiply-add takes 4 cycles and two begin in each,
// so that fewer than 8 chains of them would leave units idle.
constexpr int chains(int sums) { return sums >= 7 ? 1 : sums >= 3 ? 2 : 4; }

template <int rows, int pixels, int step>
GOSSAMER_INLINE void add_row(const Entry* entry, const Entry* end, const float* input,
                             ptrdiff_t input_row, ptrdiff_t input_pixel,
                             Sums<rows * pixels>& sums) {
    constexpr int count = rows * pixels;
    constexpr int side = chains(count);
    Sums<count> more[side];
#pragma GCC unroll 4
    for (int k = 1; k < side; ++k) {
#pragma GCC unroll 16
        for (int i = 0; i < count; ++i) more[k].at[i] = Vector{};
    }
    more[0] = sums;
    const auto add = [&](Vector weight, int64_t offset, Sums<count>& to) GOSSAMER_LAMBDA_INLINE {
        add_scattered<rows, pixels, step>(weight, input + offset, input_row, input_pixel, to);
    };
    for (; end - entry >= 4; entry += 4) {
        const float* values = reinterpret_cast<const float*>(entry);
        const Offsets* offsets = reinterpret_cast<const Offsets*>(values + 4);
        const Vector weights = load_fours(values);
        const uint64_t first = offsets[0], second = offsets[1];
        add(spread<0>(weights), static_cast<uint32_t>(first), more[0]);
        add(spread<1>(weights), static_cast<int64_t>(first >> 32), more[1 % side]);
        add(spread<2>(weights), static_cast<uint32_t>(second), more[2 % side]);
        add(spread<3>(weights), static_cast<int64_t>(second >> 32), more[3 % side]);
    }
    for (; entry < end; ++entry) add(broadcast(entry->value), entry->offset, more[0]);
#pragma GCC unroll 4
    for (int k = 1; k < side; ++k) {
#pragma GCC unroll 16
        for (int i = 0; i < count; ++i) more[0].at[i] += more[k].at[i];
    }
    sums = more[0];
}

GOSSAMER_INLINE void fetch(const float* from, int floats) {
    constexpr int line = 64 / sizeof(float);
#pragma GCC unroll 16
    for (int i = 0; i < floats; i += line) __builtin_prefetch(from + i);
}

template <int rows, int pixels, int step, Pooled pooled>
GOSSAMER_INLINE void whole_rows(const Strip& strip, const Panel& panel) {
    const Entry* entry = panel.entries;
    for (int64_t row = 0; row < panel.rows; ++row) {
        const int64_t channel = panel.first_row + row;
        const Entry* const end = panel.entries + panel.starts[row + 1];
        Sums<rows * pixels> sums;
        begin_sums<rows, pixels>(strip, channel, sums);
        add_row<rows, pixels, step>(entry, end, strip.input, strip.input_row, strip.input_pixel,
                                    sums);
        entry = end;
        finish_sums<rows, pixels, pooled>(strip, channel, sums);
    }
}

template <int rows, int pixels, int step, Pooled pooled>
GOSSAMER_INLINE void parts_of_rows(const Strip& strip, const Panel& panel) {
    constexpr int count = rows * pixels;
    const auto partial_of = [&](int64_t number) GOSSAMER_LAMBDA_INLINE {
        return strip.partial + int64_t{panel.order[number]} * (count * width);
    };
    const Entry* entry = panel.entries;
    for (int64_t number = 0; number < panel.rows; ++number) {
        const int64_t channel = panel.first_row + panel.order[number];
        const Entry* const end = panel.entries + panel.starts[number + 1];
        float* const partial = partial_of(number);
        Sums<count> sums;
        if (panel.begins) {
            begin_sums<rows, pixels>(strip, channel, sums);
        } else {
            fetch(partial_of(number + rows_ahead), count * width);
#pragma GCC unroll 16
            for (int i = 0; i < count; ++i) sums.at[i] = load(partial + i * width);
        }
        add_row<rows, pixels, step>(entry, end, strip.input, strip.input_row, strip.input_pixel,
                                    sums);
        entry = end;
        if (panel.ends) {
            finish_sums<rows, pixels, pooled>(strip, channel, sums);
        } else {
#pragma GCC unroll 16
            for (int i = 0; i < count; ++i) store(partial + i * width, sums.at[i]);
        }
    }
}

template <int rows, int pixels, int step, Pooled pooled>
void scattered(const Strip& given, const Panel& given_panel) {
    // Copies, which the stores of these loops cannot change.
    const Strip strip = given;
    const Panel panel = given_panel;
    if (panel.begins && panel.ends) return whole_rows<rows, pixels, step, pooled>(strip, panel);
    parts_of_rows<rows, pixels, step, pooled>(strip, panel);
}

// ---- blocks of 4 rows, and dense weights: one load of an input for 4 multiply-adds

// As many as fit in the registers (32 where vectors are of 16 floats), 4 rows high.
constexpr int block_pixels = width == 16 ? 4 : width == 8 ? 3 : 2;

// 4 rows of weights.
struct Block {
    int64_t channel;  // the first row
    int64_t rows;     // how many of the 4 there are
    int64_t columns;
    const int32_t* offsets;
    const float* values;  // [columns][4]
};

// Does something with each block of a panel.
template <typename Each>
GOSSAMER_INLINE void each_block(const Panel& panel, const Each& each) {
    Block block{panel.first_row, 4, panel.columns, panel.offsets, panel.values};
    for (int64_t group = 0; 4 * group < panel.rows; ++group) {
        const int64_t left = panel.rows - 4 * group;
        block.rows = left < 4 ? left : 4;
        // Only their number is looked up: where they lie is known from the block before, and the
        // first inputs need not wait for it.
        if (panel.starts) block.columns = panel.starts[group + 1] - panel.starts[group];
        each(block);
        block.channel += 4;
        block.values += 4 * block.columns;
        if (panel.starts) block.offsets += block.columns;
    }
}

// Where in a strip a sum lies: pixels of one row, or the 4 of one window after those of the other.
struct Position {
    int row, pixel;
};

template <Pooled pooled>
constexpr Position position(int sum) {
    if (pooled == Pooled::no) return {0, sum};
    return {sum % 4 / 2, sum / 4 * 2 + sum % 2};
}

// One column: 4 weights, and an input for each sum of a row.
template <int count>
GOSSAMER_INLINE void add_column(const float* values, const float* const (&inputs)[count],
                                Sums<count> (&sums)[4]) {
    Sums<count> in;
#pragma GCC unroll 8
    for (int i = 0; i < count; ++i) in.at[i] = load(inputs[i]);
#pragma GCC unroll 4
    for (int row = 0; row < 4; ++row) {
        const Vector weight = broadcast(values[row]);
#pragma GCC unroll 8
        for (int i = 0; i < count; ++i) sums[row].at[i] += weight * in.at[i];
    }
}

// AddressSanitizer does not see what assembly reads.
#if GOSSAMER_WIDTH == 8 && defined(__FMA__) && defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__)
// The same. 12 sums, 3 inputs and a weight take all 16 registers, so that nothing can be added
// here. Compilers do not manage where several columns follow each other: they move sums about, and
// out to memory.
GOSSAMER_INLINE void add_column(const float* values, const float* const (&inputs)[3],
                                Sums<3> (&sums)[4]) {
    const auto at = [&](int i) GOSSAMER_LAMBDA_INLINE {
        return reinterpret_cast<const Vector*>(inputs[i]);
    };
    asm("vmovaps %[in0], %%ymm12\n\t"
        "vmovaps %[in1], %%ymm13\n\t"
        "vmovaps %[in2], %%ymm14\n\t"
        "vbroadcastss (%[values]), %%ymm15\n\t"
        "vfmadd231ps %%ymm12, %%ymm15, %[a0]\n\t"
        "vfmadd231ps %%ymm13, %%ymm15, %[a1]\n\t"
        "vfmadd231ps %%ymm14, %%ymm15, %[a2]\n\t"
        "vbroadcastss 4(%[values]), %%ymm15\n\t"
        "vfmadd231ps %%ymm12, %%ymm15, %[b0]\n\t"
        "vfmadd231ps %%ymm13, %%ymm15, %[b1]\n\t"
        "vfmadd231ps %%ymm14, %%ymm15, %[b2]\n\t"
        "vbroadcastss 8(%[values]), %%ymm15\n\t"
        "vfmadd231ps %%ymm12, %%ymm15, %[c0]\n\t"
        "vfmadd231ps %%ymm13, %%ymm15, %[c1]\n\t"
        "vfmadd231ps %%ymm14, %%ymm15, %[c2]\n\t"
        "vbroadcastss 12(%[values]), %%ymm15\n\t"
        "vfmadd231ps %%ymm12, %%ymm15, %[d0]\n\t"
        "vfmadd231ps %%ymm13, %%ymm15, %[d1]\n\t"
        "vfmadd231ps %%ymm14, %%ymm15, %[d2]"
        : [a0] "+x"(sums[0].at[0]), [a1] "+x"(sums[0].at[1]), [a2] "+x"(sums[0].at[2]),
          [b0] "+x"(sums[1].at[0]), [b1] "+x"(sums[1].at[1]), [b2] "+x"(sums[1].at[2]),
          [c0] "+x"(sums[2].at[0]), [c1] "+x"(sums[2].at[1]), [c2] "+x"(sums[2].at[2]),
          [d0] "+x"(sums[3].at[0]), [d1] "+x"(sums[3].at[1]), [d2] "+x"(sums[3].at[2])
        : [values] "r"(values), "m"(*reinterpret_cast<const Quad*>(values)), [in0] "m"(*at(0)),
          [in1] "m"(*at(1)), [in2] "m"(*at(2))
        : "xmm12", "xmm13", "xmm14", "xmm15");
}

// With two inputs.
GOSSAMER_INLINE void add_column(const float* values, const float* const (&inputs)[2],
                                Sums<2> (&sums)[4]) {
    const auto at = [&](int i) GOSSAMER_LAMBDA_INLINE {
        return reinterpret_cast<const Vector*>(inputs[i]);
    };
    asm("vmovaps %[in0], %%ymm12\n\t"
        "vmovaps %[in1], %%ymm13\n\t"
        "vbroadcastss (%[values]), %%ymm14\n\t"
        "vbroadcastss 4(%[values]), %%ymm15\n\t"
        "vfmadd231ps %%ymm12, %%ymm14, %[a0]\n\t"
        "vfmadd231ps %%ymm13, %%ymm14, %[a1]\n\t"
        "vfmadd231ps %%ymm12, %%ymm15, %[b0]\n\t"
        "vfmadd231ps %%ymm13, %%ymm15, %[b1]\n\t"
        "vbroadcastss 8(%[values]), %%ymm14\n\t"
        "vbroadcastss 12(%[values]), %%ymm15\n\t"
        "vfmadd231ps %%ymm12, %%ymm14, %[c0]\n\t"
        "vfmadd231ps %%ymm13, %%ymm14, %[c1]\n\t"
        "vfmadd231ps %%ymm12, %%ymm15, %[d0]\n\t"
        "vfmadd231ps %%ymm13, %%ymm15, %[d1]"
        : [a0] "+x"(sums[0].at[0]), [a1] "+x"(sums[0].at[1]), [b0] "+x"(sums[1].at[0]),
          [b1] "+x"(sums[1].at[1]), [c0] "+x"(sums[2].at[0]), [c1] "+x"(sums[2].at[1]),
          [d0] "+x"(sums[3].at[0]), [d1] "+x"(sums[3].at[1])
        : [values] "r"(values), "m"(*reinterpret_cast<const Quad*>(values)), [in0] "m"(*at(0)),
          [in1] "m"(*at(1))
        : "xmm12", "xmm13", "xmm14", "xmm15");
}
#endif

// Adds up the sums of a strip from `first` on for 4 rows.
template <int first, int count, int step, Pooled pooled>
GOSSAMER_INLINE void add_block(const float* input, ptrdiff_t input_row, ptrdiff_t input_pixel,
                               const Block& block, Sums<count> (&sums)[4]) {
    const ptrdiff_t apart = step ? step * width : input_pixel;
    const float* const rows[2] = {input, input + input_row};
    const float* values = block.values;
    const auto add = [&](ptrdiff_t offset) GOSSAMER_LAMBDA_INLINE {
        const float* inputs[count];
#pragma GCC unroll 8
        for (int i = 0; i < count; ++i) {
            const Position at = position<pooled>(first + i);
            inputs[i] = rows[at.row] + offset + at.pixel * apart;
        }
        add_column(values, inputs, sums);
        values += 4;
    };
    const int32_t* offset = block.offsets;
    const int32_t* const end = offset + block.columns;
    // By fours, for the time that counting them takes.
    for (; end - offset >= 4; offset += 4) {
#pragma GCC unroll 4
        for (int i = 0; i < 4; ++i) add(offset[i]);
    }
    for (; offset < end; ++offset) add(*offset);
}

// Whether nothing but a lower bound comes between the sums of a strip and its output, and they can
// stay in registers throughout. Any other decision would be taken anew for every few
// multiply-adds, and what it needs would take their registers.
template <Pooled pooled>
GOSSAMER_INLINE bool is_plain(const Strip& strip, const Panel& panel) {
    const Finish& finish = strip.finish;
    // The maximum of a window can be bounded in the place of its 4 sums, the average cannot.
    const bool bounded = finish.activation == ActivationKind::identity ||
                         (finish.activation == ActivationKind::relu && pooled != Pooled::average);
    return bounded && !finish.scale && !strip.residual && strip.bias_pixel == 0 &&
           panel.rows % 4 == 0;
}

// The sums of a strip from `first` on, or the windows that they fill. A window that the sums before
// these have begun lies in its place, and one that is left to be continued is put there.
template <int first, int count, Pooled pooled>
GOSSAMER_INLINE void store_bounded(const Sums<count>& sums, float low, float* output) {
    if constexpr (pooled == Pooled::no) {
#pragma GCC unroll 8
        for (int i = 0; i < count; ++i) {
            store(output + (first + i) * width, at_least(sums.at[i], low));
        }
        return;
    }
    Vector window{};
#pragma GCC unroll 8
    for (int i = 0; i < count; ++i) {
        const int place = (first + i) % 4;
        float* to = output + (first + i) / 4 * width;
        if (i == 0 && place > 0) window = load(to);
        window = place == 0                   ? sums.at[i]
                 : pooled == Pooled::maximum ? larger(window, sums.at[i])
                                               : window + sums.at[i];
        if (place == 3) {
            store(to, at_least(pooled == Pooled::average ? window * 0.25f : window, low));
        } else if (i == count - 1) {
            store(to, window);
        }
    }
}

// A plain strip from `first` of its `all` sums on, as many at a time as fit in the registers.
template <int first, int all, int step, Pooled pooled>
GOSSAMER_INLINE void block_in_registers(const Strip& strip, const Panel& panel, const Block& block,
                                        float low, float* partial) {
    constexpr int parts = (all - first + block_pixels - 1) / block_pixels;
    constexpr int count = (all - first + parts - 1) / parts;
    static const float no_bias[4] = {};
    const float* const bias = strip.bias ? strip.bias + block.channel : no_bias;
    float* const output = strip.output + block.channel * strip.output_channel;
    Sums<count> sums[4];
#pragma GCC unroll 4
    for (int row = 0; row < 4; ++row) {
        const Vector same = broadcast(bias[row]);
#pragma GCC unroll 8
        for (int i = 0; i < count; ++i) {
            sums[row].at[i] = panel.begins ? same : load(partial + (row * count + i) * width);
        }
    }
    add_block<first, count, step, pooled>(strip.input, strip.input_row, strip.input_pixel, block,
                                          sums);
#pragma GCC unroll 4
    for (int row = 0; row < 4; ++row) {
        if (panel.ends) {
            store_bounded<first, count, pooled>(sums[row], low,
                                                output + row * strip.output_channel);
            continue;
        }
#pragma GCC unroll 8
        for (int i = 0; i < count; ++i) {
            store(partial + (row * count + i) * width, sums[row].at[i]);
        }
    }
    if constexpr (first + count < all) {
        block_in_registers<first + count, all, step, pooled>(strip, panel, block, low,
                                                             partial + 4 * count * width);
    }
}

// The pixels of one row, as many at a time as fit in the registers; sums [4][stride] vectors.
template <int pixels, int step>
GOSSAMER_INLINE void add_block_row(const float* input, ptrdiff_t input_pixel, const Block& block,
                                   float* sums, ptrdiff_t stride) {
    constexpr int parts = (pixels + block_pixels - 1) / block_pixels;
    constexpr int now = (pixels + parts - 1) / parts;
    Sums<now> sum[4];
#pragma GCC unroll 4
    for (int row = 0; row < 4; ++row) {
#pragma GCC unroll 8
        for (int i = 0; i < now; ++i) sum[row].at[i] = load(sums + row * stride + i * width);
    }
    add_block<0, now, step, Pooled::no>(input, 0, input_pixel, block, sum);
#pragma GCC unroll 4
    for (int row = 0; row < 4; ++row) {
#pragma GCC unroll 8
        for (int i = 0; i < now; ++i) store(sums + row * stride + i * width, sum[row].at[i]);
    }
    if constexpr (pixels > now) {
        add_block_row<pixels - now, step>(input + now * (step ? step * width : input_pixel),
                                          input_pixel, block, sums + now * width, stride);
    }
}

// Any strip, with its sums in memory before and after they are added up.
template <int rows, int pixels, int step, Pooled pooled>
GOSSAMER_INLINE void block_in_memory(const Strip& strip, const Panel& panel, const Block& block,
                                     float* sums) {
    constexpr int count = rows * pixels;
    if (panel.begins) {
        for (int64_t row = 0; row < 4; ++row) {
            Sums<count> sum;
            begin_sums<rows, pixels>(strip, block.channel + (row < block.rows ? row : 0), sum);
#pragma GCC unroll 16
            for (int i = 0; i < count; ++i) store(sums + (row * count + i) * width, sum.at[i]);
        }
    }
#pragma GCC unroll 2
    for (int row = 0; row < rows; ++row) {
        add_block_row<pixels, step>(strip.input + row * strip.input_row, strip.input_pixel, block,
                                    sums + row * pixels * width, count * width);
    }
    if (!panel.ends) return;
    for (int64_t row = 0; row < block.rows; ++row) {
        Sums<count> sum;
#pragma GCC unroll 16
        for (int i = 0; i < count; ++i) sum.at[i] = load(sums + (row * count + i) * width);
        finish_sums<rows, pixels, pooled>(strip, block.channel + row, sum);
    }
}

template <int rows, int pixels, int step, Pooled pooled>
void blocks(const Strip& given, const Panel& given_panel) {
    constexpr int count = rows * pixels;
    // Copies, which the stores below cannot change.
    const Strip strip = given;
    const Panel panel = given_panel;
    float* partial = strip.partial;
    if (is_plain<pooled>(strip, panel)) {
        const float low =
            strip.finish.activation == ActivationKind::relu ? 0.0f : -__builtin_inff();
        each_block(panel, [&](const Block& block) GOSSAMER_LAMBDA_INLINE {
            block_in_registers<0, count, step, pooled>(strip, panel, block, low, partial);
            partial += 4 * count * width;
        });
        return;
    }
    const bool whole = panel.begins && panel.ends;
    each_block(panel, [&](const Block& block) GOSSAMER_LAMBDA_INLINE {
        alignas(64) float own[4 * count * width];
        block_in_memory<rows, pixels, step, pooled>(given, given_panel, block,
                                                    whole ? own : partial);
        partial += 4 * count * width;
    });
}

// ---- layers without weights

void pointwise(const View& input, const View& residual, const Finish& finish, const View& output) {
    for (int64_t channel = 0; channel < input.channels; ++channel) {
        for (int64_t row = 0; row < input.rows; ++row) {
            const float* from = input.data + channel * input.channel + row * input.row;
            const float* more = residual.data
                                    ? residual.data + channel * residual.channel + row * residual.row
                                    : nullptr;
            float* to = output.data + channel * output.channel + row * output.row;
            for (int64_t pixel = 0; pixel < input.pixels; ++pixel) {
                Sums<1> sum;
                sum.at[0] = load(from + pixel * width);
                if (more) sum.at[0] += load(more + pixel * width);
                apply(finish, channel, sum);
                store(to + pixel * width, sum.at[0]);
            }
        }
    }
}

struct Range {
    int64_t begin, end;
};

GOSSAMER_INLINE int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
GOSSAMER_INLINE int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }

// The taps of the window that lie within [0, size).
GOSSAMER_INLINE Range inside(int64_t start, int64_t dilation, int64_t kernel, int64_t size) {
    const int64_t begin = start >= 0 ? 0 : (-start + dilation - 1) / dilation;
    const int64_t end = start >= size ? 0 : (size - 1 - start) / dilation + 1;
    return {begin, least(kernel, end)};
}

// How many taps lie within the padded value, which is what an average may divide by.
GOSSAMER_INLINE int64_t counted(int64_t start, int64_t kernel, int64_t size, int64_t padding) {
    return least(start + kernel, size + padding) - start;
}

void pool(const View& input, const Window& window, const View& output) {
    const bool maximum = window.kind == PoolingKind::max;
    for (int64_t channel = 0; channel < output.channels; ++channel) {
        for (int64_t row = 0; row < output.rows; ++row) {
            const int64_t top = row * window.stride[0] - window.padding[0];
            const Range down = inside(top, window.dilation[0], window.kernel[0], input.rows);
            for (int64_t pixel = 0; pixel < output.pixels; ++pixel) {
                const int64_t left = pixel * window.stride[1] - window.padding[1];
                const Range along = inside(left, window.dilation[1], window.kernel[1], input.pixels);
                Vector value = broadcast(maximum ? -__builtin_inff() : 0.0f);
                for (int64_t y = down.begin; y < down.end; ++y) {
                    const float* from = input.data + channel * input.channel +
                                        (top + y * window.dilation[0]) * input.row +
                                        left * width;
                    for (int64_t x = along.begin; x < along.end; ++x) {
                        const Vector tap = load(from + x * window.dilation[1] * width);
                        value = maximum ? larger(value, tap) : value + tap;
                    }
                }
                if (!maximum) {
                    const int64_t taps =
                        window.counts_padding
                            ? counted(top, window.kernel[0], input.rows, window.padding[0]) *
                                  counted(left, window.kernel[1], input.pixels, window.padding[1])
                            : most(0, down.end - down.begin) * most(0, along.end - along.begin);
                    value = value / static_cast<float>(most(1, taps));
                }
                store(output.data + channel * output.channel + row * output.row + pixel * width,
                      value);
            }
        }
    }
}

void softmax(const View& input, bool logarithm, const View& output) {
    for (int64_t row = 0; row < input.rows; ++row) {
        for (int64_t pixel = 0; pixel < input.pixels; ++pixel) {
            const float* from = input.data + row * input.row + pixel * width;
            float* to = output.data + row * output.row + pixel * width;
            Vector peak = load(from);
            for (int64_t channel = 1; channel < input.channels; ++channel) {
                peak = larger(peak, load(from + channel * input.channel));
            }
            Vector total{}, lost{};  // what rounding added too much: it matters over thousands
            for (int64_t channel = 0; channel < input.channels; ++channel) {
                const Vector less = load(from + channel * input.channel) - peak;
                const Vector power = less < -87.0f ? Vector{} : exponential(less);
                const Vector term = power - lost;
                const Vector sum = total + term;
                lost = sum - total - term;
                total = sum;
                store(to + channel * output.channel, logarithm ? less : power);
            }
            Vector change = 1.0f / total;
            if (logarithm) {
                for (int lane = 0; lane < width; ++lane) change[lane] = __builtin_logf(total[lane]);
            }
            for (int64_t channel = 0; channel < input.channels; ++channel) {
                float* at = to + channel * output.channel;
                store(at, logarithm ? load(at) - change : load(at) * change);
            }
        }
    }
}

// Features of one group lie far apart, and none of them in the caches while images take turns there.
constexpr int64_t channels_ahead = 16;

void copy(const View& input, const View& output) {
    int64_t channel = 0, row = 0, pixel = 0;
    for (int64_t to_channel = 0; to_channel < output.channels; ++to_channel) {
        for (int64_t to_row = 0; to_row < output.rows; ++to_row) {
            float* to = output.data + to_channel * output.channel + to_row * output.row;
            __builtin_prefetch(to + channels_ahead * output.channel, 1);
            for (int64_t i = 0; i < output.pixels; ++i) {
                store(to + i * width, load(input.data + channel * input.channel +
                                           row * input.row + pixel * width));
                if (++pixel < input.pixels) continue;
                pixel = 0;
                if (++row < input.rows) continue;
                row = 0;
                ++channel;
            }
        }
    }
}

// ---- in and out

// A vector is one quad, or two or four side by side.
constexpr int quads = width / 4;

// Where, in two vectors one after the other, the numbers of a quad lie: 0 to 3 are those of the first
// vector, 4 to 7 those of the same quad of the second.
constexpr int place_in(int quad, int number) {
    return 4 * quad + (number < 4 ? number : width + number - 4);
}

// Each quad takes 4 of the 8 numbers of the same quads of a and b.
template <int w, int x, int y, int z>
GOSSAMER_INLINE Vector mix(Vector a, Vector b) {
#define GOSSAMER_QUAD(Q) place_in(Q, w), place_in(Q, x), place_in(Q, y), place_in(Q, z)
#if GOSSAMER_WIDTH == 4
    return __builtin_shufflevector(a, b, GOSSAMER_QUAD(0));
#elif GOSSAMER_WIDTH == 8
    return __builtin_shufflevector(a, b, GOSSAMER_QUAD(0), GOSSAMER_QUAD(1));
#else
    return __builtin_shufflevector(a, b, GOSSAMER_QUAD(0), GOSSAMER_QUAD(1),
                                   GOSSAMER_QUAD(2), GOSSAMER_QUAD(3));
#endif
#undef GOSSAMER_QUAD
}

// Rows and columns of 4 by 4 numbers change places, in each quad.
GOSSAMER_INLINE void transpose(Vector (&rows)[4]) {
    const Vector low = mix<0, 4, 1, 5>(rows[0], rows[1]);
    const Vector high = mix<2, 6, 3, 7>(rows[0], rows[1]);
    const Vector more_low = mix<0, 4, 1, 5>(rows[2], rows[3]);
    const Vector more_high = mix<2, 6, 3, 7>(rows[2], rows[3]);
    rows[0] = mix<0, 1, 4, 5>(low, more_low);
    rows[1] = mix<2, 3, 6, 7>(low, more_low);
    rows[2] = mix<0, 1, 4, 5>(high, more_high);
    rows[3] = mix<2, 3, 6, 7>(high, more_high);
}

// Quad q is what lies 4 q `apart`, or 0 where there are no more than 4 q.
GOSSAMER_INLINE Vector load_quads(const float* from, ptrdiff_t apart, int64_t there) {
    Quad loaded[quads];
#pragma GCC unroll 4
    for (int q = 0; q < quads; ++q) {
        loaded[q] = 4 * q < there ? *reinterpret_cast<const Quad*>(from + 4 * q * apart) : Quad{};
    }
#if GOSSAMER_WIDTH == 4
    return loaded[0];
#elif GOSSAMER_WIDTH == 8
    return __builtin_shufflevector(loaded[0], loaded[1], 0, 1, 2, 3, 4, 5, 6, 7);
#else
    const auto pair = [](Quad a, Quad b) GOSSAMER_LAMBDA_INLINE {
        return __builtin_shufflevector(a, b, 0, 1, 2, 3, 4, 5, 6, 7);
    };
    return __builtin_shufflevector(pair(loaded[0], loaded[1]), pair(loaded[2], loaded[3]), 0, 1,
                                   2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
#endif
}

GOSSAMER_INLINE void store_quads(Vector value, float* to, ptrdiff_t apart, int64_t there) {
#pragma GCC unroll 4
    for (int q = 0; q < quads; ++q) {
        if (4 * q >= there) return;
        const Quad quad = {value[4 * q], value[4 * q + 1], value[4 * q + 2], value[4 * q + 3]};
        *reinterpret_cast<Quad*>(to + 4 * q * apart) = quad;
    }
}

// From [examples][numbers], `size` apart, to [numbers][lanes], `apart` apart. Lanes without an
// example are set to 0.
GOSSAMER_INLINE void take_numbers(const float* inputs, int64_t examples, int64_t size,
                                  int64_t numbers, float* values, int64_t lanes,
                                  ptrdiff_t apart) {
    for (int64_t lane = 0; lane < lanes; lane += width) {
        const float* const from = inputs + lane * size;
        float* const to = values + lane;
        const auto take = [&](int64_t there) GOSSAMER_LAMBDA_INLINE {
            int64_t i = 0;
            for (; i + 4 <= numbers; i += 4) {
                Vector rows[4];
#pragma GCC unroll 4
                for (int k = 0; k < 4; ++k) {
                    rows[k] = load_quads(from + k * size + i, size, there - k);
                }
                transpose(rows);
#pragma GCC unroll 4
                for (int k = 0; k < 4; ++k) store(to + (i + k) * apart, rows[k]);
            }
            for (; i < numbers; ++i) {
                for (int64_t j = 0; j < width; ++j) {
                    to[i * apart + j] = j < there ? from[j * size + i] : 0.0f;
                }
            }
        };
        // Twice the same, the first time without asking which examples there are.
        if (lane + width <= examples) {
            take(width);
        } else {
            take(examples - lane);
        }
    }
}

GOSSAMER_INLINE void give_numbers(const float* values, ptrdiff_t apart, int64_t numbers,
                                  float* outputs, int64_t examples, int64_t size) {
    for (int64_t lane = 0; lane < examples; lane += width) {
        const float* const from = values + lane;
        float* const to = outputs + lane * size;
        const int64_t there = least(width, examples - lane);
        int64_t i = 0;
        for (; i + 4 <= numbers; i += 4) {
            Vector rows[4];
#pragma GCC unroll 4
            for (int k = 0; k < 4; ++k) rows[k] = load(from + (i + k) * apart);
            transpose(rows);
#pragma GCC unroll 4
            for (int k = 0; k < 4; ++k) {
                store_quads(rows[k], to + k * size + i, size, there - k);
            }
        }
        for (; i < numbers; ++i) {
            for (int64_t j = 0; j < there; ++j) to[j * size + i] = from[i * apart + j];
        }
    }
}

// So many of an example follow each other that the processor sees where it goes on, and so few that
// those of all lanes stay in the second cache.
constexpr int64_t numbers_at_once = 512;

void take_features(const float* inputs, int64_t examples, const View& value) {
    for (int64_t i = 0; i < value.channels; i += numbers_at_once) {
        take_numbers(inputs + i, examples, value.channels,
                     least(numbers_at_once, value.channels - i), value.data + i * value.channel,
                     value.pixels * width, value.channel);
    }
}

void give_features(const View& value, float* outputs, int64_t examples) {
    for (int64_t i = 0; i < value.channels; i += numbers_at_once) {
        give_numbers(value.data + i * value.channel, value.channel,
                     least(numbers_at_once, value.channels - i), outputs + i, examples,
                     value.channels);
    }
}

void take_image(const float* inputs, int64_t examples, const View& value) {
    const int64_t size = value.channels * value.rows * value.pixels;
    for (int64_t row = 0; row < value.channels * value.rows; ++row) {
        take_numbers(inputs + row * value.pixels, examples, size, value.pixels,
                     value.data + row / value.rows * value.channel + row % value.rows * value.row,
                     width, width);
    }
}

void give_image(const View& value, float* outputs, int64_t examples) {
    const int64_t size = value.channels * value.rows * value.pixels;
    for (int64_t row = 0; row < value.channels * value.rows; ++row) {
        give_numbers(
            value.data + row / value.rows * value.channel + row % value.rows * value.row, width,
            value.pixels, outputs + row * value.pixels, examples, size);
    }
}

// ---- what the machine can do at most

double multiply_add(int64_t repeats) {
    constexpr int count = 10;
    Sums<count> sums;
    Vector factor = broadcast(0.999f), term = broadcast(0.001f);
    for (int i = 0; i < count; ++i) sums.at[i] = broadcast(0.1f * i);
    for (int64_t repeat = 0; repeat < repeats; ++repeat) {
#pragma GCC unroll 16
        for (int i = 0; i < count; ++i) sums.at[i] = sums.at[i] * factor + term;
    }
    float total = 0.0f;
    for (int i = 0; i < count; ++i) {
        for (int lane = 0; lane < width; ++lane) total += sums.at[i][lane];
    }
    // The sums are above 0 always; but the compiler cannot know, and must add them up.
    if (total < 0.0f) return 0.0;
    return 2.0 * count * width * static_cast<double>(repeats);
}

float read(const float* data, int64_t size) {
    constexpr int count = 8;
    Sums<count> sums{};
    for (int64_t at = 0; at + count * width <= size; at += count * width) {
#pragma GCC unroll 16
        for (int i = 0; i < count; ++i) sums.at[i] += load(data + at + i * width);
    }
    float total = 0;
    for (int i = 0; i < count; ++i) {
        for (int lane = 0; lane < width; ++lane) total += sums.at[i][lane];
    }
    return total;
}

#define GOSSAMER_STRIPS(KERNEL, STEP)                                                      \
    {                                                                                      \
        nullptr, KERNEL<1, 1, STEP, Pooled::no>, KERNEL<1, 2, STEP, Pooled::no>,           \
            KERNEL<1, 3, STEP, Pooled::no>, KERNEL<1, 4, STEP, Pooled::no>,                \
            KERNEL<1, 5, STEP, Pooled::no>, KERNEL<1, 6, STEP, Pooled::no>,                \
            KERNEL<1, 7, STEP, Pooled::no>, KERNEL<1, 8, STEP, Pooled::no>                 \
    }
#define GOSSAMER_PAIRS(KERNEL, POOLED)                                                     \
    {                                                                                      \
        nullptr, nullptr, KERNEL<2, 2, 1, POOLED>, nullptr, KERNEL<2, 4, 1, POOLED>,       \
            nullptr, KERNEL<2, 6, 1, POOLED>                                               \
    }

const BatchedKernels table = {
    width,
    {GOSSAMER_STRIPS(scattered, 1), GOSSAMER_STRIPS(scattered, 2), GOSSAMER_STRIPS(scattered, 0)},
    {GOSSAMER_STRIPS(blocks, 1), GOSSAMER_STRIPS(blocks, 2), GOSSAMER_STRIPS(blocks, 0)},
    {GOSSAMER_PAIRS(scattered, Pooled::maximum), GOSSAMER_PAIRS(scattered, Pooled::average)},
    {GOSSAMER_PAIRS(blocks, Pooled::maximum), GOSSAMER_PAIRS(blocks, Pooled::average)},
    pointwise,
    pool,
    softmax,
    copy,
    take_features,
    take_image,
    give_features,
    give_image,
    multiply_add,
    read,
};

}  // namespace

const BatchedKernels& GOSSAMER_EXPORTED(batched_kernels)() { return table; }

}  // namespace gossamer
