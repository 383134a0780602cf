// The layers of a network for many examples side by side, each prepared once and run often.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "batched/layout.hpp"
#include "core/caches.hpp"
#include "ops/layer.hpp"

namespace gossamer::batched {

// The examples at hand.
struct Batch {
    const float* const* inputs;
    float* const* outputs;
    std::int64_t first;
    std::int64_t count;
    std::int64_t groups;  // that hold an example
    float* scratch;
    float* partial;         // scratch of the step that runs
    double* layer_seconds;  // or null
};

// In the place of a group: features of all of them.
constexpr std::int64_t all_groups = -1;

// What all steps know.
struct Context {
    InstructionSet set;
    BatchedLayout layout;
    Caches caches;

    std::int64_t width() const { return layout.tile().width; }
    View view(const Place& place, const Batch& batch, std::int64_t group) const {
        return group == all_groups ? layout.of_groups(place, batch.scratch, batch.groups)
                                   : layout.of_group(place, batch.scratch, group);
    }
    View view(int value, const Batch& batch, std::int64_t group) const {
        return view(layout.place(value), batch, group);
    }
};

// What is done at once: for the group at hand in a segment of images, elsewhere for all of them.
class Step {
  public:
    virtual ~Step() = default;
    virtual void run(const Context& context, const Batch& batch, std::int64_t group) const = 0;
    // Floats of `partial` that it needs.
    virtual std::int64_t partial_floats() const { return 0; }
};

// Do the work of a layer, and add to its time where that is asked for.
template <typename Work>
void timed(const Batch& batch, int layer, const Work& work) {
    if (!batch.layer_seconds) return work();
    const auto begin = std::chrono::steady_clock::now();
    work();
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
    batch.layer_seconds[layer] += took.count();
}

}  // namespace gossamer::batched
