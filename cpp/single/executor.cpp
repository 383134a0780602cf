// One sample through a network, each layer split over the threads.
#include <algorithm>
#include <chrono>
#include <functional>
#include <vector>

#include "core/plan.hpp"
#include "core/threads.hpp"
#include "single/layout.hpp"
#include "single/steps.hpp"

namespace gossamer {
namespace single {
namespace {

using Clock = std::chrono::steady_clock;

// A step of fewer nanoseconds is not worth bringing threads together for, which takes about one
// microsecond; and a network whose shared steps take less is not worth calling a thread for.
constexpr double shared_nanoseconds = 4000.0;
constexpr double called_nanoseconds = 40000.0;

// Of an image that is collected from its tiles.
std::int64_t pitch_of(const Grid& grid) { return grid.across * grid.width + behind_row; }

class SingleExecutor final : public Executor {
  public:
    SingleExecutor(const Plan& plan, InstructionSet set);
    std::int64_t lanes() const override { return 1; }
    std::size_t scratch_floats() const override { return static_cast<std::size_t>(floats_); }
    void run(const Examples& examples, float* scratch, Team& team,
             double* layer_seconds) const noexcept override;

  private:
    void run_member(const Worker& worker, const Examples& example, double* layer_seconds) const;
    void take(const Worker& worker, const float* from, std::size_t value) const;
    void clear_behind(std::size_t value, float* scratch) const;
    void give(const Worker& worker, std::size_t value, float* to) const;
    // Of one example.
    std::int64_t numbers(std::size_t value) const {
        const Layout& layout = layouts_.values[value];
        return layout.channels * layout.height * layout.width;
    }

