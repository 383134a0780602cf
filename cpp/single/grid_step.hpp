// Convolutions of one example whose values lie in tiles.
#pragma once

#include <memory>

namespace gossamer {
class Product;
}

namespace gossamer::single {

class Step;
struct Site;

// A step for a convolution of which a value lies in tiles; null where none does, or where it reads
// and gives them vector by vector, as other steps do.
std::unique_ptr<Step> grid_step(const Site& site, const Product& layer);

}  // namespace gossamer::single
