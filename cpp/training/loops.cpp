// The loops of training/loops.hpp, compiled once for each instruction set (simd/dispatch.hpp).
#include "training/loops.hpp"

#include "simd/transpose.hpp"

namespace gossamer::training {
namespace {

// How many non-zeros are added up side by side. A multiply-add takes 4 cycles and two begin in
// each, so that fewer than 8 chains of them would leave units idle.
constexpr int chains(int sums) { return sums >= 7 ? 1 : sums >= 3 ? 2 : 4; }

template <int count>
GOSSAMER_INLINE void add_input(float weight, const float* input, Sums<count>& sums) {
    const Vector same = broadcast(weight);
#pragma GCC unroll 8
    for (int i = 0; i < count; ++i) sums.at[i] += same * load_any<Vector>(input + i * width);
}

template <int count>
void multiply(const Part& given, const float* values, const Tile& inputs, const float* bias,
              bool goes_on, const Tile& outputs) {
    constexpr int side = chains(count);
    // Copies, which the stores below cannot change.
    const Part part = given;
    const float* const input = inputs.data;
    const ptrdiff_t stride = inputs.stride;
    for (int64_t row = part.rows.begin; row < part.rows.end; ++row) {
        float* const output = outputs.data + row * outputs.stride;
        Sums<count> sums[side];
        const Vector first = broadcast(bias && !goes_on ? bias[row] : 0.0f);
#pragma GCC unroll 8
        for (int i = 0; i < count; ++i)
            sums[0].at[i] = goes_on ? load_any<Vector>(output + i * width) : first;
#pragma GCC unroll 4
        for (int k = 1; k < side; ++k) sums[k] = Sums<count>{};
        int64_t at = part.begins[row];
        const int64_t end = part.ends[row];
        for (; at + side <= end; at += side) {
#pragma GCC unroll 4
            for (int k = 0; k < side; ++k)
                add_input(values[at + k], input + part.columns[at + k] * stride, sums[k]);
        }
        for (; at < end; ++at) add_input(values[at], input + part.columns[at] * stride, sums[0]);
#pragma GCC unroll 8
        for (int i = 0; i < count; ++i) {
#pragma GCC unroll 4
            for (int k = 1; k < side; ++k) sums[0].at[i] += sums[k].at[i];
            store_any(output + i * width, sums[0].at[i]);
        }
    }
}

// Lane l of the result is number[l] of a and b, one after the other.
template <int... number>
GOSSAMER_INLINE Vector picked(Vector a, Vector b, Lanes<number...>) {
    return __builtin_shufflevector(a, b, number...);
}

// Of two vectors whose `group` lanes, `whole` over, are to be added up: the sums of half as many,
// of a and then of b in each place.
template <int group, bool second, int... lane>
GOSSAMER_INLINE Vector halves(Vector a, Vector b, Lanes<lane...>) {
    constexpr int half = group / 2;
    return __builtin_shufflevector(a, b,
                                   (lane / group * group + (lane % group) % half +
                                    (second ? half : 0) + (lane % group >= half ? width : 0))...);
}

// Lanes of vectors change into one vector of their sums: lane i is the sum of rows[i].
template <int group>
GOSSAMER_INLINE void add_lanes(Vector* rows) {
    constexpr int half = group / 2;
#pragma GCC unroll 8
    for (int i = 0; i < half; ++i) {
        rows[i] = halves<group, false>(rows[i], rows[i + half], EveryLane{}) +
                  halves<group, true>(rows[i], rows[i + half], EveryLane{});
    }
    if constexpr (half > 1) add_lanes<half>(rows);
}

// Sums of vectors over their lanes, stored one after the other, a vector of them at a time.
class LaneSums {
  public:
    GOSSAMER_INLINE LaneSums(float* to, bool adds) : to_(to), adds_(adds) {}

    GOSSAMER_INLINE void add(Vector value) {
        waiting_[count_++] = value;
        if (count_ == width) flush();
    }

    // Go on elsewhere.
    GOSSAMER_INLINE void turn(float* to) {
        if (to == to_ + count_) return;
        finish();
        to_ = to;
    }

    GOSSAMER_INLINE void finish() {
        if (count_ == 0) return;
        const int64_t there = count_;
        for (int64_t i = there; i < width; ++i) waiting_[i] = Vector{};
        float sums[width];
        store_any(sums, reduced());
        for (int64_t i = 0; i < there; ++i) to_[i] = adds_ ? to_[i] + sums[i] : sums[i];
        to_ += there;
        count_ = 0;
    }

  private:
    GOSSAMER_INLINE Vector reduced() const {
        Vector rows[width];
#pragma GCC unroll 16
        for (int i = 0; i < width; ++i) rows[i] = waiting_[i];
        add_lanes<width>(rows);
        return rows[0];
    }

    GOSSAMER_INLINE void flush() {
        const Vector sums = reduced();
        store_any(to_, adds_ ? load_any<Vector>(to_) + sums : sums);
        to_ += width;
        count_ = 0;
    }

    float* to_;
    const bool adds_;
    int64_t count_ = 0;
    Vector waiting_[width];
};

template <int count>
void sample(const Part& given, const Tile& gradient, const Tile& inputs, bool adds, float* values,
            float* bias) {
    const Part part = given;
    const float* const input = inputs.data;
    const ptrdiff_t stride = inputs.stride;
    LaneSums products(values, adds);
    LaneSums totals(bias ? bias + part.rows.begin : nullptr, adds);
    for (int64_t row = part.rows.begin; row < part.rows.end; ++row) {
        const float* const from = gradient.data + row * gradient.stride;
        Sums<count> factors;
#pragma GCC unroll 8
        for (int i = 0; i < count; ++i) factors.at[i] = load_any<Vector>(from + i * width);
        if (bias) {
            Vector total = factors.at[0];
#pragma GCC unroll 8
            for (int i = 1; i < count; ++i) total += factors.at[i];
            totals.add(total);
        }
        const int64_t end = part.ends[row];
        products.turn(values + part.begins[row]);
        for (int64_t at = part.begins[row]; at < end; ++at) {
            const float* const column = input + part.columns[at] * stride;
            Vector sum = factors.at[0] * load_any<Vector>(column);
#pragma GCC unroll 8
            for (int i = 1; i < count; ++i)
                sum += factors.at[i] * load_any<Vector>(column + i * width);
            products.add(sum);
        }
    }
    products.finish();
    totals.finish();
}

void take(const float* inputs, ptrdiff_t apart, int64_t examples, Range features, int64_t lanes,
          const Tile& tile) {
    for (int64_t i = features.begin; i < features.end; i += numbers_at_once) {
        take_numbers(inputs + i, examples, apart, least(numbers_at_once, features.end - i),
                     tile.data + i * tile.stride, lanes, tile.stride);
    }
}

}  // namespace

#define GOSSAMER_BY_VECTORS(loop) \
    {nullptr, loop<1>, loop<2>, loop<3>, loop<4>, loop<5>, loop<6>, loop<7>, loop<8>}

GOSSAMER_EXPORT(Loops, training_loops,
                {width, GOSSAMER_BY_VECTORS(multiply), GOSSAMER_BY_VECTORS(sample), take})

}  // namespace gossamer::training
