// The layers of a network for one sample, each prepared once and run often.
#pragma once

#include <cstdint>
#include <memory>

#include "core/plan.hpp"
#include "single/layout.hpp"

namespace gossamer {
class Team;
}

namespace gossamer::single {

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
    // The same, with numbers that follow each other as its output, where `gives` says that it can.
    virtual void run_to(const Worker&, float*) const noexcept {}
    virtual bool gives() const { return false; }
    // About how long it takes one thread of 8 lanes; little work is not worth a second thread.
    virtual double nanoseconds() const = 0;
    // Floats of scratch beside the values, in the region that all steps share.
    virtual std::int64_t room() const { return 0; }
};

// What steps are made from.
struct Site {
    const Plan& plan;
    const Layouts& layouts;
    InstructionSet set;
    std::int64_t shared;  // place of the region that all steps share
    std::size_t number;   // of the layer

    const Layout& read(std::size_t which) const {
        return layouts.values[plan.layers[number]->reads[which]];
    }
    const Layout& output() const { return layouts.values[number + 1]; }
};

// With zeros behind, for vectors that read on.
std::vector<float> with_slack(std::vector<float> numbers);

// Copy an image row by row.
void copy_plane(const float* from, std::int64_t from_pitch, float* to, std::int64_t to_pitch,
                std::int64_t height, std::int64_t width);

}  // namespace gossamer::single
