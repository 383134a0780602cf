// The layers of a network for one sample, each prepared once and run often.
#pragma once

#include <cstdint>
#include <memory>

#include "core/plan.hpp"
#include "single/kernels.hpp"
#include "single/layout.hpp"

namespace gossamer {
class Team;
}

namespace gossamer::single {

struct Range {
    std::int64_t first;
    std::int64_t last;
};

// One of the threads that run a step together.
struct Worker {
    float* scratch;
    Team* team;
    int member;
    int members;

    // Its part of what all of them do, in equal parts.
    Range part(std::int64_t count) const {
        return {count * member / members, count * (member + 1) / members};
    }
    // Its part of entries that cost starts[n + 1] - starts[n] and a little each.
    Range part_by_cost(const std::vector<std::int64_t>& starts) const;
    void wait_for_all() const;
};

class Step {
  public:
    virtual ~Step() = default;
    virtual void run(const Worker& worker) const noexcept = 0;
    // About how long it takes one thread of 8 lanes; little work is not worth a second thread.
    virtual double nanoseconds() const = 0;
    // Floats of scratch beside the values, in the region that all steps share.
    virtual std::int64_t room() const { return 0; }
};

// What steps are made from.
struct Site {
    const Plan& plan;
    const Layouts& layouts;
    const Kernels& kernels;
    std::int64_t shared;  // place of the region that all steps share
    std::size_t number;   // of the layer

    const Layer& layer() const { return plan.layers[number]; }
    const Layout& input(std::size_t which = 0) const {
        return layouts.values[layer().inputs[which]];
    }
    const Layout& output() const { return layouts.values[number + 1]; }
    const Layout* residual() const {
        const int value = layer().epilogue.residual;
        return value < 0 ? nullptr : &layouts.values[value];
    }
};

std::unique_ptr<Step> make_convolution(const Site& site);
std::unique_ptr<Step> make_linear(const Site& site);
std::unique_ptr<Step> make_pool(const Site& site);
std::unique_ptr<Step> make_pointwise(const Site& site);
std::unique_ptr<Step> make_concatenate(const Site& site);
std::unique_ptr<Step> make_softmax(const Site& site);

// A pooling of planes of `height` x `width` pixels into the layout `output`.
PoolTask pool_task(const Pooling& pooling, const Shape& shape, std::int64_t pitch,
                   const Layout& output);

// Copy an image row by row.
void copy_plane(const float* from, std::int64_t from_pitch, float* to, std::int64_t to_pitch,
                std::int64_t height, std::int64_t width);

}  // namespace gossamer::single
