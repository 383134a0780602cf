// Runs a plan for a tile of many examples at once, on the calling thread.

#include <algorithm>
#include <cstddef>
#include <utility>
#include <vector>

#include "batched/kernels.hpp"
#include "batched/layout.hpp"
#include "batched/rows.hpp"
#include "batched/steps.hpp"
#include "core/plan.hpp"

namespace gossamer {

namespace batched {

namespace {

Tile tile_for(const BatchedKernels& kernels) {
    // Features of 64 examples, or as many as a strip takes.
    return {kernels.width, std::min(strip_pixels, 64 / kernels.width)};
}

Context context_for(const Plan& plan, InstructionSet set) {
    const BatchedKernels& kernels = batched_kernels(set);
    const Caches found = caches();
    return {kernels, BatchedLayout(plan, tile_for(kernels), found), found};
}

// How many examples there are from the first one of a group on: of its image, or of all features.
std::int64_t examples_from(std::int64_t first, const Context& context, const Batch& batch,
                           bool images) {
    return images ? std::min<std::int64_t>(context.kernels.width, batch.count - first)
                  : batch.count;
}

// From the rows of the inputs to the lanes.
class TakeStep : public Step {
  public:
    TakeStep(const Plan& plan, bool images) : images_(images), size_(plan.input.size()) {}

    void run(const Context& context, const Batch& batch, std::int64_t group) const override {
        const auto take = images_ ? context.kernels.take_image : context.kernels.take_features;
        const std::int64_t first = group * context.kernels.width;
        take(batch.inputs + first * size_, examples_from(first, context, batch, images_),
             context.view(0, batch, group));
    }

  private:
    bool images_;
    std::int64_t size_;
};

// From the lanes to the rows of the outputs.
class GiveStep : public Step {
  public:
    GiveStep(const Plan& plan, bool images)
        : images_(images),
          output_(plan.output),
          size_(plan.shapes[static_cast<std::size_t>(plan.output)].size()) {}

    void run(const Context& context, const Batch& batch, std::int64_t group) const override {
        const auto give = images_ ? context.kernels.give_image : context.kernels.give_features;
        const std::int64_t first = group * context.kernels.width;
        give(context.view(output_, batch, group), batch.outputs + first * size_,
             examples_from(first, context, batch, images_));
    }

  private:
    bool images_;
    int output_;
    std::int64_t size_;
};

class BatchedExecutor : public Executor {
  public:
    BatchedExecutor(const Plan& plan, InstructionSet set) : context_(context_for(plan, set)) {
        for (const Segment& segment : context_.layout.segments()) {
            Round round{segment.images, {}};
            for (const Stage& stage : segment.stages) {
                auto step = step_for(plan, stage, segment.images);
                if (!step) continue;
                partial_ = std::max(partial_, step->partial_floats());
                round.steps.push_back(std::move(step));
            }
            rounds_.push_back(std::move(round));
        }
    }

    std::int64_t lanes() const override { return context_.layout.tile().lanes(); }
    std::int64_t granule() const override { return context_.kernels.width; }
    std::size_t scratch_floats() const override {
        return static_cast<std::size_t>(context_.layout.size() + partial_);
    }

    void run(const float* inputs, float* outputs, std::int64_t count, float* scratch, Team&,
             double* layer_seconds) const noexcept override {
        const std::int64_t width = context_.kernels.width;
        const std::int64_t groups = (count + width - 1) / width;
        const Batch batch{inputs,  outputs, count,
                          groups,  scratch, scratch + context_.layout.size(),
                          layer_seconds};
        for (const Round& round : rounds_) {
            for (std::int64_t group = 0; group < (round.images ? groups : 1); ++group) {
                for (const auto& step : round.steps) step->run(context_, batch, group);
            }
        }
    }

  private:
    // The steps of a segment.
    struct Round {
        bool images;
        std::vector<std::unique_ptr<Step>> steps;
    };

    std::unique_ptr<Step> step_for(const Plan& plan, const Stage& stage, bool images) const {
        if (stage.begin == 0) return std::make_unique<TakeStep>(plan, images);
        const auto number = static_cast<std::size_t>(stage.begin - 1);
        if (number == plan.layers.size()) return std::make_unique<GiveStep>(plan, images);
        if (stage.end - stage.begin > 1) {
            return std::make_unique<RowByRow>(context_, plan, stage);
        }
        return make_step(context_, plan.layers[number], static_cast<int>(number));
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
