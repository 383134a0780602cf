// What windows read of the layer before, and how columns are cut into tiles.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "ops/product.hpp"

namespace gossamer::batched {

constexpr std::int64_t longest_stage = 6;  // layers that are done together; see `Stage`

// Whether a 2 by 2 pooling can be done on the sums while they are in registers.
bool pools_in_registers(const ProductForm& layer);

// The columns of the output of a layer, or of its sums where pooling follows in a second pass.
std::int64_t columns_given(const ProductForm& layer);

// What of its input, the padding included, some rows or columns of its output need.
Range rows_read(const ProductForm& layer, Range rows);
Range columns_read(const ProductForm& layer, Range columns);

// The same of sums that are pooled.
Range rows_pooled(const Pooling& pooling, Range rows);
Range columns_pooled(const Pooling& pooling, Range columns);

// What is there of a range of `size` numbers.
Range within(Range range, std::int64_t size);

// One of the parts that columns are cut into.
Range tile_of(std::int64_t columns, std::int64_t tiles, std::int64_t number);

// The columns that a tile takes of what each layer of a stage gives: of the last those that are
// computed, of the others those that are read, the padding included.
using TileColumns = std::array<Range, longest_stage>;
TileColumns tile_columns(const std::vector<const ProductForm*>& layers, std::int64_t tiles,
                         std::int64_t number);

// The columns of a layer of a stage that the tiles take: most of one, and how many are computed.
struct Taken {
    std::int64_t most, all;
};
Taken taken_by(const std::vector<const ProductForm*>& layers, std::int64_t tiles,
               std::size_t layer);

}  // namespace gossamer::batched
