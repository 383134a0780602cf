// Linear layers and convolutions for many examples side by side.
#pragma once

#include <cstdint>
#include <memory>

#include "batched/matrix.hpp"
#include "batched/steps.hpp"

namespace gossamer::batched {

// How many outputs are computed at once: pixels of one row, or of two rows that are pooled.
struct StripShape {
    std::int64_t rows;
    std::int64_t pixels;
};

// A linear layer or a convolution.
class Product : public LayerStep {
  public:
    Product(const Context& context, const Layer& layer, int number);

    std::int64_t partial_floats() const override { return partial_floats_; }

    // Some rows of the output, or of the sums where pooling follows in a second pass.
    void run_rows(const Context& context, const Batch& batch, std::int64_t group,
                  const View& input, const View& output, Rows rows) const;
    int number() const { return number_; }
    int input() const { return layer_.inputs[0]; }
    Rows rows_read(std::int64_t row) const { return gossamer::rows_read(layer_, row); }

  private:
    void compute(const Context& context, const Batch& batch, std::int64_t group) const override;
    StripShape strip_shape(const Context& context) const;
    std::int64_t bytes_of_slice(WeightsKind kind, int width, const Caches& caches) const;
    Cut cut(const Context& context) const;
    std::int32_t offset(const Place& input, std::int64_t width, std::int64_t row,
                        std::int64_t column) const;
    StripKernel kernel(const BatchedKernels& kernels, std::int64_t pixels) const;

    Layer layer_;  // without its weights
    bool pooled_;  // in registers
    std::int64_t inputs_per_group_;
    StripShape strip_;
    std::unique_ptr<PackedMatrix> matrix_;
    std::int64_t partial_floats_ = 0;
};

}  // namespace gossamer::batched
