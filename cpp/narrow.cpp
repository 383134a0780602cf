// One sample through a network, each layer split over the threads.
#include <algorithm>
#include <chrono>
#include <limits>
#include <stdexcept>
#include <vector>

#include "narrow_kernels.hpp"
#include "narrow_layout.hpp"
#include "narrow_steps.hpp"
#include "plan.hpp"
#include "threads.hpp"

namespace gossamer {
namespace narrow {
namespace {

using Clock = std::chrono::steady_clock;

// Below this many multiplications threads cost more to bring together than they save.
constexpr std::int64_t shared_work = 20000;

const Kernels& kernels_of(InstructionSet set) {
#ifdef GOSSAMER_X86
    if (set == InstructionSet::avx512) return kernels_avx512();
    if (set == InstructionSet::avx2) return kernels_avx2();
#endif
    static_cast<void>(set);
    return kernels_baseline();
}

std::unique_ptr<Step> make_step(const Site& site) {
    switch (site.layer().kind) {
        case LayerKind::linear: return make_linear(site);
        case LayerKind::convolution: return make_convolution(site);
        case LayerKind::pool: return make_pool(site);
        case LayerKind::pointwise: return make_pointwise(site);
        case LayerKind::concatenate: return make_concatenate(site);
        case LayerKind::softmax: return make_softmax(site);
        case LayerKind::reshape: break;
    }
    return nullptr;
}

class NarrowExecutor final : public Executor {
  public:
    NarrowExecutor(const Plan& plan, const Kernels& kernels);
    std::int64_t lanes() const override { return 1; }
    std::size_t scratch_floats() const override { return static_cast<std::size_t>(floats_); }
    void run(const float* inputs, float* outputs, std::int64_t count, float* scratch, Team& team,
             double* layer_seconds) const noexcept override;

  private:
    void run_member(const Worker& worker, const float* input, float* output,
                    double* layer_seconds) const;
    void take(const Worker& worker, const float* input) const;
    void give(const Worker& worker, float* output) const;

    Layouts layouts_;
    std::vector<std::unique_ptr<Step>> steps_;  // null where nothing is to be done
    std::vector<bool> shared_;
    int output_;
    std::int64_t floats_ = 0;
};

NarrowExecutor::NarrowExecutor(const Plan& plan, const Kernels& kernels)
    : layouts_(layouts_of(plan, kernels.lanes)), output_(plan.output) {
    // Distances within a value are kept in 32 bits.
    if (layouts_.floats > std::numeric_limits<std::int32_t>::max())
        throw std::invalid_argument("the values of one example take more than 8 GiB");
    std::int64_t room = 0;
    for (std::size_t number = 0; number < plan.layers.size(); ++number) {
        const Site site{plan, layouts_, kernels, layouts_.floats, number};
        steps_.push_back(make_step(site));
        shared_.push_back(steps_.back() && steps_.back()->work() >= shared_work);
        if (steps_.back()) room = std::max(room, steps_.back()->room());
    }
    floats_ = layouts_.floats + room + slack;
}

// The input into its place, and zeros behind every value of features.
void NarrowExecutor::take(const Worker& worker, const float* input) const {
    const Layout& layout = layouts_.values[0];
    const std::int64_t size = layout.height * layout.width;
    for (const Layout& value : layouts_.values)
        if (value.contiguous())
            std::fill_n(worker.scratch + value.place + value.floats(), slack, 0.0f);
    if (layout.contiguous()) {
        std::copy_n(input, layout.floats(), worker.scratch + layout.place);
        return;
    }
    for (std::int64_t channel = 0; channel < layout.channels; ++channel) {
        clear_around(layout, worker.scratch, channel);
        copy_plane(input + channel * size, layout.width,
                   worker.scratch + layout.place + channel * layout.plane + layout.origin,
                   layout.pitch, layout.height, layout.width);
    }
}

void NarrowExecutor::give(const Worker& worker, float* output) const {
    const Layout& layout = layouts_.values[output_];
    const std::int64_t size = layout.height * layout.width;
    for (std::int64_t channel = 0; channel < layout.channels; ++channel)
        copy_plane(worker.scratch + layout.place + channel * layout.plane + layout.origin,
                   layout.pitch, output + channel * size, layout.width, layout.height,
                   layout.width);
}

void NarrowExecutor::run_member(const Worker& worker, const float* input, float* output,
                                double* layer_seconds) const {
    if (worker.member == 0) take(worker, input);
    worker.wait_for_all();
    Clock::time_point last = Clock::now();
    for (std::size_t number = 0; number < steps_.size(); ++number) {
        if (steps_[number]) {
            if (shared_[number])
                steps_[number]->run(worker);
            else if (worker.member == 0)
                steps_[number]->run({worker.scratch, worker.team, 0, 1});
            worker.wait_for_all();
        }
        if (layer_seconds == nullptr || worker.member != 0) continue;
        const Clock::time_point now = Clock::now();
        layer_seconds[number] += std::chrono::duration<double>(now - last).count();
        last = now;
    }
    if (worker.member == 0) give(worker, output);
}

void NarrowExecutor::run(const float* inputs, float* outputs, std::int64_t, float* scratch,
                         Team& team, double* layer_seconds) const noexcept {
    team.run([&](int member) {
        run_member({scratch, &team, member, team.size()}, inputs, outputs, layer_seconds);
    });
}

}  // namespace
}  // namespace narrow

std::unique_ptr<Executor> make_narrow_executor(const Plan& plan, InstructionSet set) {
    return std::make_unique<narrow::NarrowExecutor>(plan, narrow::kernels_of(set));
}

}  // namespace gossamer
