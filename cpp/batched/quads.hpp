// Sparse linear layers for many examples side by side, four rows at a time.
#pragma once

#include <memory>

#include "batched/steps.hpp"
#include "ops/product.hpp"

namespace gossamer::batched {

// A step for a sparse layer of features, where the loops of single/quads.hpp are there for it; null
// elsewhere.
std::unique_ptr<Step> quad_step(const Context& context, const Product& layer, int number);

}  // namespace gossamer::batched
