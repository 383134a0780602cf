// The sums of a linear layer or a convolution over vectors, whatever their lanes hold.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "batched/matrix.hpp"
#include "core/caches.hpp"
#include "ops/product.hpp"

namespace gossamer::batched {

// How many outputs are computed at once: pixels of one row, or of two rows that are pooled.
struct StripShape {
    std::int64_t rows;
    std::int64_t pixels;
};

// What it is made for.
struct StripSite {
    InstructionSet set;
    Caches caches;
    std::int64_t width;       // of a vector
    std::int64_t channel;     // floats between channels of the input
    std::int64_t row;         // and between its rows
    std::int64_t columns;     // of the sums
    bool pools;               // sums in registers, where they can be
    std::int64_t shares = 1;  // of the rows of sparse weights, which threads compute
};

class StripProduct {
  public:
    StripProduct(const StripSite& site, const ProductForm& form, const Weights& weights);

    std::int64_t shares() const { return shares_; }
    // The channels that some of them compute.
    Range channels(Range shares) const;
    // Floats of `partial`, of all shares.
    std::int64_t partial_floats() const { return partial_floats_; }

    struct Views {
        View input, output, residual;
        float* partial;
    };
    // Some rows and columns of the output, of some shares.
    void run(const Views& views, Range rows, Range columns, Range shares) const;

  private:
    // How sums are walked.
    struct Walk {
        StripShape strip;
        std::int64_t slices;  // of the columns
    };
    Walk walk(const Weights& weights, std::int64_t columns) const;
    Walk fastest_walk(const Weights& weights, std::int64_t columns, std::int64_t longest) const;
    double cycles(const Weights& weights, double pixels, std::int64_t slices) const;
    std::int64_t most_slices(const Weights& weights) const;
    std::int64_t vectors_read(StripShape strip) const;
    std::int64_t bytes_of_slice(WeightsKind kind, std::int64_t bytes) const;
    Cut cut(const Weights& weights, std::int64_t shares, std::int64_t slices) const;
    void find_starts();
    // Of a panel.
    Panel part_of(std::size_t number, Range shares) const;
    StripKernel kernel(std::int64_t pixels) const;

    ProductForm layer_;
    std::int64_t rows_;  // of the weights
    Caches caches_;
    std::int64_t width_;
    bool pooled_;  // in registers
    std::int64_t inputs_per_group_;
    const StripLoops* loops_;
    StripShape strip_;
    std::vector<std::int64_t> slice_columns_;  // see Cut
    std::unique_ptr<PackedMatrix> matrix_;
    std::int64_t shares_ = 1;
    std::int64_t share_;                             // rows
    std::vector<std::vector<std::int32_t>> starts_;  // of each panel, from each share on
    std::int64_t partial_floats_ = 0;
};

}  // namespace gossamer::batched
