#include "decoding/kept_attention.hpp"

#include <algorithm>
#include <stdexcept>
#include <utility>

#include "core/plan.hpp"

namespace gossamer {

namespace {

constexpr std::int64_t longest_vector = 16;

std::size_t product(std::initializer_list<std::int64_t> sizes) {
    std::int64_t found = 1;
    for (const std::int64_t size : sizes) {
        if (size < 1 || size > most_weights / found)
            throw std::invalid_argument("keys and values must be 1 to 2^31 - 1 numbers");
        found *= size;
    }
    return static_cast<std::size_t>(found);
}

}  // namespace

KeptAttention::KeptAttention(const Form& form, std::vector<float> added, InstructionSet set)
    : form_(form), loop_(kept_loop(set)), added_(std::move(added)) {
    if (form.heads < 1 || form.key_heads < 1 || form.heads % form.key_heads != 0)
        throw std::invalid_argument("key_heads must divide the heads");
    const std::size_t pairs = product({form.most, form.most});
    if (!added_.empty() && added_.size() != pairs &&
        added_.size() != pairs * static_cast<std::size_t>(form.heads))
        throw std::invalid_argument("added must be [1 or heads, most, most]");
    const std::size_t keys = product({form.sequences, form.key_heads, form.most, form.width});
    const std::size_t values = product({form.sequences, form.key_heads, form.most, form.depth});
    numbers_ = keys + values;
    keys_ = zeros(keys);
    values_ = zeros(values);
    scores_.resize(static_cast<std::size_t>(form.most + longest_vector));
}

std::int64_t KeptAttention::bytes() const {
    return static_cast<std::int64_t>(sizeof(float) * numbers_);
}

void KeptAttention::attend(const std::int64_t* places, const float* query, const float* key,
                           const float* value, float* output) {
    const auto& [sequences, most, heads, key_heads, width, depth, scale] = form_;
    const std::int64_t shared = heads / key_heads;  // heads that read the same keys
    const std::int64_t pairs = most * most;
    const std::int64_t copies = static_cast<std::int64_t>(added_.size()) / pairs;
    for (std::int64_t at = 0; at < sequences * key_heads; ++at) {
        const std::int64_t place = places[at / key_heads];
        if (place < 0) {
            std::fill_n(output + at * shared * depth, shared * depth, 0.0f);
            continue;
        }
        float* const keys = keys_.get() + at * most * width;
        float* const values = values_.get() + at * most * depth;
        std::copy_n(key + at * width, width, keys + place * width);
        std::copy_n(value + at * depth, depth, values + place * depth);
        for (std::int64_t head = at * shared; head < (at + 1) * shared; ++head) {
            const float* const added =
                copies == 0 ? nullptr
                            : added_.data() + head % heads % copies * pairs + place * most;
            loop_({query + head * width, keys, values, output + head * depth, width, depth,
                   place + 1, scale, added, scores_.data()});
        }
    }
}

}  // namespace gossamer
