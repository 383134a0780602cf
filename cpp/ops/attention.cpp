// Values averaged by how well their keys fit a query, for each head and each query.
#include "core/plain.hpp"
#include "simd/dispatch.hpp"

namespace gossamer {

// One head. Queries, keys and values are planes of positions, one for each feature; so are results.
struct AttentionTask {
    const float* query;
    const float* key;
    const float* value;
    float* output;
    std::ptrdiff_t query_plane, key_plane, value_plane, output_plane;
    std::int64_t width;  // features of a query and of a key
    std::int64_t depth;  // of a value
    std::int64_t queries, keys;
    float scale;  // to the binary logarithm of a power
    bool causal;
    const float* added;  // to the logarithms, [keys][added_row], or null
    std::int64_t added_row;
    const float* mask;  // added to scores: keys side by side, or null
    std::ptrdiff_t mask_query;
};

constexpr float binary_logarithm_of_e = 1.44269504f;

// What is added to a score, times log2(e). The lowest number, which some masks are made of, stays
// finite: a query that sees no key but such sees all of them alike.
static inline float in_powers_of_two(float added) {
    const float found = binary_logarithm_of_e * added, lowest = -3.40282347e38f;
    return found < lowest && added >= lowest ? lowest : found;
}

struct AttentionLoops {
    std::int64_t lanes;    // of a vector of queries
    std::int64_t longest;  // vectors that are computed at once
    // So many vectors of queries, from one on.
    void (*attend)(const AttentionTask&, std::int64_t query, std::int64_t vectors);
};

GOSSAMER_DECLARE(AttentionLoops, attention_loops)

}  // namespace gossamer

#ifdef GOSSAMER_INSTRUCTION_SET
#include "simd/activations.hpp"

namespace gossamer {
namespace {

// Queries lie in the lanes. Scores of a tile and a block of keys, then their powers, stay in the
// first cache; what the blocks before came to is scaled to the new peak (M. Milakov and N.
// Gimelshein, Online normalizer calculation for softmax, 2018).
constexpr int tile_vectors = width == 16 ? 4 : 2;
constexpr int block_keys = 128;
constexpr float lowest = -3.40282347e38f;

// Rows that are added up side by side: of few vectors more, since a multiply-add takes four cycles.
template <int vectors>
constexpr int rows_at_once = vectors == 1 ? 8 : 4;

template <int vectors>
struct Tile {
    Sums<vectors> peak, total;
    alignas(64) float scores[block_keys * vectors * width];
};

// Rows of the one planes times columns of the other: [rows][vectors of positions] += over `count`.
// `number(row, at)` is broadcast, `line(at)` the vectors.
template <int rows, int vectors, typename Number, typename Line>
GOSSAMER_INLINE void multiply(int64_t count, const Number& number, const Line& line,
                              Sums<vectors> (&sums)[rows]) {
    for (int64_t at = 0; at < count; ++at) {
        const float* from = line(at);
        Sums<vectors> values;
#pragma GCC unroll 4
        for (int v = 0; v < vectors; ++v) values.at[v] = load_any<Vector>(from + v * width);
#pragma GCC unroll 8
        for (int row = 0; row < rows; ++row) {
            const Vector factor = broadcast(number(row, at));
#pragma GCC unroll 4
            for (int v = 0; v < vectors; ++v) sums[row].at[v] += factor * values.at[v];
        }
    }
}

template <int rows, int vectors>
GOSSAMER_INLINE void score_rows(const AttentionTask& task, int64_t query, int64_t key, float* to) {
    Sums<vectors> sums[rows] = {};
    const float* keys = task.key + key;
    const float* queries = task.query + query;
    multiply<rows, vectors>(
        task.width,
        [&](int row, int64_t at) GOSSAMER_LAMBDA_INLINE { return keys[at * task.key_plane + row]; },
        [&](int64_t at) GOSSAMER_LAMBDA_INLINE { return queries + at * task.query_plane; }, sums);
#pragma GCC unroll 8
    for (int row = 0; row < rows; ++row) {
#pragma GCC unroll 4
        for (int v = 0; v < vectors; ++v)
            store(to + (row * vectors + v) * width, sums[row].at[v] * task.scale);
    }
}

template <int vectors>
GOSSAMER_INLINE void mask(const AttentionTask& task, int64_t query, Range keys, float* scores) {
    if (task.added) {
        for (int64_t key = keys.begin; key < keys.end; ++key) {
            float* row = scores + (key - keys.begin) * vectors * width;
            const float* more = task.added + key * task.added_row + query;
#pragma GCC unroll 4
            for (int v = 0; v < vectors; ++v)
                store(row + v * width, load(row + v * width) + load_any<Vector>(more + v * width));
        }
    }
    for (int64_t key = keys.begin; task.mask && key < keys.end; ++key) {
        float* row = scores + (key - keys.begin) * vectors * width;
        const float* more = task.mask + query * task.mask_query + key;
        const int64_t lanes = least(task.queries - query, vectors * width);
        for (int64_t lane = 0; lane < lanes; ++lane)
            row[lane] += in_powers_of_two(more[lane * task.mask_query]);
    }
    if (!task.causal) return;
    for (int64_t key = keys.begin > query ? keys.begin : query + 1; key < keys.end; ++key) {
        float* row = scores + (key - keys.begin) * vectors * width;
        const int64_t hidden = least(key - query, vectors * width);  // queries before the key
        for (int64_t lane = 0; lane < hidden; ++lane) row[lane] = -__builtin_inff();
    }
}

// 2^x for x of 0 at most, where it is a number of full precision; less is nothing. The polynomial
// is off by 1.2e-7 at most between -1/2 and 1/2.
GOSSAMER_INLINE Vector power(Vector x) {
    const Vector magic = broadcast(12582912.0f);  // see `exponential_parts`
    const Vector shifted = x + magic;
    const Vector r = x - (shifted - magic);
    Vector p = broadcast(0.00132647273f);
    p = p * r + 0.00967151299f;
    p = p * r + 0.0555073358f;
    p = p * r + 0.240222424f;
    p = p * r + 0.693147004f;
    p = p * r + 1.0f;
    // Without a sign, as what is nothing may be any number here.
    const Unsigned exponent = reinterpret_cast<Unsigned>(shifted) + (127u - 0x4b400000u);
    return x < -125.0f ? Vector{} : p * reinterpret_cast<Vector>(exponent << 23);
}

// Scores become powers; returns by what all that was before is to be multiplied.
template <int vectors>
GOSSAMER_INLINE Sums<vectors> weigh(int64_t count, Tile<vectors>& tile) {
    Sums<vectors> peak = tile.peak, factor, total{};
    for (int64_t key = 0; key < count; ++key) {
#pragma GCC unroll 4
        for (int v = 0; v < vectors; ++v)
            peak.at[v] = larger(peak.at[v], load(tile.scores + (key * vectors + v) * width));
    }
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) {
        // The peak of a query that keeps no key yet is no number to be subtracted.
        factor.at[v] = power(tile.peak.at[v] - peak.at[v]);
    }
    for (int64_t key = 0; key < count; ++key) {
#pragma GCC unroll 4
        for (int v = 0; v < vectors; ++v) {
            float* place = tile.scores + (key * vectors + v) * width;
            const Vector found = power(load(place) - peak.at[v]);
            store(place, found);
            total.at[v] += found;
        }
    }
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v)
        tile.total.at[v] = tile.total.at[v] * factor.at[v] + total.at[v];
    tile.peak = peak;
    return factor;
}

