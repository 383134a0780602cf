// Attention of one token at a time over keys and values that are kept.
#pragma once

#include <cstdint>
#include <vector>

#include "core/plain.hpp"
#include "core/scratch.hpp"
#include "simd/dispatch.hpp"

namespace gossamer {

// One query. Keys and values are rows of numbers, one for each token.
struct KeptTask {
    const float* query;   // [width]
    const float* keys;    // [count, width]
    const float* values;  // [count, depth]
    float* output;        // [depth]
    std::int64_t width, depth, count;
    float scale;
    const float* added;  // to the scores, [count], or null
    float* scores;       // room for `count` and a vector
};

using KeptLoop = void (*)(const KeptTask&);

GOSSAMER_DECLARE(KeptLoop, kept_loop)

// The keys and values of one attention, for so many sequences and tokens.
class KeptAttention {
  public:
    struct Form {
        std::int64_t sequences, most, heads, key_heads, width, depth;
        float scale;
    };

    // `added` is empty, or [1 or heads, most, most].
    KeptAttention(const Form& form, std::vector<float> added, InstructionSet set);

    // Numbers of each sequence.
    std::int64_t queries() const { return form_.heads * form_.width; }
    std::int64_t keys() const { return form_.key_heads * form_.width; }
    std::int64_t values() const { return form_.key_heads * form_.depth; }
    std::int64_t outputs() const { return form_.heads * form_.depth; }
    const Form& form() const { return form_; }
    std::int64_t bytes() const;

    // What the queries of a token of each sequence come to, whose key and value are kept at the
    // place of that sequence; zeros, and nothing is kept, where the place is below 0.
    void attend(const std::int64_t* places, const float* query, const float* key,
                const float* value, float* output);

  private:
    Form form_;
    KeptLoop loop_;
    std::vector<float> added_;
    std::size_t numbers_;  // of keys and values
    Scratch keys_;         // [sequences, key_heads, most, width]
    Scratch values_;       // [sequences, key_heads, most, depth]
    std::vector<float> scores_;
};

}  // namespace gossamer
