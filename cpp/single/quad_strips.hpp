// Windows over tiles, four rows of sparse weights at a time.
#pragma once

#include "batched/strip_product.hpp"
#include "single/quad_matrix.hpp"

namespace gossamer::single {

class QuadStrips {
  public:
    QuadStrips(const batched::StripSite& site, const ProductForm& form, const Weights& weights);

    // Whether it takes them, and so few vectors of the sums that it is faster than one row after
    // another.
    static bool takes(const batched::StripSite& site, const ProductForm& form,
                      const Weights& weights, std::int64_t vectors);

    // Non-zeros before each bunch of rows.
    const std::vector<std::int64_t>& costs() const { return matrix_.costs(); }
    // Some rows of the sums, of some bunches.
    void run(const batched::StripProduct::Views& views, Range rows, Range bunches) const;

  private:
    const QuadLoops& loops_;
    ProductForm form_;
    std::int64_t width_, columns_;
    QuadMatrix matrix_;
};

}  // namespace gossamer::single
