// The loops of training/loops.hpp, compiled once for each instruction set (simd/dispatch.hpp).
#include "training/loops.hpp"

#include "simd/transpose.hpp"

namespace gossamer::training {
namespace {

// Keeps what was loaded in a register: compilers would rather load it anew for each use, and loads
// are what these loops wait for.
GOSSAMER_INLINE Vector held(Vector value) {
#if defined(__AVX512F__) || (defined(__x86_64__) && GOSSAMER_WIDTH < 16)
    asm("" : "+v"(value));
#endif
    return value;
}

// How many non-zeros are added up side by side. A multiply-add takes 4 cycles and two begin in
// each, so that fewer than 8 chains of them would leave units idle.
constexpr int chains(int sums) { return sums >= 7 ? 1 : sums >= 3 ? 2 : 4; }

template <int count>
GOSSAMER_INLINE void add_input(float weight, const float* input, Sums<count>& sums) {
    const Vector same = broadcast(weight);
#pragma GCC unroll 8
    for (int i = 0; i < count; ++i) sums.at[i] += same * load_any<Vector>(input + i * width);
}

// What a row has in one slice ends long before what it has in the next begins, so that processors
// do not foresee where the next row's lies.
GOSSAMER_INLINE void fetch_ahead(const Part& part, const float* values, int64_t row) {
    constexpr int64_t rows_ahead = 3, numbers_of_a_line = 16;
    if (row + rows_ahead >= part.rows.end) return;
    const int64_t end = part.ends[row + rows_ahead];
    for (int64_t at = part.begins[row + rows_ahead]; at < end; at += numbers_of_a_line) {
        __builtin_prefetch(values + at);
        __builtin_prefetch(part.columns + at);
    }
    __builtin_prefetch(values + end);
    __builtin_prefetch(part.columns + end);
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
        fetch_ahead(part, values, row);
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

// Where sums are put: one after the other.
struct InOrder {
    float* to;
    bool adds;

    GOSSAMER_INLINE float of(const float* values, int64_t at) const { return values[at]; }
    GOSSAMER_INLINE void put(int64_t at, Vector sums) const {
        store_any(to + at, adds ? load_any<Vector>(to + at) + sums : sums);
    }
    GOSSAMER_INLINE void put_first(int64_t at, Vector given, int64_t count) const {
        float sums[width];
        store_any(sums, given);
        for (int64_t i = 0; i < count; ++i) to[at + i] = adds ? to[at + i] + sums[i] : sums[i];
    }
};

// Each at a place of its own.
struct Scattered {
    float* to;
    const int32_t* order;
    bool adds;

    GOSSAMER_INLINE float of(const float* values, int64_t at) const { return values[order[at]]; }
    GOSSAMER_INLINE void put(int64_t at, Vector given) const {
        alignas(64) float sums[width];
        store(sums, given);
        const int32_t* const place = order + at;
        if (adds) {
#pragma GCC unroll 16
            for (int i = 0; i < width; ++i) to[place[i]] += sums[i];
        } else {
#pragma GCC unroll 16
            for (int i = 0; i < width; ++i) to[place[i]] = sums[i];
        }
    }
    GOSSAMER_INLINE void put_first(int64_t at, Vector given, int64_t count) const {
        float sums[width];
        store_any(sums, given);
        for (int64_t i = 0; i < count; ++i) {
            float* const place = to + order[at + i];
            *place = adds ? *place + sums[i] : sums[i];
        }
    }
};

// Where there are 16 registers, loops have none left to add lanes up in, and give up all that they
// hold for it: they do so for many vectors at a time.
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int64_t most_waiting = width;
#else
constexpr int64_t most_waiting = 4 * width;
#endif

// Sums of vectors over their lanes, taken when enough of them are there.
template <class Place>
class LaneSums {
  public:
    GOSSAMER_INLINE explicit LaneSums(const Place& place) : place_(place) {}

    // Where the next vectors are to be put, and how many have room.
    GOSSAMER_INLINE Vector* free() { return waiting_ + count_; }
    GOSSAMER_INLINE int64_t room() const { return most_waiting - count_; }

    // So many were put there.
    GOSSAMER_INLINE void added(int64_t more) {
        count_ += more;
        if (count_ < most_waiting) return;
        for (int64_t i = 0; i < most_waiting; i += width) place_.put(at_ + i, reduced(i));
        at_ += most_waiting;
        count_ = 0;
    }

    // Go on with the sum of this number.
    GOSSAMER_INLINE void turn(int64_t at) {
        if (at == at_ + count_) return;
        finish();
        at_ = at;
    }

    GOSSAMER_INLINE void finish() {
        if (count_ == 0) return;
        int64_t done = 0;
        for (; done + width <= count_; done += width) place_.put(at_ + done, reduced(done));
        if (done < count_) {
            for (int64_t i = count_; i < done + width; ++i) waiting_[i] = Vector{};
            place_.put_first(at_ + done, reduced(done), count_ - done);
        }
        at_ += count_;
        count_ = 0;
    }

  private:
    GOSSAMER_INLINE Vector reduced(int64_t first) const {
        Vector rows[width];
#pragma GCC unroll 16
        for (int i = 0; i < width; ++i) rows[i] = held(waiting_[first + i]);
        add_lanes<width>(rows);
        return rows[0];
    }

    const Place place_;
    int64_t at_ = 0;
    int64_t count_ = 0;
    Vector waiting_[most_waiting];
};

template <int count>
GOSSAMER_INLINE Sums<count> loaded(const float* from) {
    Sums<count> found;
#pragma GCC unroll 8
    for (int i = 0; i < count; ++i) found.at[i] = load_any<Vector>(from + i * width);
    return found;
}

template <int count>
void sample(const Part& given, const Tile& gradient, const Tile& inputs, bool adds, float* values) {
    const Part part = given;
    const float* const input = inputs.data;
    const ptrdiff_t stride = inputs.stride;
    LaneSums<InOrder> products({values, adds});
    for (int64_t row = part.rows.begin; row < part.rows.end; ++row) {
        fetch_ahead(part, values, row);
        const Sums<count> factors = loaded<count>(gradient.data + row * gradient.stride);
        const int64_t end = part.ends[row];
        products.turn(part.begins[row]);
        for (int64_t at = part.begins[row]; at < end;) {
            const int64_t now = least(end - at, products.room());
            Vector* const to = products.free();
            for (int64_t k = 0; k < now; ++k) {
                const float* const column = input + part.columns[at + k] * stride;
                Vector sum = factors.at[0] * load_any<Vector>(column);
#pragma GCC unroll 8
                for (int i = 1; i < count; ++i)
                    sum += factors.at[i] * load_any<Vector>(column + i * width);
                to[k] = sum;
            }
            products.added(now);
            at += now;
        }
    }
    products.finish();
}

template <int count, bool samples, class Place>
GOSSAMER_INLINE void differentiate_rows(const Part& part, const float* values, const Place& place,
                                        const float* gradient, ptrdiff_t stride, const Tile& inputs,
                                        bool goes_on, const Tile& of_inputs) {
    LaneSums<Place> products(place);
    for (int64_t row = part.rows.begin; row < part.rows.end; ++row) {
        float* const output = of_inputs.data + row * of_inputs.stride;
        const Sums<count> factors = loaded<count>(inputs.data + row * inputs.stride);
        Sums<count> sums{};
        if (goes_on) sums = loaded<count>(output);
        const int64_t end = part.ends[row];
        if (samples) products.turn(part.begins[row]);
        for (int64_t at = part.begins[row]; at < end;) {
            const int64_t now = samples ? least(end - at, products.room()) : end - at;
            Vector* const to = products.free();
            for (int64_t k = 0; k < now; ++k) {
                const float* const from = gradient + part.columns[at + k] * stride;
                const Vector weight = broadcast(place.of(values, at + k));
                Vector product{};
#pragma GCC unroll 8
                for (int i = 0; i < count; ++i) {
                    const Vector one = held(load_any<Vector>(from + i * width));
                    sums.at[i] += weight * one;
                    product = i == 0 ? factors.at[0] * one : product + factors.at[i] * one;
                }
                if (samples) to[k] = product;
            }
            if (samples) products.added(now);
            at += now;
        }
#pragma GCC unroll 8
        for (int i = 0; i < count; ++i) store_any(output + i * width, sums.at[i]);
    }
    if (samples) products.finish();
}

template <int count, class Place>
GOSSAMER_INLINE void differentiate_in(const Part& part, const float* values, const Place& place,
                                      const Tile& gradient, const Tile& inputs, bool goes_on,
                                      const Tile& of_inputs) {
    if (place.to) {
        differentiate_rows<count, true>(part, values, place, gradient.data, gradient.stride, inputs,
                                        goes_on, of_inputs);
    } else {
        differentiate_rows<count, false>(part, values, place, gradient.data, gradient.stride,
                                         of_inputs, goes_on, of_inputs);
    }
}

template <int count>
void differentiate(const Part& given, const int32_t* order, const float* values,
                   const Tile& gradient, const Tile& inputs, bool goes_on, bool adds,
                   const Tile& of_inputs, float* of_values) {
    const Part part = given;
    if (order) {
        const Scattered place{of_values, order, adds};
        differentiate_in<count>(part, values, place, gradient, inputs, goes_on, of_inputs);
    } else {
        const InOrder place{of_values, adds};
        differentiate_in<count>(part, values, place, gradient, inputs, goes_on, of_inputs);
    }
}

template <int count>
void total(Range rows, const Tile& gradient, bool adds, float* bias) {
    LaneSums<InOrder> totals({bias, adds});
    totals.turn(rows.begin);
    for (int64_t row = rows.begin; row < rows.end; ++row) {
        const Sums<count> all = loaded<count>(gradient.data + row * gradient.stride);
        Vector sum = all.at[0];
#pragma GCC unroll 8
        for (int i = 1; i < count; ++i) sum += all.at[i];
        *totals.free() = sum;
        totals.added(1);
    }
    totals.finish();
}

void take(const float* inputs, ptrdiff_t apart, int64_t examples, Range features, int64_t lanes,
          const Tile& tile) {
    for (int64_t i = features.begin; i < features.end; i += numbers_at_once) {
        take_numbers(inputs + i, examples, apart, least(numbers_at_once, features.end - i),
                     tile.data + i * tile.stride, lanes, tile.stride);
    }
}

void copy(const float* from, const Spacing& read, int64_t rows, int64_t numbers, float* to,
          const Spacing& write) {
    const ptrdiff_t next = read.number, place = write.number;
    for (int64_t row = 0; row < rows; ++row) {
        const float* const source = from + row * read.row;
        float* const target = to + row * write.row;
        if (next != 1 || place != 1) {
            for (int64_t i = 0; i < numbers; ++i) target[i * place] = source[i * next];
        } else if (numbers < width) {
            for (int64_t i = 0; i < numbers; ++i) target[i] = source[i];
        } else {
            for (int64_t i = 0; i + width <= numbers; i += width)
                store_any(target + i, load_any<Vector>(source + i));
            store_any(target + numbers - width, load_any<Vector>(source + numbers - width));
        }
    }
}

void part(const float* from, const Spacing& read, int64_t rows, int64_t pixels, int64_t channels,
          float* to, ptrdiff_t pitch, ptrdiff_t apart) {
    const int64_t lanes = (pixels + width - 1) / width * width;
    for (int64_t row = 0; row < rows; ++row)
        take_numbers(from + row * read.row, pixels, read.number, channels, to + row * pitch, lanes,
                     apart);
}

void join(const float* from, ptrdiff_t pitch, ptrdiff_t apart, int64_t rows, int64_t pixels,
          int64_t channels, float* to, const Spacing& write) {
    for (int64_t row = 0; row < rows; ++row)
        give_numbers(from + row * pitch, apart, channels, to + row * write.row, pixels,
                     write.number);
}

}  // namespace

// Measured on a Zen 5 with vectors of 16, and on a Zen 3 with vectors of 8.
constexpr bool narrow = width < 16;
constexpr ptrdiff_t most_apart = narrow ? tile_vectors * width : 512;

#define GOSSAMER_BY_VECTORS(loop) \
    {nullptr, loop<1>, loop<2>, loop<3>, loop<4>, loop<5>, loop<6>, loop<7>, loop<8>}

GOSSAMER_EXPORT(Loops, training_loops,
                {width, most_apart, narrow, GOSSAMER_BY_VECTORS(multiply),
                 GOSSAMER_BY_VECTORS(sample), GOSSAMER_BY_VECTORS(differentiate),
                 GOSSAMER_BY_VECTORS(total), take, copy, part, join})

}  // namespace gossamer::training
