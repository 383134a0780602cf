// Runs a plan for a tile of many examples at once, on the calling thread.

#include <algorithm>
#include <cstddef>
#include <utility>
#include <vector>

#include "batched/layout.hpp"
#include "batched/rows.hpp"
#include "batched/steps.hpp"
#include "batched/strips.hpp"
#include "batched/transfers.hpp"

namespace gossamer {

namespace batched {

namespace {

Context context_for(const Plan& plan, InstructionSet set) {
    const std::int64_t width = scattered_loops(set).width;
    // Features of 64 examples, or as many as a strip takes.
    const Tile tile{width, std::min<std::int64_t>(strip_pixels, 64 / width)};
    const Caches found = caches();
    return {set, BatchedLayout(plan, tile, found), found};
}

// From the rows of the inputs to the lanes, or from there to the rows of the outputs: of all
// features, or of the images of one group.
class TransferStep : public Step {
  public:
    TransferStep(const Plan& plan, InstructionSet set, bool takes, std::size_t which)
        : loops_(transfer_loops(set)),
          takes_(takes),
          which_(which),
          value_(takes ? static_cast<int>(which) : plan.outputs[which]),
          size_(plan.shapes[static_cast<std::size_t>(value_)].size()) {}

    void run(const Context& context, const Batch& batch, std::int64_t group) const override {
        const bool images = group != all_groups;
        const std::int64_t first = images ? group * context.width() : 0;
        const std::int64_t count =
            images ? std::min(context.width(), batch.count - first) : batch.count;
        const View value = context.view(value_, batch, group);
        if (takes_) {
            const auto take = images ? loops_.take_image : loops_.take_features;
            take(batch.inputs[which_] + (batch.first + first) * size_, count, value);
        } else {
            const auto give = images ? loops_.give_image : loops_.give_features;
            give(value, batch.outputs[which_] + (batch.first + first) * size_, count);
        }
    }

  private:
    const TransferLoops& loops_;
    bool takes_;
    std::size_t which_;  // of the inputs, or of the outputs
    int value_;
    std::int64_t size_;
};

bool is_read(const Plan& plan, int value) {
    const auto is = [&](const std::vector<int>& values) {
        return std::count(values.begin(), values.end(), value) > 0;
    };
    return is(plan.outputs) || std::any_of(plan.layers.begin(), plan.layers.end(),
                                           [&](const auto& layer) { return is(layer->reads); });
}

class BatchedExecutor : public Executor {
  public:
    BatchedExecutor(const Plan& plan, InstructionSet set) : context_(context_for(plan, set)) {
        for (const Segment& segment : context_.layout.segments()) {
            Round round{segment.images, {}};
            for (const Stage& stage : segment.stages) {
                auto step = step_for(plan, stage);
                if (!step) continue;
                partial_ = std::max(partial_, step->partial_floats());
                round.steps.push_back(std::move(step));
            }
            rounds_.push_back(std::move(round));
        }
    }

    std::int64_t lanes() const override { return context_.layout.tile().lanes(); }
    std::int64_t granule() const override { return context_.width(); }
    std::size_t scratch_floats() const override {
        return static_cast<std::size_t>(context_.layout.size() + partial_);
    }

    void run(const Examples& examples, float* scratch, Team&,
             double* layer_seconds) const noexcept override {
        const std::int64_t width = context_.width();
        const std::int64_t groups = (examples.count + width - 1) / width;
        const Batch batch{examples.inputs,
                          examples.outputs,
                          examples.first,
                          examples.count,
                          groups,
                          scratch,
                          scratch + context_.layout.size(),
                          layer_seconds};
        for (const Round& round : rounds_) {
            const std::int64_t first = round.images ? 0 : all_groups;
            for (std::int64_t group = first; group < (round.images ? groups : 0); ++group)
                for (const auto& step : round.steps) step->run(context_, batch, group);
        }
    }

  private:
    // The steps of a segment.
    struct Round {
        bool images;
        std::vector<std::unique_ptr<Step>> steps;
    };

    // None for a layer that gives what it reads as it lies.
    std::unique_ptr<Step> step_for(const Plan& plan, const Stage& stage) const {
        const auto position = static_cast<std::size_t>(stage.begin);
        if (position < plan.inputs) {
            if (!is_read(plan, static_cast<int>(position))) return nullptr;
            return std::make_unique<TransferStep>(plan, context_.set, true, position);
        }
        if (position > plan.layers.size()) {
            return std::make_unique<TransferStep>(plan, context_.set, false,
                                                  position - plan.layers.size() - 1);
        }
        const auto number = static_cast<int>(stage.begin - 1);
        if (stage.end - stage.begin > 1) return std::make_unique<RowByRow>(context_, plan, stage);
        if (context_.layout.is_alias(number)) return nullptr;
        return plan.layers[static_cast<std::size_t>(number)]->make_batched(context_, number);
    }

    Context context_;
    std::vector<Round> rounds_;
    std::int64_t partial_ = 0;
};

}  // namespace

}  // namespace batched

std::unique_ptr<Executor> make_batched_executor(const Plan& plan, InstructionSet set) {
    return std::make_unique<batched::BatchedExecutor>(plan, set);
}

}  // namespace gossamer
