// Weights times all features, and what follows these sums.
#include <algorithm>
#include <utility>
#include <vector>

#include "ops/loops.hpp"
#include "ops/product.hpp"
#include "single/matrix_vector.hpp"
#include "single/steps.hpp"

namespace gossamer {
namespace single {
namespace {

class LinearStep final : public Step {
  public:
    LinearStep(const Site& site, const Product& layer)
        : product_(layer.weights, site.set),
          finish_(pointwise_loops(site.set).features),
          input_(site.read(0).place),
          output_(site.output().place),
          residual_(layer.epilogue.residual < 0 ? -1 : site.read(1).place),
          rows_(layer.weights.rows),
          bias_(with_slack(layer.bias)),
          epilogue_(layer.epilogue) {
        epilogue_.scale = with_slack(std::move(epilogue_.scale));
        epilogue_.shift = with_slack(std::move(epilogue_.shift));
    }

    double nanoseconds() const override { return product_.nanoseconds(); }

    void run(const Worker& worker) const noexcept override {
        product_.multiply(worker, worker.scratch + input_, worker.scratch + output_);
        worker.wait_for_all();
        if (worker.member == 0) finish(worker.scratch);
    }

  private:
    void finish(float* scratch) const;

    MatrixVector product_;
    decltype(PointwiseLoops::features) finish_;
    std::int64_t input_;
    std::int64_t output_;
    std::int64_t residual_;
    std::int64_t rows_;
    std::vector<float> bias_;
    Epilogue epilogue_;
};

// Few numbers in comparison: one thread turns them all, in whole vectors.
void LinearStep::finish(float* scratch) const {
    float* const values = scratch + output_;
    finish_(epilogue_.finish(), values, bias_.empty() ? nullptr : bias_.data(),
            residual_ < 0 ? nullptr : scratch + residual_, values, rows_);
    // The kernels count on zeros behind a vector, where the last block of rows may have written.
    std::fill_n(values + rows_, slack / 2, 0.0f);
}

}  // namespace
}  // namespace single

namespace {

class Linear final : public Product {
  public:
    using Product::Product;

    Shape check(const Check& check) override {
        check.weights(weights);
        check.require(!taken[0].image && taken[0].channels == weights.columns,
                      "must read a value of " + std::to_string(weights.columns) + " features");
        check.require(!epilogue.pooling, "a linear layer must have no pooling");
        return finished(check, {false, weights.rows, 1, 1});
    }

    std::unique_ptr<single::Step> make_single(const single::Site& site) const override {
        return std::make_unique<single::LinearStep>(site, *this);
    }
};

GOSSAMER_OPERATOR("linear", Linear)

}  // namespace
}  // namespace gossamer
