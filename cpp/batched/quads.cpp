#include "batched/quads.hpp"

#include <algorithm>
#include <vector>

#include "single/quad_matrix.hpp"

namespace gossamer::batched {
namespace {

class QuadStep final : public Step {
  public:
    QuadStep(const Context& context, const Product& layer, int number)
        : loops_(single::quad_loops(context.set)),
          form_(layer),
          reads_(layer.reads),
          number_(number),
          matrix_(layer.weights, context.layout.place(reads_[0]).channel,
                  panels(context, layer.weights)) {}

    void run(const Context& context, const Batch& batch, std::int64_t group) const override {
        timed(batch, number_, [&] {
            const View input = context.view(reads_[0], batch, group);
            const View output = context.view(number_ + 1, batch, group);
            single::QuadTask task{};
            task.input = input.data;
            task.output = output.data;
            task.output_plane = output.channel;
            task.bias = form_.bias.empty() ? nullptr : form_.bias.data();
            if (form_.epilogue.residual >= 0) {
                const View residual = context.view(reads_[1], batch, group);
                task.residual = residual.data;
                task.residual_plane = residual.channel;
            }
            task.finish = form_.epilogue.finish();
            for (std::int64_t first = 0; first < output.pixels; first += loops_.longest)
                matrix_.multiply(loops_, task, {0, matrix_.bunches()}, first * context.width(),
                                 std::min<std::int64_t>(loops_.longest, output.pixels - first));
        });
    }

  private:
    // As many as make the inputs of all groups fit into most of the first cache.
    static std::int64_t panels(const Context& context, const Weights& weights) {
        const std::int64_t bytes = 4 * weights.columns * context.layout.tile().lanes();
        return divided_up(bytes, context.caches.first * 5 / 6);
    }

    const single::QuadLoops& loops_;
    ProductForm form_;
    std::vector<int> reads_;
    int number_;
    single::QuadMatrix matrix_;
};

}  // namespace

std::unique_ptr<Step> quad_step(const Context& context, const Product& layer, int number) {
    // Vectors of 8 are few enough in a group for other loops to take all of them at once.
    const bool takes = context.width() == 16 && single::quad_loops(context.set).longest > 0 &&
                       layer.weights.kind == WeightsKind::sparse && !layer.slides() &&
                       single::QuadMatrix::can_hold(layer.weights);
    return takes ? std::make_unique<QuadStep>(context, layer, number) : nullptr;
}

}  // namespace gossamer::batched