// Some features of the values are added up over the keys of a block.
template <int rows, int vectors>
GOSSAMER_INLINE void average_rows(const AttentionTask& task, int64_t query, int64_t feature,
                                  Range keys, const float* powers, bool begins,
                                  const Sums<vectors>& before, const Sums<vectors>& after) {
    float* output = task.output + feature * task.output_plane + query;
    Sums<vectors> sums[rows] = {};
    if (!begins) {
#pragma GCC unroll 8
        for (int row = 0; row < rows; ++row) {
#pragma GCC unroll 4
            for (int v = 0; v < vectors; ++v)
                sums[row].at[v] =
                    before.at[v] * load_any<Vector>(output + row * task.output_plane + v * width);
        }
    }
    const float* values = task.value + feature * task.value_plane + keys.begin;
    multiply<rows, vectors>(
        keys.end - keys.begin,
        [&](int row, int64_t at)
            GOSSAMER_LAMBDA_INLINE { return values[row * task.value_plane + at]; },
        [&](int64_t at) GOSSAMER_LAMBDA_INLINE { return powers + at * vectors * width; }, sums);
#pragma GCC unroll 8
    for (int row = 0; row < rows; ++row) {
#pragma GCC unroll 4
        for (int v = 0; v < vectors; ++v) {
            float* to = output + row * task.output_plane + v * width;
            const Vector found = sums[row].at[v] * after.at[v];
            const int64_t there = task.queries - query - v * width;
            if (there >= width)
                store_any(to, found);
            else
                store_first(to, found, there);
        }
    }
}

