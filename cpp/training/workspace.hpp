// How layers in training share their work among threads, and the memory that each works in.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <new>
#include <utility>

#include "core/plain.hpp"
#include "core/scratch.hpp"
#include "training/loops.hpp"

namespace gossamer::training {

// What a thread must have to do, in multiply-adds of vectors, for waking it to be worth it.
constexpr std::int64_t worth_a_thread = 20000;

// How long the others are waited for when a layer begins.
constexpr std::chrono::microseconds patience{20};

inline int members_for(std::int64_t work, int threads) {
    return static_cast<int>(std::clamp<std::int64_t>(work / worth_a_thread, 1, threads));
}

// Working memory of a thread, kept from one call to the next unless it is large, where the page
// faults of fresh memory count for little.
class Workspace {
  public:
    explicit Workspace(std::int64_t floats) {
        static thread_local Scratch kept;
        static thread_local std::int64_t size = 0;
        if (floats <= size) {
            data_ = kept.get();
            return;
        }
        Scratch fresh(
            static_cast<float*>(new_memory(static_cast<std::size_t>(floats) * sizeof(float))));
        data_ = fresh.get();
        if (floats <= most_kept) {
            kept = std::move(fresh);
            size = floats;
        } else {
            own_ = std::move(fresh);
        }
    }

    // Some of it, from a cache line on.
    float* take(std::int64_t floats) {
        float* const from = data_;
        data_ += rounded(floats);
        return from;
    }

    static std::int64_t rounded(std::int64_t floats) { return (floats + 15) / 16 * 16; }

  private:
    static constexpr std::int64_t most_kept = 1 << 22;

    float* data_;
    Scratch own_;
};

// How examples are cut into tiles.
class Tiles {
  public:
    Tiles(std::int64_t examples, int width)
        : examples_(examples),
          width_(width),
          vectors_((examples + width - 1) / width),
          count_((vectors_ + tile_vectors - 1) / tile_vectors) {}

    std::int64_t count() const { return count_; }
    std::int64_t vectors() const { return vectors_; }
    Range vectors_of(std::int64_t tile) const {
        return {vectors_ * tile / count_, vectors_ * (tile + 1) / count_};
    }
    Range examples_of(std::int64_t tile) const {
        const Range vectors = vectors_of(tile);
        return {vectors.begin * width_, std::min(vectors.end * width_, examples_)};
    }
    std::int64_t most_lanes() const { return (vectors_ + count_ - 1) / count_ * width_; }
    bool whole() const { return examples_ % width_ == 0; }

  private:
    std::int64_t examples_;
    int width_;
    std::int64_t vectors_;
    std::int64_t count_;
};

}  // namespace gossamer::training
