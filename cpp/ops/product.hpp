// What linear layers and convolutions have in common: sums of products, and what follows them.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "ops/layer.hpp"

namespace gossamer {

// A product but for its weights.
struct ProductForm {
    Window window;  // of a convolution, as are groups
    std::int64_t groups = 1;
    std::vector<float> bias;  // empty, [channels], or [channels, height, width] of the sums
    Epilogue epilogue;
    Shape sums;                     // set by `check`: the shape before pooling
    bool bias_by_position = false;  // set by `check`

    // Windows slide over the channels of an image, or else all features are read.
    bool slides() const { return sums.image; }
    // Columns of the weights for each channel.
    std::int64_t taps() const { return window.kernel.height * window.kernel.width; }
};

class Product : public Layer, public ProductForm {
  public:
    explicit Product(Fields& fields);

    const Product* product() const final { return this; }
    std::unique_ptr<batched::Step> make_batched(const batched::Context& context,
                                                int number) const final;

    Weights weights;

  protected:
    // Sees to what follows sums of that shape.
    Shape finished(const Check& check, const Shape& shape);
};

}  // namespace gossamer
