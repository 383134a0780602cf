// The loops of single/convolution.hpp, compiled once for each instruction set (simd/dispatch.hpp).
#include "single/convolution.hpp"

#include "simd/finish.hpp"

namespace gossamer::single {
namespace {

constexpr int longest_tile = 14;
constexpr int longest_block_tile = 3;

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
        for (int at = 0; at < tile; ++at) sums.at[at] = load_any<Vector>(map + at * width);
    }
    if (task.residual != nullptr) {
        const float* map = task.residual + channel * task.residual_plane + position;
#pragma GCC unroll 16
        for (int at = 0; at < tile; ++at) sums.at[at] += load_any<Vector>(map + at * width);
    }
    return sums;
}

// The sums become values: activation, scale, shift, mask.
template <int tile>
GOSSAMER_INLINE void finish_tile(const ConvolutionTask& task, std::int64_t channel,
                                 std::int64_t position, Sums<tile> sums) {
    float* output = task.output + channel * task.output_plane + position;
    apply(task.finish, channel, sums);
    if (task.mask != nullptr) {
        const std::uint32_t* mask = task.mask + position;
#pragma GCC unroll 16
        for (int at = 0; at < tile; ++at)
            sums.at[at] = reinterpret_cast<Vector>(reinterpret_cast<Integers>(sums.at[at]) &
                                                   load_any<Integers>(mask + at * width));
    }
#pragma GCC unroll 16
    for (int at = 0; at < tile; ++at) store_any(output + at * width, sums.at[at]);
}

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
void convolve_tile(const ConvolutionTask& task, std::int64_t entry, std::int64_t position) {
    constexpr int together = taps_at_once<tile>;
    const std::int64_t channel = task.order[entry];
    const float* input = task.input + position;
    const Tap<1>* tap = task.taps + task.starts[entry];
    const Tap<1>* const end = task.taps + task.starts[entry + 1];
    Sums<tile> sums[together] = {begun<tile>(task, channel, position)};
    for (; end - tap >= together; tap += together) {
#pragma GCC unroll 4
        for (int way = 0; way < together; ++way) add_tap(input, tap[way], sums[way]);
    }
#pragma GCC unroll 4
    for (int way = together - 1; way > 0; --way) add(sums[way - 1], sums[way]);
    for (; tap != end; ++tap) add_tap(input, *tap, sums[0]);
    finish_tile(task, channel, position, sums[0]);
}

template <int tile>
void convolve_block_tile(const ConvolutionTask& task, std::int64_t entry, std::int64_t position) {
    const std::int64_t channel = task.order[entry];
    // Rows beyond the last repeat it, with weights of zero, and are not stored.
    const auto row = [&](int number) {
        return channel + number < task.channels ? channel + number : task.channels - 1;
    };
    const float* input = task.input + position;
    const Tap<block_rows>* const end = task.block_taps + task.starts[entry + 1];
    Sums<tile> first = begun<tile>(task, row(0), position);
    Sums<tile> second = begun<tile>(task, row(1), position);
    Sums<tile> third = begun<tile>(task, row(2), position);
    Sums<tile> fourth = begun<tile>(task, row(3), position);
    for (const Tap<block_rows>* tap = task.block_taps + task.starts[entry]; tap != end; ++tap) {
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

using TileFunction = void (*)(const ConvolutionTask&, std::int64_t, std::int64_t);

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

// The run in stretches of nearly equal size, all channels of one before the next, so that its
// inputs stay in the first cache; a stretch in tiles one after another, so that its outputs do.
GOSSAMER_INLINE void convolve_run(const ConvolutionTask& task, Range entries,
                                  const TileFunction* functions, std::int64_t longest,
                                  std::int64_t tiles) {
    const std::int64_t stretches = (task.vectors + longest * tiles - 1) / (longest * tiles);
    for (std::int64_t stretch = 0; stretch < stretches; ++stretch) {
        const std::int64_t begin = task.vectors * stretch / stretches;
        const std::int64_t end = task.vectors * (stretch + 1) / stretches;
        for (std::int64_t entry = entries.begin; entry < entries.end; ++entry) {
            for (std::int64_t at = begin; at < end; at += longest) {
                const std::int64_t size = end - at < longest ? end - at : longest;
                functions[size - 1](task, entry, at * width);
            }
        }
    }
}

void convolve(const ConvolutionTask& task, Range entries) {
    convolve_run(task, entries, tiles_by_size, longest_tile, 1);
}

void convolve_blocks(const ConvolutionTask& task, Range entries) {
    convolve_run(task, entries, block_tiles_by_size, longest_block_tile, 4);
}

}  // namespace

GOSSAMER_EXPORT(ConvolutionLoops, convolution_loops, {width, convolve, convolve_blocks})

}  // namespace gossamer::single
