// The layers of a network for many examples side by side, each prepared once and run often.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "batched/kernels.hpp"
#include "batched/layout.hpp"
#include "core/caches.hpp"
#include "core/plan.hpp"

namespace gossamer::batched {

// The examples at hand.
struct Batch {
    const float* inputs;
    float* outputs;
    std::int64_t count;
    std::int64_t groups;    // that hold an example
    float* scratch;
    float* partial;         // scratch of the step that runs
    double* layer_seconds;  // or null
};

// What all steps know.
struct Context {
    const BatchedKernels& kernels;
    BatchedLayout layout;
    Caches caches;

    // All that is computed of a value at once: an image of one group, or the features of all.
    View view(const Place& place, const Batch& batch, std::int64_t group) const {
        return place.shape.image ? layout.of_group(place, batch.scratch, group)
                                 : layout.of_groups(place, batch.scratch, batch.groups);
    }
    View view(int value, const Batch& batch, std::int64_t group) const {
        return view(layout.place(value), batch, group);
    }
};

// What is done at once. In a segment of images `group` is the one at hand, elsewhere it is 0.
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

// One layer.
class LayerStep : public Step {
  public:
    explicit LayerStep(int number) : number_(number), output_(number + 1) {}

    void run(const Context& context, const Batch& batch, std::int64_t group) const final {
        timed(batch, number_, [&] { compute(context, batch, group); });
    }

  protected:
    virtual void compute(const Context& context, const Batch& batch, std::int64_t group) const = 0;

    int number_;
    int output_;  // the value
};

Finish finish_of(const Epilogue& epilogue);
Window window_of(const Pooling& pooling);

// None for a layer that only gives another shape to what it reads.
std::unique_ptr<Step> make_step(const Context& context, const Layer& layer, int number);

}  // namespace gossamer::batched
