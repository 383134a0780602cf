#include "ops/product.hpp"

#include <utility>

namespace gossamer {

Product::Product(Fields& fields) {
    weights = fields.take<Weights>("weights");
    bias = fields.take<Floats>("bias", {});
    epilogue = fields.take<Epilogue>("epilogue");
    if (epilogue.residual >= 0) reads.push_back(epilogue.residual);
}

Shape Product::finished(const Check& check, const Shape& shape) {
    sums = shape;
    const auto size = static_cast<std::int64_t>(bias.size());
    bias_by_position = size != 0 && size != sums.channels;
    check.require(!bias_by_position || size == sums.size(),
                  "bias must have a number for each channel, or for each of its sums");
    check.followed(epilogue, taken, sums);
    return epilogue.pooling ? check.pooled(*epilogue.pooling, sums) : sums;
}

}  // namespace gossamer
