// Blocks of 4 rows, and dense weights: one load of an input for 4 multiply-adds. Compiled once for
// each instruction set (simd/dispatch.hpp).
#include "batched/sums.hpp"

namespace gossamer::batched {
namespace {

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
        : [values] "r"(values),
          "m"(*reinterpret_cast<const Quad*>(values)), [in0] "m"(*at(0)), [in1] "m"(*at(1))
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
        for (int i = 0; i < count; ++i)
            store(output + (first + i) * width, at_least(sums.at[i], low));
        return;
    }
    Vector window{};
#pragma GCC unroll 8
    for (int i = 0; i < count; ++i) {
        const int place = (first + i) % 4;
        float* to = output + (first + i) / 4 * width;
        if (i == 0 && place > 0) window = load(to);
        window = place == 0                  ? sums.at[i]
                 : pooled == Pooled::maximum ? larger(window, sums.at[i])
                                             : window + sums.at[i];
        if (place == 3)
            store(to, at_least(pooled == Pooled::average ? window * 0.25f : window, low));
        else if (i == count - 1)
            store(to, window);
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
        for (int i = 0; i < count; ++i)
            sums[row].at[i] = panel.begins ? same : load(partial + (row * count + i) * width);
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
        for (int i = 0; i < count; ++i) store(partial + (row * count + i) * width, sums[row].at[i]);
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

}  // namespace

GOSSAMER_EXPORT(StripLoops, block_loops,
                GOSSAMER_STRIP_LOOPS(blocks, strip_pixels, GOSSAMER_STRIPS))

}  // namespace gossamer::batched
