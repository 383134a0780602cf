// The loop of decoding/kept_attention.hpp, compiled once for each instruction set
// (simd/dispatch.hpp).
#include "decoding/kept_attention.hpp"

#include "simd/activations.hpp"
#include "simd/transpose.hpp"

namespace gossamer {
namespace {

GOSSAMER_INLINE float total(const Vector& value) {
    float numbers[width];
    store_any(numbers, value);
    for (int half = width / 2; half > 0; half /= 2)
        for (int lane = 0; lane < half; ++lane) numbers[lane] += numbers[lane + half];
    return numbers[0];
}

GOSSAMER_INLINE float score(const KeptTask& task, const float* key) {
    Vector sum{};
    int64_t at = 0;
    for (; at + width <= task.width; at += width)
        sum += load_any<Vector>(task.query + at) * load_any<Vector>(key + at);
    float found = total(sum);
    for (; at < task.width; ++at) found += task.query[at] * key[at];
    return found * task.scale;
}

// Fetches what comes next, once: what is kept of many sequences would drive the weights of the
// network out of the caches.
GOSSAMER_INLINE void pass_by(const float* from, int64_t floats) {
    constexpr int64_t ahead = 512;
    for (int64_t at = 0; at < floats; at += 16) __builtin_prefetch(from + ahead + at, 0, 0);
}

// The scores of four keys that follow each other, so that their lanes are added up together.
GOSSAMER_INLINE Quad four_scores(const KeptTask& task, const float* keys) {
    Vector sums[4] = {};
    int64_t at = 0;
    for (; at + width <= task.width; at += width) {
        const Vector query = load_any<Vector>(task.query + at);
#pragma GCC unroll 4
        for (int key = 0; key < 4; ++key)
            sums[key] += query * load_any<Vector>(keys + key * task.width + at);
    }
    transpose(sums);
    Quad parts[quads];
    store_any(reinterpret_cast<float*>(parts), (sums[0] + sums[1]) + (sums[2] + sums[3]));
    Quad found = parts[0];
#pragma GCC unroll 4
    for (int part = 1; part < quads; ++part) found += parts[part];
    for (; at < task.width; ++at) {
        const float* const here = keys + at;
        found += task.query[at] *
                 Quad{here[0], here[task.width], here[2 * task.width], here[3 * task.width]};
    }
    return found * task.scale;
}

// Scores become powers, with zeros behind; returns their sum.
GOSSAMER_INLINE float powers(float* scores, int64_t count) {
    for (int64_t at = count; at < count + width; ++at) scores[at] = -__builtin_inff();
    Vector peaks = broadcast(-3.40282347e38f), sum{};
    for (int64_t at = 0; at < count; at += width)
        peaks = larger(peaks, load_any<Vector>(scores + at));
    float peak = peaks[0];
    for (int lane = 1; lane < width; ++lane) peak = larger(peak, peaks[lane]);
    for (int64_t at = 0; at < count; at += width) {
        const Vector less = load_any<Vector>(scores + at) - peak;
        const Vector found = less < -87.0f ? Vector{} : exponential(less);
        store_any(scores + at, found);
        sum += found;
    }
    return total(sum);
}

template <int vectors>
GOSSAMER_INLINE void average(const KeptTask& task, int64_t feature, float factor) {
    Sums<vectors> sums{}, others{};
    const auto add = [&](int64_t at, Sums<vectors>& to) GOSSAMER_LAMBDA_INLINE {
        const Vector power = broadcast(task.scores[at]);
        const float* from = task.values + at * task.depth + feature;
#pragma GCC unroll 4
        for (int v = 0; v < vectors; ++v) to.at[v] += power * load_any<Vector>(from + v * width);
    };
    int64_t token = 0;
    for (; token + 2 <= task.count; token += 2) {
        if (feature == 0) pass_by(task.values + token * task.depth, 2 * task.depth);
        add(token, sums);
        add(token + 1, others);
    }
    if (token < task.count) add(token, sums);
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) sums.at[v] += others.at[v];
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v)
        store_any(task.output + feature + v * width, sums.at[v] * factor);
}

void attend(const KeptTask& task) {
    int64_t key = 0;
    for (; key + 4 <= task.count; key += 4) {
        pass_by(task.keys + key * task.width, 4 * task.width);
        store_any(task.scores + key, four_scores(task, task.keys + key * task.width));
    }
    for (; key < task.count; ++key) task.scores[key] = score(task, task.keys + key * task.width);
    for (key = 0; task.added && key < task.count; ++key) task.scores[key] += task.added[key];
    const float sum = powers(task.scores, task.count);
    const float factor = sum == 0.0f ? 1.0f : 1.0f / sum;  // without any key nothing is added up
    int64_t feature = 0;
    for (; feature + 4 * width <= task.depth; feature += 4 * width)
        average<4>(task, feature, factor);
    for (; feature + width <= task.depth; feature += width) average<1>(task, feature, factor);
    for (; feature < task.depth; ++feature) {
        float found = 0.0f;
        for (int64_t at = 0; at < task.count; ++at)
            found += task.scores[at] * task.values[at * task.depth + feature];
        task.output[feature] = found * factor;
    }
}

}  // namespace

GOSSAMER_EXPORT(KeptLoop, kept_loop, attend)

}  // namespace gossamer