template <int vectors>
void attend_tile(const AttentionTask& task, int64_t query) {
    constexpr int rows = rows_at_once<vectors>;
    Tile<vectors> tile;
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) {
        tile.peak.at[v] = broadcast(lowest);
        tile.total.at[v] = Vector{};
    }
    const int64_t last = least(task.queries, query + vectors * width);
    const int64_t keys = task.causal ? least(task.keys, last) : task.keys;
    // Blocks of nearly one length, which is a multiple of the rows that are computed at once.
    const int64_t blocks = (keys + block_keys - 1) / block_keys;
    const int64_t length = (keys + rows * blocks - 1) / (rows * blocks) * rows;
    for (int64_t begin = 0; begin < keys; begin += length) {
        const Range block{begin, least(begin + length, keys)};
        const int64_t count = block.end - block.begin;
        int64_t key = 0;
        for (; key + rows <= count; key += rows)
            score_rows<rows, vectors>(task, query, begin + key,
                                      tile.scores + key * vectors * width);
        for (; key < count; ++key)
            score_rows<1, vectors>(task, query, begin + key, tile.scores + key * vectors * width);
        mask<vectors>(task, query, block, tile.scores);
        const Sums<vectors> before = weigh(count, tile);
        Sums<vectors> after;
#pragma GCC unroll 4
        for (int v = 0; v < vectors; ++v) {
            // Without any key, nothing was added up.
            const Vector total = tile.total.at[v] == 0.0f ? broadcast(1.0f) : tile.total.at[v];
            after.at[v] = block.end == keys ? 1.0f / total : broadcast(1.0f);
        }
        int64_t feature = 0;
        for (; feature + rows <= task.depth; feature += rows)
            average_rows<rows, vectors>(task, query, feature, block, tile.scores, begin == 0,
                                        before, after);
        for (; feature < task.depth; ++feature)
            average_rows<1, vectors>(task, query, feature, block, tile.scores, begin == 0, before,
                                     after);
    }
}

void attend(const AttentionTask& task, int64_t query, int64_t vectors) {
    if (vectors == 1) attend_tile<1>(task, query);
    if (vectors == 2) attend_tile<2>(task, query);
    if (tile_vectors == 4 && vectors == 3) attend_tile<3>(task, query);
    if (tile_vectors == 4 && vectors == 4) attend_tile<4>(task, query);
}

}  // namespace

GOSSAMER_EXPORT(AttentionLoops, attention_loops, {width, tile_vectors, attend})

}  // namespace gossamer

#else
#include <cmath>
#include <limits>
#include <vector>

#include "ops/layer.hpp"
#include "single/steps.hpp"

namespace gossamer {
namespace {

class Attention final : public Layer {
  public:
    explicit Attention(Fields& fields)
        : heads(fields.take<std::int64_t>("heads")),
          key_heads(fields.take<std::int64_t>("key_heads")),
          scale(static_cast<float>(fields.take<double>("scale"))),
          causal(fields.take<bool>("causal", false)),
          kept(fields.take<Floats>("kept", {})),
          bias(fields.take<Floats>("bias", {})) {}

    std::size_t arity() const override { return 0; }  // three, and perhaps a mask
    bool one_by_one() const override { return true; }

    Shape check(const Check& check) override {
        check.require(taken.size() == 3 || taken.size() == 4,
                      "must read queries, keys and values, and a mask at most");
        const Shape &query = taken[0], &key = taken[1], &value = taken[2];
        for (const Shape& shape : {query, key, value})
            check.require(shape.image && shape.height == 1, "must read [features, 1, positions]");
        check.require(heads >= 1 && key_heads >= 1 && heads <= most_numbers &&
                          key_heads <= most_numbers && heads % key_heads == 0 &&
                          query.channels % heads == 0 && value.channels % key_heads == 0,
                      "heads must divide the features, and key_heads the heads");
        check.require(key.channels == query.channels / heads * key_heads,
                      "keys must have as many features a head as queries");
        check.require(key.width == value.width, "there must be as many values as keys");
        check.require(std::isfinite(scale), "scale must be a number");
        for (const Floats* array : {&kept, &bias}) {
            check.require(array->empty() || copies(*array) == 1 || copies(*array) == heads,
                          "kept and bias must have a number for each pair, of one head or all");
        }
        if (taken.size() == 4) {
            const Shape& mask = taken[3];
            check.require(mask.image && (mask.channels == 1 || mask.channels == heads) &&
                              (mask.height == 1 || mask.height == query.width) &&
                              mask.width == key.width,
                          "a mask must be [1 or heads, 1 or queries, keys]");
        }
        return {true, value.channels / key_heads * heads, 1, query.width};
    }

    std::unique_ptr<single::Step> make_single(const single::Site& site) const override;

    // For how many heads an array has numbers; 0 if it does not fit.
    std::int64_t copies(const Floats& array) const {
        const std::int64_t pairs = taken[0].width * taken[1].width;
        const auto size = static_cast<std::int64_t>(array.size());
        return size % pairs == 0 ? size / pairs : 0;
    }

