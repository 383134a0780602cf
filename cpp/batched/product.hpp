// Linear layers and convolutions for many examples side by side.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "batched/steps.hpp"
#include "batched/strip_product.hpp"
#include "ops/loops.hpp"
#include "ops/product.hpp"

namespace gossamer::batched {

// A linear layer or a convolution.
class ProductStep : public Step {
  public:
    ProductStep(const Context& context, const Product& layer, int number);

    void run(const Context& context, const Batch& batch, std::int64_t group) const override;
    std::int64_t partial_floats() const override { return strips_.partial_floats(); }

    // Some rows and columns of the output, or of the sums where pooling follows in a second pass.
    void run_part(const Context& context, const Batch& batch, std::int64_t group, const View& input,
                  const View& output, Range rows, Range columns) const;
    int number() const { return number_; }
    int input() const { return reads_[0]; }
    Range rows_read(Range rows) const { return batched::rows_read(layer_, rows); }

  private:
    void run_and_pool(const Context& context, const Batch& batch, std::int64_t group) const;

    ProductForm layer_;
    std::vector<int> reads_;
    int number_;
    bool pooled_;  // in registers
    StripProduct strips_;
    decltype(PoolLoops::batched) pool_;
};

// Move rows of all columns that are kept, from `column` on, to the place of others before them.
void move_rows(const View& view, Range rows, std::int64_t to, std::int64_t column);

}  // namespace gossamer::batched
