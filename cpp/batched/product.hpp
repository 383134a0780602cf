// Linear layers and convolutions for many examples side by side.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "batched/matrix.hpp"
#include "batched/steps.hpp"
#include "ops/loops.hpp"
#include "ops/product.hpp"

namespace gossamer::batched {

// How many outputs are computed at once: pixels of one row, or of two rows that are pooled.
struct StripShape {
    std::int64_t rows;
    std::int64_t pixels;
};

// A linear layer or a convolution.
class ProductStep : public Step {
  public:
    ProductStep(const Context& context, const Product& layer, int number);

    void run(const Context& context, const Batch& batch, std::int64_t group) const override;
    std::int64_t partial_floats() const override { return partial_floats_; }

    // Some rows and columns of the output, or of the sums where pooling follows in a second pass.
    void run_part(const Context& context, const Batch& batch, std::int64_t group, const View& input,
                  const View& output, Range rows, Range columns) const;
    int number() const { return number_; }
    int input() const { return reads_[0]; }
    Range rows_read(Range rows) const { return batched::rows_read(layer_, rows); }

  private:
    void run_and_pool(const Context& context, const Batch& batch, std::int64_t group) const;
    StripShape strip_shape(const Context& context) const;
    std::int64_t bytes_of_slice(WeightsKind kind, std::int64_t bytes, int width,
                                const Caches& caches) const;
    Cut cut(const Context& context, const Weights& weights) const;
    StripKernel kernel(std::int64_t pixels) const;

    ProductForm layer_;
    std::vector<int> reads_;
    int number_;
    bool pooled_;  // in registers
    std::int64_t inputs_per_group_;
    StripShape strip_;
    std::vector<std::int64_t> slice_columns_;  // see Cut
    std::unique_ptr<PackedMatrix> matrix_;
    const StripLoops* loops_;
    decltype(PoolLoops::batched) pool_;
    std::int64_t partial_floats_ = 0;
};

// Move rows of all columns that are kept, from `column` on, to the place of others before them.
void move_rows(const View& view, Range rows, std::int64_t to, std::int64_t column);

}  // namespace gossamer::batched
