// The channels of each position, less their mean and over the root of their mean square.
#include "core/plain.hpp"
#include "simd/dispatch.hpp"

namespace gossamer {

struct ChannelNormTask {
    float epsilon;
    bool centred;
    const float* scale;  // of each channel, or null
    const float* shift;
};

// Over rows, of which the pixels follow each other.
using ChannelNormLoop = void (*)(const ChannelNormTask&, const View& input, const View& output,
                                 Range rows);

GOSSAMER_DECLARE(ChannelNormLoop, channel_norm_loop)

}  // namespace gossamer

#ifdef GOSSAMER_INSTRUCTION_SET
#include "simd/vectors.hpp"

namespace gossamer {
namespace {

// So many numbers are added up by themselves, so that rounding does not grow with all of them.
constexpr int64_t part = 16;

template <int vectors>
struct Columns {
    const float* from;
    ptrdiff_t channel;
    int64_t channels;

    // Sums over the channels of term(number).
    template <typename Term>
    GOSSAMER_INLINE Sums<vectors> sums(const Term& term) const {
        Sums<vectors> total{};
        for (int64_t begin = 0; begin < channels; begin += part) {
            Sums<vectors> some{};
            const int64_t end = least(begin + part, channels);
            for (int64_t at = begin; at < end; ++at) {
#pragma GCC unroll 4
                for (int v = 0; v < vectors; ++v)
                    some.at[v] += term(load_any<Vector>(from + at * channel + v * width), v);
            }
#pragma GCC unroll 4
            for (int v = 0; v < vectors; ++v) total.at[v] += some.at[v];
        }
        return total;
    }
};

template <int vectors>
GOSSAMER_INLINE void normalize(const ChannelNormTask& task, const float* from,
                               ptrdiff_t from_channel, float* to, ptrdiff_t to_channel,
                               int64_t channels, int64_t count) {
    const Columns<vectors> columns{from, from_channel, channels};
    const float share = 1.0f / static_cast<float>(channels);
    Sums<vectors> mean{}, factor;
    if (task.centred) {
        mean = columns.sums([](Vector value, int) GOSSAMER_LAMBDA_INLINE { return value; });
#pragma GCC unroll 4
        for (int v = 0; v < vectors; ++v) mean.at[v] *= share;
    }
    const Sums<vectors> squares = columns.sums([&](Vector value, int v) GOSSAMER_LAMBDA_INLINE {
        const Vector centred = value - mean.at[v];
        return centred * centred;
    });
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v)
        factor.at[v] = 1.0f / root(squares.at[v] * share + task.epsilon);
    for (int64_t at = 0; at < channels; ++at) {
        const Vector scale = broadcast(task.scale ? task.scale[at] : 1.0f);
        const Vector shift = broadcast(task.shift ? task.shift[at] : 0.0f);
#pragma GCC unroll 4
        for (int v = 0; v < vectors; ++v) {
            const int64_t there = count - v * width;
            const Vector value = load_any<Vector>(from + at * from_channel + v * width);
            const Vector found = (value - mean.at[v]) * factor.at[v] * scale + shift;
            float* place = to + at * to_channel + v * width;
            if (there >= width)
                store_any(place, found);
            else
                store_first(place, found, there);
        }
    }
}

void normalize_rows(const ChannelNormTask& task, const View& input, const View& output,
                    Range rows) {
    const int64_t count = output.pixels * output.pixel;
    for (int64_t row = rows.begin; row < rows.end; ++row) {
        const float* from = input.data + row * input.row;
        float* to = output.data + row * output.row;
        int64_t at = 0;
        for (; at + 4 * width <= count; at += 4 * width)
            normalize<4>(task, from + at, input.channel, to + at, output.channel, output.channels,
                         4 * width);
        for (; at < count; at += width)
            normalize<1>(task, from + at, input.channel, to + at, output.channel, output.channels,
                         least(width, count - at));
    }
}

}  // namespace

GOSSAMER_EXPORT(ChannelNormLoop, channel_norm_loop, normalize_rows)

}  // namespace gossamer

#else
#include <cmath>

#include "ops/layer.hpp"

namespace gossamer {
namespace {

class ChannelNorm final : public Layer {
  public:
    explicit ChannelNorm(Fields& fields)
        : epsilon_(fields.take<double>("epsilon", 1e-5)),
          centred_(fields.take<bool>("centred", true)),
          scale_(fields.take<Floats>("scale", {})),
          shift_(fields.take<Floats>("shift", {})) {}

    Shape check(const Check& check) override {
        check.require(epsilon_ >= 0.0 && std::isfinite(epsilon_), "epsilon must be 0 or more");
        for (const Floats* given : {&scale_, &shift_}) {
            check.require(
                given->empty() || given->size() == static_cast<std::size_t>(taken[0].channels),
                "scale and shift must have a number for each channel");
        }
        return taken[0];
    }

    Prepared prepare(InstructionSet set, bool) const override {
        return {[loop = channel_norm_loop(set), task = task(), scale = scale_,
                 shift = shift_](const Call& call) {
                    ChannelNormTask given = task;
                    given.scale = scale.empty() ? nullptr : scale.data();
                    given.shift = shift.empty() ? nullptr : shift.data();
                    loop(given, call.read(0), call.output, call.part);
                },
                1.0, /*by_rows=*/true};
    }

  private:
    ChannelNormTask task() const {
        return {static_cast<float>(epsilon_), centred_, nullptr, nullptr};
    }

    double epsilon_;
    bool centred_;
    Floats scale_;
    Floats shift_;
};

GOSSAMER_OPERATOR("channel_norm", ChannelNorm)

}  // namespace
}  // namespace gossamer
#endif
