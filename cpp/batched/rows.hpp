// Convolutions that are done row by row together.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "batched/product.hpp"

namespace gossamer::batched {

// A stage of several convolutions. In each tile of its columns, rows of the last one are computed
// in order, each as soon as the layers before it have come far enough; of what these compute, the
// rows that are still read are kept. So no value between them is ever written to memory and read
// back.
class RowByRow : public Step {
  public:
    RowByRow(const Context& context, const Plan& plan, const Stage& stage);

    void run(const Context& context, const Batch& batch, std::int64_t group) const override;
    std::int64_t partial_floats() const override;

  private:
    struct Progress;
    struct Site;

    void advance(const Site& site, std::size_t layer, std::int64_t rows) const;
    void provide(const Site& site, std::size_t layer, Range rows) const;

    std::vector<std::unique_ptr<ProductStep>> products_;
    std::vector<TileColumns> tiles_;
};

}  // namespace gossamer::batched
