// Scattered non-zeros: a multiply-add from memory for each of them and each pixel. Compiled once
// for each instruction set (simd/dispatch.hpp).
#include "batched/sums.hpp"

namespace gossamer::batched {
namespace {

// Two loads begin in a cycle, as do two multiply-adds, and each of these needs a load: whatever
// else is loaded costs time. So weights come in fours (see Entry), and their offsets in twos.
typedef uint64_t Offsets __attribute__((may_alias));

template <int number, int... lane>
GOSSAMER_INLINE Vector spread(Vector fours, Lanes<lane...>) {
    return __builtin_shufflevector(fours, fours, (lane / 4 * 4 + number)...);
}

template <int... lane>
GOSSAMER_INLINE Vector repeated(Quad four, Lanes<lane...>) {
    return __builtin_shufflevector(four, four, (lane % 4)...);
}

// The same 4 numbers over and over. As one load, which compilers do not make of a shuffle: GCC 12
// takes it through the stack, and every multiply-add waits.
GOSSAMER_INLINE Vector load_fours(const float* from) {
#if GOSSAMER_WIDTH == 16 && defined(__AVX512F__)
    return _mm512_maskz_broadcast_f32x4(0xffff,
                                        _mm_loadu_ps(from));  // GCC 12 warns of the plain one
#elif GOSSAMER_WIDTH == 8 && defined(__AVX2__)
    return reinterpret_cast<Vector>(_mm256_broadcast_ps(reinterpret_cast<const __m128*>(from)));
#else
    return repeated(*reinterpret_cast<const Quad*>(from), EveryLane{});
#endif
}

// Of four entries, in floats.
struct Places {
    int64_t at[4];
};

GOSSAMER_INLINE Places places_of(const Entry* four) {
    const Offsets* offsets =
        reinterpret_cast<const Offsets*>(reinterpret_cast<const float*>(four) + 4);
    const uint64_t first = offsets[0], second = offsets[1];
    Places places{{static_cast<uint32_t>(first), static_cast<int64_t>(first >> 32),
                   static_cast<uint32_t>(second), static_cast<int64_t>(second >> 32)}};
#if defined(__x86_64__)
    // Not in a vector, as GCC would have it.
    asm("" : "+r"(places.at[0]), "+r"(places.at[1]), "+r"(places.at[2]), "+r"(places.at[3]));
#endif
    return places;
}

// `step` is how many pixels apart the inputs of neighbouring outputs are, 0 if any number.
template <int rows, int pixels, int step>
GOSSAMER_INLINE void add_scattered(Vector weight, const float* input, ptrdiff_t input_row,
                                   ptrdiff_t input_pixel, Sums<rows * pixels>& sums) {
    const ptrdiff_t apart = step ? step * width : input_pixel;
#pragma GCC unroll 16
    for (int i = 0; i < rows * pixels; ++i)
        sums.at[i] += weight * load(input + (i / pixels) * input_row + i % pixels * apart);
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
    // Where inputs of four entries lie is known before those before them are added up: an address
    // that is waited for holds up all loads behind it.
    Places next = places_of(entry);
    for (; end - entry >= 4; entry += 4) {
        const Vector weights = load_fours(reinterpret_cast<const float*>(entry));
        const Places now = next;
        next = places_of(entry + 4);
        add(spread<0>(weights, EveryLane{}), now.at[0], more[0]);
        add(spread<1>(weights, EveryLane{}), now.at[1], more[1 % side]);
        add(spread<2>(weights, EveryLane{}), now.at[2], more[2 % side]);
        add(spread<3>(weights, EveryLane{}), now.at[3], more[3 % side]);
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

constexpr int floats_ahead = 2048;  // weights are fetched so far before they are needed

// Inputs lie in the third cache or behind it, channels apart, where no processor expects them. So
// each row fetches some of those that come next, and what its sums are added to.
struct Ahead {
    const float* from;
    int64_t channels;
    int64_t each_row;
};

GOSSAMER_INLINE void fetch_ahead(const Strip& strip, Ahead& ahead) {
    for (int64_t i = 0; i < ahead.each_row && ahead.channels > 0; ++i, --ahead.channels) {
        for (int64_t at = 0; at < strip.ahead_floats; at += 64 / sizeof(float))
            __builtin_prefetch(ahead.from + at);
        ahead.from += strip.ahead_channel;
    }
}

// Where a panel has parts of rows, these come in an order of their own, and sums that have begun or
// that go on lie in memory.
template <int rows, int pixels, int step, Pooled pooled, bool whole>
GOSSAMER_INLINE void each_row(const Strip& strip, const Panel& panel) {
    constexpr int count = rows * pixels;
    const auto partial_of = [&](int64_t number) GOSSAMER_LAMBDA_INLINE {
        return strip.partial + int64_t{panel.order[number]} * (count * width);
    };
    const Entry* entry = panel.entries;
    Ahead ahead{strip.ahead, strip.ahead_channels,
                (strip.ahead_channels + panel.rows - 1) / panel.rows};
    for (int64_t number = 0; number < panel.rows; ++number) {
        const int64_t channel = panel.first_row + (whole ? number : panel.order[number]);
        fetch_ahead(strip, ahead);
        if ((whole || panel.ends) && strip.residual) {
            const int64_t next = whole ? number + rows_ahead : panel.order[number + rows_ahead];
            const float* residual =
                strip.residual + (panel.first_row + next) * strip.residual_channel;
#pragma GCC unroll 2
            for (int row = 0; row < rows; ++row)
                fetch(residual + row * strip.residual_row, pixels * width);
        }
        const Entry* const end = panel.entries + panel.starts[number + 1];
        // Where few sums are made of a weight, it takes as long to be fetched.
        if constexpr (count <= 2)
            fetch(reinterpret_cast<const float*>(entry) + floats_ahead,
                  2 * static_cast<int>(end - entry));
        float* const partial = whole ? nullptr : partial_of(number);
        Sums<count> sums;
        if (whole || panel.begins) {
            begin_sums<rows, pixels>(strip, channel, sums);
        } else {
            fetch(partial_of(number + rows_ahead), count * width);
#pragma GCC unroll 16
            for (int i = 0; i < count; ++i) sums.at[i] = load(partial + i * width);
        }
        add_row<rows, pixels, step>(entry, end, strip.input, strip.input_row, strip.input_pixel,
                                    sums);
        entry = end;
        if (whole || panel.ends) {
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
    if (panel.begins && panel.ends) return each_row<rows, pixels, step, pooled, true>(strip, panel);
    each_row<rows, pixels, step, pooled, false>(strip, panel);
}

}  // namespace

#if GOSSAMER_WIDTH == 16
GOSSAMER_EXPORT(StripLoops, scattered_loops,
                GOSSAMER_STRIP_LOOPS(scattered, long_pixels, GOSSAMER_LONG_STRIPS))
#else
GOSSAMER_EXPORT(StripLoops, scattered_loops,
                GOSSAMER_STRIP_LOOPS(scattered, strip_pixels, GOSSAMER_STRIPS))
#endif

}  // namespace gossamer::batched