    std::int64_t heads, key_heads;
    float scale;
    bool causal;
    Floats kept, bias;
};

class AttentionStep final : public single::Step {
  public:
    AttentionStep(const single::Site& site, const Attention& layer)
        : loops_(attention_loops(site.set)),
          query_(site.read(0)),
          key_(site.read(1)),
          value_(site.read(2)),
          output_(site.output()),
          heads_(layer.heads),
          shared_(layer.heads / layer.key_heads),
          vectors_(divided_up(query_.width, loops_.lanes)),
          // Of keys after all queries of a tile nothing is computed.
          tiles_(divided_up(vectors_, layer.causal ? 2 : loops_.longest)) {
        task_.query_plane = query_.plane;
        task_.key_plane = key_.plane;
        task_.value_plane = value_.plane;
        task_.output_plane = output_.plane;
        task_.width = query_.channels / heads_;
        task_.depth = output_.channels / heads_;
        task_.queries = query_.width;
        task_.keys = key_.width;
        task_.scale = layer.scale * binary_logarithm_of_e;
        task_.causal = layer.causal;
        masked_ = layer.taken.size() == 4;
        if (masked_) {
            mask_ = site.read(3);
            task_.mask_query = mask_.height > 1 ? mask_.pitch : 0;
        }
        if (layer.kept.empty() && layer.bias.empty()) return;
        task_.added_row = vectors_ * loops_.lanes;
        add(layer);
    }

    double nanoseconds() const override {
        return 0.02 * static_cast<double>(heads_ * task_.queries * task_.keys) *
               static_cast<double>(task_.width + task_.depth);
    }

    void run(const single::Worker& worker) const noexcept override {
        const Range part = worker.part(heads_ * tiles_);
        for (std::int64_t at = part.begin; at < part.end; ++at) {
            const std::int64_t head = at / tiles_, shared = head / shared_, tile = at % tiles_;
            AttentionTask task = task_;
            task.query = query_.view(worker.scratch).data + head * task.width * query_.plane;
            task.key = key_.view(worker.scratch).data + shared * task.width * key_.plane;
            task.value = value_.view(worker.scratch).data + shared * task.depth * value_.plane;
            task.output = output_.view(worker.scratch).data + head * task.depth * output_.plane;
            if (masked_)
                task.mask =
                    mask_.view(worker.scratch).data + (mask_.channels > 1 ? head * mask_.plane : 0);
            if (!added_.empty()) task.added = added_.data() + head % added_heads_ * added_size();
            const std::int64_t begin = vectors_ * tile / tiles_;
            loops_.attend(task, begin * loops_.lanes, vectors_ * (tile + 1) / tiles_ - begin);
        }
        if (!output_.padded()) return;
        worker.wait_for_all();
        const Range planes = worker.part(output_.channels);
        for (std::int64_t plane = planes.begin; plane < planes.end; ++plane)
            single::clear_edges(output_, worker.scratch, plane);
    }

  private:
    std::int64_t added_size() const { return task_.keys * task_.added_row; }

    // What is added to the scores, with the queries last; minus infinity where a pair is left out.
    void add(const Attention& layer) {
        const std::int64_t pairs = task_.queries * task_.keys;
        added_heads_ = std::max(layer.copies(layer.kept), layer.copies(layer.bias));
        added_.resize(static_cast<std::size_t>(added_heads_ * added_size()), 0.0f);
        const auto number = [&](const Floats& array, std::int64_t head, std::int64_t pair) {
            return array[static_cast<std::size_t>(head % layer.copies(array) * pairs + pair)];
        };
        for (std::int64_t at = 0; at < added_heads_ * pairs; ++at) {
            const std::int64_t head = at / pairs, pair = at % pairs;
            float& to = added_[static_cast<std::size_t>(
                head * added_size() + pair % task_.keys * task_.added_row + pair / task_.keys)];
            if (!layer.bias.empty()) to = in_powers_of_two(number(layer.bias, head, pair));
            if (!layer.kept.empty() && number(layer.kept, head, pair) == 0.0f)
                to = -std::numeric_limits<float>::infinity();
        }
    }

    const AttentionLoops& loops_;
    single::Layout query_, key_, value_, output_, mask_;
    bool masked_ = false;
    std::int64_t heads_;
    std::int64_t shared_;   // heads that read the same keys
    std::int64_t vectors_;  // of queries
    std::int64_t tiles_;
    AttentionTask task_{};
    std::vector<float> added_;
    std::int64_t added_heads_ = 1;
};

std::unique_ptr<single::Step> Attention::make_single(const single::Site& site) const {
    return std::make_unique<AttentionStep>(site, *this);
}

GOSSAMER_OPERATOR("attention", Attention)

}  // namespace
}  // namespace gossamer
#endif
