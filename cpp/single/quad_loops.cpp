// The loops of single/quads.hpp, compiled once for each instruction set (simd/dispatch.hpp).
#include "single/quads.hpp"

#include "single/sums.hpp"

namespace gossamer::single {
namespace {

// Sums of four rows and a weight in registers: AVX2 has 16 of these.
constexpr int longest_quad = width == 16 ? 4 : 3;
constexpr int floats_ahead = 2048;  // weights are fetched so far before they are needed

// One of four weights in all lanes.
template <int number>
GOSSAMER_INLINE Vector one_of(const Vector& weights) {
#if defined(__AVX512F__) && GOSSAMER_WIDTH == 16
    return _mm512_maskz_permute_ps(0xffff, weights, number * 0x55);
#elif defined(__AVX2__) && GOSSAMER_WIDTH == 8
    return _mm256_permute_ps(weights, number * 0x55);
#else
    return broadcast(weights[number]);
#endif
}

GOSSAMER_INLINE Vector four_weights(const float* from) {
#if defined(__AVX512F__) && GOSSAMER_WIDTH == 16
    return _mm512_maskz_broadcast_f32x4(0xffff, _mm_loadu_ps(from));
#elif defined(__AVX2__) && GOSSAMER_WIDTH == 8
    return _mm256_broadcast_ps(reinterpret_cast<const __m128*>(from));
#else
    Vector weights{};
    __builtin_memcpy(&weights, from, 4 * quad_rows);
    return weights;
#endif
}

template <int apart, int number, int tile>
GOSSAMER_INLINE void add_one(const float* input, std::uint64_t places, const Vector& weights,
                             Sums<tile> (&sums)[quad_rows]) {
    const Vector weight = one_of<number>(weights);
    const std::uint64_t place = places >> (16 * number) & 0xffff;
    const float* from = input + place * (bytes_of_place / 4);
#pragma GCC unroll 4
    for (int at = 0; at < tile; ++at)
        sums[number].at[at] += weight * load_any<Vector>(from + at * apart * width);
}

template <int apart, int tile>
GOSSAMER_INLINE void add_step(const float* input, std::uint64_t places, const float* weights,
                              Sums<tile> (&sums)[quad_rows]) {
    const Vector four = four_weights(weights);
    add_one<apart, 0>(input, places, four, sums);
    add_one<apart, 1>(input, places, four, sums);
    add_one<apart, 2>(input, places, four, sums);
    add_one<apart, 3>(input, places, four, sums);
}

// What sums begin with.
template <int tile>
GOSSAMER_INLINE void add_begun(const QuadTask& task, const std::int32_t* rows,
                               std::int64_t position, Sums<tile> (&sums)[quad_rows]) {
#pragma GCC unroll 4
    for (int row = 0; row < quad_rows; ++row) {
        const float* const from = task.output + rows[row] * task.output_plane + position;
        const Sums<tile> first =
            task.begins ? begun<tile>(task, rows[row], position) : load_any<Sums<tile>>(from);
#pragma GCC unroll 4
        for (int at = 0; at < tile; ++at) sums[row].at[at] += first.at[at];
    }
}

template <int tile>
GOSSAMER_INLINE void finish_quad(const QuadTask& task, const std::int32_t* rows,
                                 std::int64_t position, Sums<tile> (&sums)[quad_rows]) {
    QuadTask left = task;
    if (!is_short(task.finish.activation)) {
        alignas(64) float values[quad_rows * tile * width];
#pragma GCC unroll 4
        for (int row = 0; row < quad_rows; ++row)
#pragma GCC unroll 4
            for (int at = 0; at < tile; ++at)
                store(values + (row * tile + at) * width, sums[row].at[at]);
        activate(task.finish.activation, task.finish.alpha, values, quad_rows * tile);
#pragma GCC unroll 4
        for (int row = 0; row < quad_rows; ++row)
#pragma GCC unroll 4
            for (int at = 0; at < tile; ++at)
                sums[row].at[at] = load(values + (row * tile + at) * width);
        left.finish.activation = ActivationKind::identity;
    }
#pragma GCC unroll 4
    for (int row = 0; row < quad_rows; ++row)
        finish_tile<tile>(left, rows[row], position, sums[row]);
}

template <int apart, int tile>
void multiply_tile(const QuadTask& task, const QuadPanel& panel, Range quads,
                   std::int64_t position) {
    const float* const input = task.input + panel.input + position;
    const std::int64_t* const starts = panel.starts;
    const std::uint64_t* places = panel.places + starts[quads.begin];
    const float* weights = panel.weights + quad_rows * starts[quads.begin];
    for (std::int64_t quad = quads.begin; quad < quads.end; ++quad) {
        const std::int32_t* const rows = panel.rows + quad_rows * quad;
        Sums<tile> sums[quad_rows] = {};
        const std::uint64_t* const end = panel.places + starts[quad + 1];
        // By fours: so short a loop ends where the processor expects it, as quads of one length
        // follow each other.
        for (; end - places >= 4; places += 4, weights += 4 * quad_rows) {
            __builtin_prefetch(weights + floats_ahead);
            __builtin_prefetch(places + floats_ahead / quad_rows);
#pragma GCC unroll 4
            for (int step = 0; step < 4; ++step)
                add_step<apart>(input, places[step], weights + step * quad_rows, sums);
        }
        for (; places != end; ++places, weights += quad_rows)
            add_step<apart>(input, *places, weights, sums);
        // Not before, so that no multiply-add waits for them.
        add_begun(task, rows, position, sums);
        if (task.ends) {
            finish_quad<tile>(task, rows, position, sums);
            continue;
        }
#pragma GCC unroll 4
        for (int row = 0; row < quad_rows; ++row) {
            float* const to = task.output + rows[row] * task.output_plane + position;
#pragma GCC unroll 4
            for (int at = 0; at < tile; ++at) store_any(to + at * width, sums[row].at[at]);
        }
    }
}

#if GOSSAMER_WIDTH == 16
#define GOSSAMER_TILES(apart)                                                  \
    multiply_tile<apart, 1>, multiply_tile<apart, 2>, multiply_tile<apart, 3>, \
        multiply_tile<apart, 4>
#else
#define GOSSAMER_TILES(apart) \
    multiply_tile<apart, 1>, multiply_tile<apart, 2>, multiply_tile<apart, 3>
#endif

void multiply(const QuadTask& task, const QuadPanel& panel, Range quads, std::int64_t position,
              std::int64_t vectors) {
    constexpr decltype(&multiply_tile<1, 1>) by_size[2][longest_quad] = {{GOSSAMER_TILES(1)},
                                                                         {GOSSAMER_TILES(2)}};
    by_size[task.apart - 1][vectors - 1](task, panel, quads, position);
}

}  // namespace

GOSSAMER_EXPORT(QuadLoops, quad_loops, {width >= 8 ? longest_quad : 0, multiply})

}  // namespace gossamer::single
