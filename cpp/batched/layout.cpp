#include "batched/layout.hpp"

#include <algorithm>
#include <array>
#include <limits>
#include <map>
#include <numeric>
#include <string>

#include "core/lifetimes.hpp"

namespace gossamer::batched {

namespace {

// Whether all that read a value make features of it.
bool reads_only_features(const Plan& plan, int value) {
    for (const auto& layer : plan.layers) {
        const bool read = std::count(layer->reads.begin(), layer->reads.end(), value) > 0;
        if (read && (!layer->renames() || layer->given.image)) return false;
    }
    return std::count(plan.outputs.begin(), plan.outputs.end(), value) == 0;
}

const Layer& layer_at(const Plan& plan, std::int64_t position) {
    return *plan.layers[static_cast<std::size_t>(position - 1)];
}

std::int64_t bytes_of_pixel(const Tile& tile) { return 4 * tile.width; }

bool has_halo(const Place& place) { return place.halo[0] > 0 || place.halo[1] > 0; }

// What is the same in images that may share memory. Their sizes are whole channels, and so are
// their offsets: what is a zero of the halo in one is a zero of the halo in all of them.
using Geometry = std::array<std::int64_t, 5>;

Geometry geometry(const Place& place) {
    if (!has_halo(place)) return {};
    return {place.halo[0], place.halo[1], place.rows, place.shape.width, place.slides};
}

// A layer whose rows of the output can be had without the others.
const Product* by_rows(const Layer& layer) {
    const Product* product = layer.product();
    if (!product || !product->slides()) return nullptr;
    return !product->epilogue.pooling || pools_in_registers(*product) ? product : nullptr;
}

}  // namespace

bool pools_in_registers(const ProductForm& layer) {
    if (!layer.epilogue.pooling) return false;
    const Pooling& pooling = *layer.epilogue.pooling;
    const auto is = [](const Pair& pair, std::int64_t both) {
        return pair.height == both && pair.width == both;
    };
    const auto& [kernel, stride, padding, dilation] = pooling.window;
    const bool reaches_over =
        pooling.ceil && (layer.sums.height % 2 != 0 || layer.sums.width % 2 != 0);
    return is(kernel, 2) && is(stride, 2) && is(padding, 0) && is(dilation, 1) &&
           layer.window.stride.width == 1 && !reaches_over;
}

Range rows_read(const ProductForm& layer, std::int64_t row) {
    const auto& [kernel, stride, padding, dilation] = layer.window;
    const bool pairs = pools_in_registers(layer);
    const std::int64_t first = pairs ? 2 * row : row, last = pairs ? first + 1 : first;
    return {first * stride.height - padding.height,
            last * stride.height - padding.height + (kernel.height - 1) * dilation.height + 1};
}

BatchedLayout::BatchedLayout(const Plan& plan, Tile tile, const Caches& caches) : tile_(tile) {
    places_.resize(plan.shapes.size());
    sums_.resize(plan.layers.size());
    for (std::size_t value = 0; value < places_.size(); ++value)
        places_[value].shape = plan.shapes[value];
    find_roots(plan);
    find_halos(plan);
    find_segments(plan);
    find_stages(plan, caches);
    find_offsets(plan);
}

void BatchedLayout::find_roots(const Plan& plan) {
    for (std::size_t input = 0; input < plan.inputs; ++input) {
        const Shape& shape = plan.shapes[input];
        if (shape.image && reads_only_features(plan, static_cast<int>(input)))
            places_[input].shape = Shape{false, shape.size(), 1, 1};
    }
    roots_.resize(places_.size());
    std::iota(roots_.begin(), roots_.end(), 0);
    for (std::size_t number = 0; number < plan.layers.size(); ++number) {
        const Layer& layer = *plan.layers[number];
        const bool same = layer.renames() && place(layer.reads[0]).shape == layer.given;
        if (same) roots_[number + 1] = root(layer.reads[0]);
    }
}

void BatchedLayout::find_halos(const Plan& plan) {
    for (const auto& layer : plan.layers) {
        const Product* product = layer->product();
        if (!product) continue;
        Place& input = places_[index(root(product->reads[0]))];
        input.halo[0] = std::max(input.halo[0], product->window.padding.height);
        input.halo[1] = std::max(input.halo[1], product->window.padding.width);
    }
}

void BatchedLayout::find_segments(const Plan& plan) {
    const auto add = [&](bool images) {
        const std::int64_t position = segments_.empty() ? 0 : segments_.back().end;
        if (!segments_.empty() && segments_.back().images == images)
            segments_.back().end = position + 1;
        else
            segments_.push_back({position, position + 1, images, {}});
    };
    add(place(0).shape.image);
    for (std::size_t number = 0; number < plan.layers.size(); ++number) {
        const auto& inputs = plan.layers[number]->reads;
        add(place(static_cast<int>(number) + 1).shape.image ||
            std::any_of(inputs.begin(), inputs.end(),
                        [&](int input) { return place(input).shape.image; }));
    }
    for (const int output : plan.outputs) add(place(output).shape.image);
}

void BatchedLayout::find_stages(const Plan& plan, const Caches& caches) {
    std::vector<int> readers(places_.size());
    for (const int output : plan.outputs) ++readers[index(output)];
    for (const auto& layer : plan.layers)
        for (const int value : layer->reads) ++readers[index(value)];
    for (Segment& segment : segments_) {
        for (std::int64_t position = segment.begin; position < segment.end; ++position) {
            const bool first = position == segment.begin;
            if (!first && continues(plan, readers, segment.stages.back(), caches))
                segment.stages.back().end = position + 1;
            else
                segment.stages.push_back({position, position + 1});
        }
        for (const Stage& stage : segment.stages) slide(plan, stage, caches);
    }
}

// Whether the position behind a stage is done row by row with it.
bool BatchedLayout::continues(const Plan& plan, const std::vector<int>& readers, const Stage& stage,
                              const Caches& caches) const {
    const auto layers = static_cast<std::int64_t>(plan.layers.size());
    if (stage.begin == 0 || stage.end > layers || stage.end - stage.begin == longest_stage)
        return false;
    const Layer& layer = layer_at(plan, stage.end);
    const auto between = static_cast<int>(stage.end - 1);  // the value
    if (!by_rows(layer_at(plan, between)) || !by_rows(layer)) return false;
    if (layer.reads[0] != between || readers[index(between)] != 1) return false;
    if (place(between).shape.size() * bytes_of_pixel(tile_) <= caches.second / 2) return false;
    // Every row needs the weights of all layers, which must not drive the rows out.
    std::int64_t weights = 0;
    for (std::int64_t position = stage.begin; position <= stage.end; ++position) {
        const Weights& stored = layer_at(plan, position).product()->weights;
        weights += static_cast<std::int64_t>(4 * (stored.values.size() + stored.indices.size()));
    }
    return weights <= caches.second / 4;
}

// When the rows that are kept are full, those that are read again are moved to the front. So it is
// as many as fit, and at least twice as many as are read at a time: then no more are moved than
// are computed.
void BatchedLayout::slide(const Plan& plan, const Stage& stage, const Caches& caches) {
    const std::int64_t between = stage.end - stage.begin - 1;  // values
    for (std::int64_t value = stage.begin; value + 1 < stage.end; ++value) {
        Place& kept = places_[index(static_cast<int>(value))];
        const Shape& shape = kept.shape;
        const std::int64_t row =
            shape.channels * (shape.width + 2 * kept.halo[1]) * bytes_of_pixel(tile_);
        const Range read = rows_read(*layer_at(plan, value + 1).product(), 0);
        kept.slides = true;
        kept.rows = std::max(
            {2 * (read.end - read.begin), kept.halo[0], caches.second * 3 / 4 / between / row});
        kept.rows = std::min(kept.rows, shape.height + 2 * kept.halo[0]);
    }
}

void BatchedLayout::find_offsets(const Plan& plan) {
    std::vector<Lifetime> lifetimes(places_.size(), unused_lifetime());
    std::vector<Place*> places;
    for (Place& value : places_) places.push_back(&value);
    std::vector<Stage> stage_of;  // by position
    for (const Segment& segment : segments_) {
        for (const Stage& stage : segment.stages) {
            const auto positions = static_cast<std::size_t>(stage.end - stage.begin);
            stage_of.insert(stage_of.end(), positions, stage);
        }
    }
    each_use(plan, [&](int value, std::int64_t position) {
        const Stage& stage = stage_of[static_cast<std::size_t>(position)];
        lifetimes[index(root(value))].use(stage.begin);
        lifetimes[index(root(value))].use(stage.end - 1);
    });
    // A segment of images is gone through once for every group: what enters it or leaves it must
    // be kept for all groups, and throughout. That goes for features too, filled group by group.
    for (std::size_t value = 0; value < places.size(); ++value) {
        Lifetime& lifetime = lifetimes[value];
        const std::int64_t first = lifetime.first, last = lifetime.last;
        for (const Segment& segment : segments_) {
            if (last < segment.begin || segment.end <= first || !segment.images) continue;
            const bool crosses = first < segment.begin || last >= segment.end;
            if (!crosses && places[value]->shape.image) continue;
            places[value]->every_group = true;
            lifetime.use(segment.begin);
            lifetime.use(segment.end - 1);
        }
    }
    for (std::size_t number = 0; number < plan.layers.size(); ++number) {
        const Product* product = plan.layers[number]->product();
        if (!product || !product->epilogue.pooling || pools_in_registers(*product)) continue;
        sums_[number].shape = product->sums;
        const auto position = static_cast<std::int64_t>(number) + 1;
        lifetimes.push_back({position, position});
        places.push_back(&sums_[number]);
    }
    share_memory(places, lifetimes);
}

// Halos stay as they are from call to call, so an image shares memory only with those that have
// theirs in the same places.
void BatchedLayout::share_memory(const std::vector<Place*>& places,
                                 std::vector<Lifetime>& lifetimes) {
    std::map<Geometry, std::vector<std::size_t>> alike;
    for (std::size_t at = 0; at < places.size(); ++at) {
        if (!lifetimes[at].used()) continue;
        measure(*places[at]);
        lifetimes[at].size = places[at]->size;
        alike[geometry(*places[at])].push_back(at);
    }
    for (const auto& [_, numbers] : alike) {
        std::vector<Lifetime> sharing;
        for (const std::size_t at : numbers) sharing.push_back(lifetimes[at]);
        const std::int64_t size = assign_offsets(sharing);
        for (std::size_t i = 0; i < numbers.size(); ++i)
            places[numbers[i]]->offset = size_ + sharing[i].offset;
        size_ += rounded_up(size, line);
    }
}

void BatchedLayout::measure(Place& place) const {
    const Shape& shape = place.shape;
    if (!place.slides) place.rows = shape.height + 2 * place.halo[0];
    const std::int64_t pixels = place.rows * (shape.width + 2 * place.halo[1]);
    const std::int64_t side_by_side = shape.image ? tile_.width : tile_.lanes();
    // Offsets within a value are kept in 32 bits.
    if (pixels > std::numeric_limits<std::int32_t>::max() / side_by_side / shape.channels) {
        throw TooLarge("a value of " + std::to_string(side_by_side) +
                       " examples side by side takes 8 GiB or more");
    }
    if (shape.image) {
        place.row = (shape.width + 2 * place.halo[1]) * tile_.width;
        place.channel = place.rows * place.row;
        place.group = shape.channels * place.channel;
        place.size = place.group * (place.every_group ? tile_.groups : 1);
    } else {
        place.row = place.channel = tile_.lanes();
        place.group = tile_.width;
        place.size = shape.channels * place.channel;
    }
    if (!place.every_group && shape.image) place.group = 0;
    if (!has_halo(place)) place.size = rounded_up(place.size, line);
}

View BatchedLayout::of_group(const Place& place, float* scratch, std::int64_t group) const {
    return of_rows(place, scratch, group, -place.halo[0]);
}

View BatchedLayout::of_rows(const Place& place, float* scratch, std::int64_t group,
                            std::int64_t first) const {
    View view = of_groups(place, scratch, place.shape.width);
    view.data += group * place.group - first * place.row + place.halo[1] * tile_.width;
    view.rows = place.shape.height;
    return view;
}

View BatchedLayout::of_groups(const Place& place, float* scratch, std::int64_t groups) const {
    return {scratch + place.offset,
            place.channel,
            place.row,
            tile_.width,
            place.shape.channels,
            1,
            groups,
            0};
}

}  // namespace gossamer::batched
