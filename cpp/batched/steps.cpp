#include "batched/steps.hpp"

#include <functional>
#include <vector>

namespace gossamer::batched {

namespace {

// A layer that is prepared for values wherever they lie.
class ViewStep final : public Step {
  public:
    ViewStep(const Context& context, const Layer& layer, int number)
        : prepared_(layer.prepare(context.set, true)), reads_(layer.reads), number_(number) {}

    void run(const Context& context, const Batch& batch, std::int64_t group) const override {
        timed(batch, number_, [&] {
            const View output = context.view(number_ + 1, batch, group);
            const Range all{0, prepared_.by_rows ? output.rows : output.channels};
            const auto read = [&](std::size_t which) {
                return context.view(reads_[which], batch, group);
            };
            // By reference, for which a std::function needs no memory: nothing here may throw.
            prepared_.run({std::cref(read), output, all, nullptr});
        });
    }

  private:
    Prepared prepared_;
    std::vector<int> reads_;
    int number_;  // of the layer
};

}  // namespace

}  // namespace gossamer::batched

namespace gossamer {

std::unique_ptr<batched::Step> Layer::make_batched(const batched::Context& context,
                                                   int number) const {
    return std::make_unique<batched::ViewStep>(context, *this, number);
}

}  // namespace gossamer
