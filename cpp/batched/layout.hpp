// Where the values of a plan lie in the scratch of the batched executor.
#pragma once

#include <cstdint>
#include <vector>

#include "batched/tiles.hpp"
#include "core/caches.hpp"
#include "core/lifetimes.hpp"
#include "core/plan.hpp"
#include "ops/product.hpp"

namespace gossamer::batched {

// A tile of examples is `groups` groups of `width`. Images are computed for one group after the
// other, since one group of them fills the caches; features for all groups at once.
struct Tile {
    std::int64_t width;
    std::int64_t groups;
    std::int64_t lanes() const { return width * groups; }
};

// A value in the scratch.
struct Place {
    Shape shape;
    std::int64_t halo[2] = {0, 0};  // zeros around an image
    bool slides = false;            // only some rows and columns are kept at a time
    std::int64_t tiles = 1;         // sums that slide: of the columns of what they are pooled to
    std::int64_t rows = 0;          // kept, with those of the halo
    std::int64_t columns = 0;
    std::int64_t channel = 0;  // floats between channels, and between rows
    std::int64_t row = 0;
    bool every_group = false;  // an image that is kept for all groups of the tile
    std::int64_t group = 0;    // floats between groups
    std::int64_t size = 0;
    std::int64_t offset = 0;
};

// Positions that are done together; position 0 takes the input in, n + 1 is layer n, the last gives
// the output. One position, or convolutions of which each alone reads what the one before computes.
// These go through tiles of columns, and in each of them row by row; of the values between them
// only the rows that are still read are kept: all of them would not stay in the second cache.
struct Stage {
    std::int64_t begin, end;
    std::int64_t tiles = 1;  // of the columns of what the last one gives
};

// A run of positions.
struct Segment {
    std::int64_t begin, end;
    bool images;  // done for one group of examples after the other
    std::vector<Stage> stages;
};

class BatchedLayout {
  public:
    BatchedLayout(const Plan& plan, Tile tile, const Caches& caches);

    const Tile& tile() const { return tile_; }
    const std::vector<Segment>& segments() const { return segments_; }
    std::int64_t size() const { return size_; }  // floats

    const Place& place(int value) const { return places_[index(root(value))]; }
    // The sums of a layer whose pooling is done in a second pass.
    const Place& sums(int layer) const { return sums_[index(layer)]; }
    // Whether a layer only gives another shape to what it reads.
    bool is_alias(int layer) const { return root(layer + 1) != layer + 1; }

    // An image of one group, or the features of that group alone.
    View of_group(const Place& place, float* scratch, std::int64_t group) const;
    // An image of one group that slides, with a row and a column at its beginning. Those of the
    // halo are below 0.
    View of_part(const Place& place, float* scratch, std::int64_t group, std::int64_t row,
                 std::int64_t column) const;
    // The features of the first groups.
    View of_groups(const Place& place, float* scratch, std::int64_t groups) const;

  private:
    static std::size_t index(int number) { return static_cast<std::size_t>(number); }
    int root(int value) const { return roots_[index(value)]; }
    void find_roots(const Plan& plan);
    void find_halos(const Plan& plan);
    void find_segments(const Plan& plan);
    void find_stages(const Plan& plan, const Caches& caches);
    bool continues(const Plan& plan, const std::vector<int>& readers, std::int64_t position,
                   const Caches& caches) const;
    std::vector<Stage> stages_of(const Plan& plan, const std::vector<int>& readers,
                                 const Segment& segment, const Caches& caches) const;
    void slide(const Plan& plan, Stage& stage, const Caches& caches);
    void slide_sums(const ProductForm& layer, std::int64_t given, Place& sums,
                    const Caches& caches) const;
    void find_offsets(const Plan& plan, const Caches& caches);
    void share_memory(const std::vector<Place*>& places, std::vector<Lifetime>& lifetimes);
    void measure(Place& place) const;

    Tile tile_;
    std::vector<int> roots_;
    std::vector<Place> places_;
    std::vector<Place> sums_;
    std::vector<Segment> segments_;
    std::int64_t size_ = 0;
};

}  // namespace gossamer::batched