    const GridLoops& grid_;
    Layouts layouts_;
    std::vector<std::unique_ptr<Step>> steps_;  // null where nothing is to be done
    std::vector<bool> shared_;                  // over all members
    double shared_nanoseconds_ = 0.0;
    std::size_t inputs_;  // as many values
    std::vector<int> outputs_;
    std::vector<int> given_;  // by step: the output that it writes where the caller wants it, or -1
    std::int64_t floats_ = 0;
};

SingleExecutor::SingleExecutor(const Plan& plan, InstructionSet set)
    : grid_(grid_loops(set)),
      layouts_(layouts_of(plan, set)),
      inputs_(plan.inputs),
      outputs_(plan.outputs) {
    std::int64_t room = 0;
    for (std::size_t number = 0; number < plan.layers.size(); ++number) {
        const Layer& layer = *plan.layers[number];
        const Site site{plan, layouts_, set, layouts_.floats, number};
        const bool nothing = layer.renames() || layer.enters();
        steps_.push_back(nothing ? nullptr : layer.make_single(site));
        const double nanoseconds = steps_.back() ? steps_.back()->nanoseconds() : 0.0;
        shared_.push_back(nanoseconds >= shared_nanoseconds);
        if (shared_.back()) shared_nanoseconds_ += nanoseconds;
        if (steps_.back()) room = std::max(room, steps_.back()->room());
    }
    for (const int output : outputs_) {
        const Grid& grid = layouts_.values[static_cast<std::size_t>(output)].grid;
        room = std::max(room, grid.down * grid.height * pitch_of(grid));
    }
    floats_ = layouts_.floats + room + slack;
    given_.assign(steps_.size(), -1);
    for (std::size_t which = 0; which < outputs_.size(); ++which) {
        const int value = outputs_[which];
        const bool read =
            std::any_of(plan.layers.begin(), plan.layers.end(), [&](const auto& layer) {
                return std::count(layer->reads.begin(), layer->reads.end(), value) > 0;
            });
        if (value == 0 || read || std::count(outputs_.begin(), outputs_.end(), value) > 1) continue;
        const auto number = static_cast<std::size_t>(value - 1);
        if (steps_[number] && steps_[number]->gives()) given_[number] = static_cast<int>(which);
    }
}

// Zeros behind a value of features, which the kernels count on. Whatever had its place before may
// have left others there.
void SingleExecutor::clear_behind(std::size_t value, float* scratch) const {
    const Layout& layout = layouts_.values[value];
    if (layout.contiguous()) std::fill_n(scratch + layout.place + layout.floats(), slack, 0.0f);
}

// An input into its place.
void SingleExecutor::take(const Worker& worker, const float* from, std::size_t value) const {
    const Layout& layout = layouts_.values[value];
    const std::int64_t size = layout.height * layout.width;
    clear_behind(value, worker.scratch);
    if (layout.contiguous()) {
        std::copy_n(from, layout.floats(), worker.scratch + layout.place);
        return;
    }
    for (std::int64_t channel = 0; channel < layout.channels; ++channel) {
        clear_around(layout, worker.scratch, channel);
        copy_plane(from + channel * size, layout.width,
                   worker.scratch + layout.place + channel * layout.plane + layout.origin,
                   layout.pitch, layout.height, layout.width);
    }
}

void SingleExecutor::give(const Worker& worker, std::size_t value, float* to) const {
    const Layout& layout = layouts_.values[value];
    const std::int64_t size = layout.height * layout.width;
    for (std::int64_t channel = 0; channel < layout.channels; ++channel) {
        const float* from = worker.scratch + layout.place + channel * layout.plane + layout.origin;
        std::int64_t pitch = layout.pitch;
        if (layout.grid.there()) {
            float* const image = worker.scratch + layouts_.floats;
            pitch = pitch_of(layout.grid);
            grid_.collect(from, layout.grid, image, pitch);
            from = image;
        }
        copy_plane(from, pitch, to + channel * size, layout.width, layout.height, layout.width);
    }
}

void SingleExecutor::run_member(const Worker& worker, const Examples& example,
                                double* layer_seconds) const {
    for (std::size_t value = 0; value < inputs_ && worker.member == 0; ++value)
        take(worker, example.inputs[value] + example.first * numbers(value), value);
    bool together = false;  // whether all members know what has been computed so far
    Clock::time_point last = Clock::now();
    const auto run = [&](std::size_t number, const Worker& by) {
        if (given_[number] < 0) return steps_[number]->run(by);
        const auto which = static_cast<std::size_t>(given_[number]);
        steps_[number]->run_to(by, example.outputs[which] + example.first * numbers(number + 1));
    };
    for (std::size_t number = 0; number < steps_.size(); ++number) {
        if (shared_[number]) {
            if (!together) worker.wait_for_all();
            if (worker.member == 0) clear_behind(number + 1, worker.scratch);
            run(number, worker);
            worker.wait_for_all();
            together = true;
        } else if (steps_[number]) {
            if (worker.member == 0) {
                clear_behind(number + 1, worker.scratch);
                run(number, {worker.scratch, worker.team, 0, 1});
            }
            together = false;
        }
        if (layer_seconds == nullptr || worker.member != 0) continue;
        const Clock::time_point now = Clock::now();
        layer_seconds[number] += std::chrono::duration<double>(now - last).count();
        last = now;
    }
    for (std::size_t which = 0; which < outputs_.size() && worker.member == 0; ++which) {
        const auto value = static_cast<std::size_t>(outputs_[which]);
        if (value > 0 && given_[value - 1] >= 0) continue;
        give(worker, value, example.outputs[which] + example.first * numbers(value));
    }
}

void SingleExecutor::run(const Examples& example, float* scratch, Team& team,
                         double* layer_seconds) const noexcept {
    if (shared_nanoseconds_ < called_nanoseconds)
        return run_member({scratch, &team, 0, 1}, example, layer_seconds);
    // Members that sleep take some 50 microseconds to come: longer than this is better used.
    const auto nanoseconds = static_cast<std::int64_t>(shared_nanoseconds_);
    const std::chrono::microseconds patience(nanoseconds / 8000);
    const auto work = [&](int member) {
        const int members = team.gather(member, patience);
        run_member({scratch, &team, member, members}, example, layer_seconds);
    };
    // By reference, for which a std::function needs no memory: nothing here may throw.
    team.run(std::cref(work));
}

}  // namespace
}  // namespace single

std::unique_ptr<Executor> make_single_executor(const Plan& plan, InstructionSet set) {
    return std::make_unique<single::SingleExecutor>(plan, set);
}

}  // namespace gossamer
