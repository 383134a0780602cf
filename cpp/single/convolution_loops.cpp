// The loops of single/convolution.hpp, compiled once for each instruction set (simd/dispatch.hpp).
#include "single/convolution.hpp"

#include "single/sums.hpp"

namespace gossamer::single {
namespace {

constexpr int longest_tile = 14;
constexpr int longest_block_tile = 3;

// Compilers would add the offset to each address of a tile anew; this makes it one addition.
GOSSAMER_INLINE void keep_pointer(const float*& pointer) { __asm__("" : "+r"(pointer)); }

template <int tile>
GOSSAMER_INLINE void add_tap(const float* input, const Tap<1>& tap, Sums<tile>& sums) {
    const Vector weight = broadcast(tap.weights[0]);
    const float* from = input + tap.offset;
    keep_pointer(from);
#pragma GCC unroll 16
    for (int at = 0; at < tile; ++at) sums.at[at] += weight * load_any<Vector>(from + at * width);
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
constexpr int taps_at_once = tile <= 2   ? 4
                             : tile <= 5 ? 2
                                         : 1;

template <int tile>
GOSSAMER_INLINE void add_taps(const float* input, const Tap<1>* tap, const Tap<1>* end,
                              Sums<tile>& begun) {
    constexpr int together = taps_at_once<tile>;
    Sums<tile> sums[together] = {begun};
    // By fours: so short a loop ends where the processor expects it, as rows of one length follow
    // each other.
    for (; end - tap >= 4; tap += 4) {
#pragma GCC unroll 4
        for (int way = 0; way < 4; ++way) add_tap(input, tap[way], sums[way % together]);
    }
#pragma GCC unroll 4
    for (int way = together - 1; way > 0; --way) add(sums[way - 1], sums[way]);
    for (; tap != end; ++tap) add_tap(input, *tap, sums[0]);
    begun = sums[0];
}

// One tile of some channels. Of a panel between others there is nothing to be decided.
template <int tile>
void convolve_tile(const ConvolutionTask& task, const ConvolutionPanel& panel, Range entries,
                   std::int64_t position) {
    const bool first = &panel == task.panels;
    const bool last = &panel + 1 == task.panels + task.panel_count;
    const float* const input = task.input + position;
    float* const outputs = task.output + position;
    const std::int64_t plane = task.output_plane;
    const std::int32_t* const order = panel.order;
    const std::int64_t* const starts = panel.starts;
    const Tap<1>* const taps = task.taps;
    const Tap<1>* tap = taps + starts[entries.begin];
    for (std::int64_t entry = entries.begin; entry < entries.end; ++entry) {
        const Tap<1>* const end = taps + starts[entry + 1];
        const std::int64_t channel = order[entry];
        float* const output = outputs + channel * plane;
        Sums<tile> sums;
        if (first) {
            sums = begun<tile>(task, channel, position);
        } else {
#pragma GCC unroll 16
            for (int at = 0; at < tile; ++at) sums.at[at] = load_any<Vector>(output + at * width);
        }
        add_taps<tile>(input, tap, end, sums);
        tap = end;
        if (last) {
            finish_tile<tile>(task, channel, position, sums);
        } else {
#pragma GCC unroll 16
            for (int at = 0; at < tile; ++at) store_any(output + at * width, sums.at[at]);
        }
    }
}

template <int tile>
void convolve_block_tile(const ConvolutionTask& task, const ConvolutionPanel& panel, Range entries,
                         std::int64_t position) {
    const std::int64_t entry = entries.begin;
    const std::int64_t channel = panel.order[entry];
    // Rows beyond the last repeat it, with weights of zero, and are not stored.
    const auto row = [&](int number) {
        return channel + number < task.channels ? channel + number : task.channels - 1;
    };
    const float* input = task.input + position;
    const Tap<block_rows>* const end = task.block_taps + panel.starts[entry + 1];
    Sums<tile> first = begun<tile>(task, row(0), position);
    Sums<tile> second = begun<tile>(task, row(1), position);
    Sums<tile> third = begun<tile>(task, row(2), position);
    Sums<tile> fourth = begun<tile>(task, row(3), position);
    for (const Tap<block_rows>* tap = task.block_taps + panel.starts[entry]; tap != end; ++tap) {
        const float* from = input + tap->offset;
        keep_pointer(from);
        Sums<tile> pixels;
#pragma GCC unroll 16
        for (int at = 0; at < tile; ++at) pixels.at[at] = load_any<Vector>(from + at * width);
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

using TileFunction = void (*)(const ConvolutionTask&, const ConvolutionPanel&, Range entries,
                              std::int64_t position);

constexpr TileFunction tiles_by_size[longest_tile] = {
    convolve_tile<1>,  convolve_tile<2>,  convolve_tile<3>,  convolve_tile<4>,  convolve_tile<5>,
    convolve_tile<6>,  convolve_tile<7>,  convolve_tile<8>,  convolve_tile<9>,  convolve_tile<10>,
    convolve_tile<11>, convolve_tile<12>, convolve_tile<13>, convolve_tile<14>,
};

constexpr TileFunction block_tiles_by_size[longest_block_tile] = {
    convolve_block_tile<1>,
    convolve_block_tile<2>,
    convolve_block_tile<3>,
};

// Calls what it is given with each stretch of the run, of nearly equal size, and each panel: all
// channels of one before the next, so that its inputs stay in the first cache.
template <typename Each>
GOSSAMER_INLINE void each_stretch(const ConvolutionTask& task, const Each& each) {
    for (std::int64_t stretch = 0; stretch < task.stretches; ++stretch) {
        const Range vectors{task.vectors * stretch / task.stretches,
                            task.vectors * (stretch + 1) / task.stretches};
        for (std::int64_t panel = 0; panel < task.panel_count; ++panel)
            each(vectors, task.panels[panel]);
    }
}

void convolve(const ConvolutionTask& task, Range entries) {
    each_stretch(task, [&](Range vectors, const ConvolutionPanel& panel) {
        tiles_by_size[vectors.end - vectors.begin - 1](task, panel, entries, vectors.begin * width);
    });
}

// A stretch in tiles one after another, so that its outputs stay in the first cache, too.
void convolve_blocks(const ConvolutionTask& task, Range entries) {
    each_stretch(task, [&](Range vectors, const ConvolutionPanel& panel) {
        for (std::int64_t entry = entries.begin; entry < entries.end; ++entry) {
            for (std::int64_t at = vectors.begin; at < vectors.end; at += longest_block_tile) {
                const std::int64_t size = least(vectors.end - at, longest_block_tile);
                block_tiles_by_size[size - 1](task, panel, {entry, entry + 1}, at * width);
            }
        }
    });
}

template <int... lane>
GOSSAMER_INLINE Vector every_second(Vector first, Vector second, Lanes<lane...>) {
    return __builtin_shufflevector(first, second, 2 * lane...);
}

void deal(const float* from, std::ptrdiff_t from_row, std::int64_t rows, std::int64_t stride,
          std::int64_t count, float* to, std::ptrdiff_t to_row) {
    for (std::int64_t row = 0; row < rows; ++row, from += from_row, to += to_row) {
        if (stride != 2) {  // seldom
            for (std::int64_t at = 0; at < count; ++at) to[at] = from[at * stride];
            continue;
        }
        const auto dealt = [&](std::int64_t at) GOSSAMER_LAMBDA_INLINE {
            const float* pairs = from + 2 * at;
            return every_second(load_any<Vector>(pairs), load_any<Vector>(pairs + width),
                                EveryLane{});
        };
        std::int64_t at = 0;
        for (; at + width <= count; at += width) store_any(to + at, dealt(at));
        if (at < count) store_first(to + at, dealt(at), count - at);
    }
}

}  // namespace

GOSSAMER_EXPORT(ConvolutionLoops, convolution_loops,
                {width, longest_tile, 4 * longest_block_tile, convolve, convolve_blocks, deal})

}  // namespace gossamer::single
