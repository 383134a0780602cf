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

// What slides sets its halo to zero each time.
bool keeps_zeros(const Place& place) {
    return !place.slides && (place.halo[0] > 0 || place.halo[1] > 0);
}

// What is the same in images that may share memory. Their sizes are whole channels, and so are
// their offsets: what is a zero of the halo in one is a zero of the halo in all of them.
using Geometry = std::array<std::int64_t, 4>;

Geometry geometry(const Place& place) {
    if (!keeps_zeros(place)) return {};
    return {place.halo[0], place.halo[1], place.rows, place.shape.width};
}

std::int64_t bytes_of_weights(const Plan& plan, std::int64_t position) {
    if (position < 1 || position > static_cast<std::int64_t>(plan.layers.size())) return 0;
    const Product* product = layer_at(plan, position).product();
    if (!product) return 0;
    const Weights& weights = product->weights;
    return static_cast<std::int64_t>(4 * (weights.values.size() + weights.indices.size()));
}

// A layer whose rows of the output can be had without the others.
const Product* by_rows(const Layer& layer) {
    const Product* product = layer.product();
    if (!product || !product->slides()) return nullptr;
    return !product->epilogue.pooling || pools_in_registers(*product) ? product : nullptr;
}

// Narrower tiles would compute too much twice, and leave strips too short.
constexpr std::int64_t least_columns = 7;

std::int64_t most_tiles(std::int64_t columns) {
    return std::max<std::int64_t>(columns / least_columns, 1);
}

// About how long a vector takes: to be computed, beside each of its taps, and to be put where the
// second cache does not hold it. Measured on Zen 5.
constexpr double cycles_of_sum = 2.0;
constexpr double cycles_of_tap = 0.75;
constexpr double cycles_of_far = 1.0;

// Bytes of what slides that leave room for what is read and written beside it, which takes more
// where only a part of each row is read at a time.
std::int64_t room_to_slide(const Caches& caches, std::int64_t tiles) {
    return tiles == 1 ? caches.second * 3 / 4 : caches.second * 5 / 8;
}

}  // namespace

BatchedLayout::BatchedLayout(const Plan& plan, Tile tile, const Caches& caches) : tile_(tile) {
    places_.resize(plan.shapes.size());
    sums_.resize(plan.layers.size());
    for (std::size_t value = 0; value < places_.size(); ++value)
        places_[value].shape = plan.shapes[value];
    find_roots(plan);
    find_halos(plan);
    find_segments(plan);
    find_stages(plan, caches);
    find_offsets(plan, caches);
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
        segment.stages = stages_of(plan, readers, segment, caches);
        for (Stage& stage : segment.stages) slide(plan, stage, caches);
    }
}

// Positions are put together so that as few numbers as possible are read by another stage.
std::vector<Stage> BatchedLayout::stages_of(const Plan& plan, const std::vector<int>& readers,
                                            const Segment& segment, const Caches& caches) const {
    struct Way {
        std::int64_t numbers, begin;  // of its last stage
    };
    std::vector<Way> ways{{0, 0}};  // that end before a position
    for (std::int64_t end = segment.begin + 1; end <= segment.end; ++end) {
        Way best{std::numeric_limits<std::int64_t>::max(), 0};
        const bool last = end > static_cast<std::int64_t>(plan.layers.size()) + 1;
        const std::int64_t given = last ? 0 : place(static_cast<int>(end - 1)).shape.size();
        std::int64_t weights = 0;
        for (std::int64_t begin = end - 1; begin >= std::max(segment.begin, end - longest_stage);
             --begin) {
            if (begin + 1 < end && !continues(plan, readers, begin + 1, caches)) break;
            // Every row needs the weights of all layers, which must not drive the rows out.
            weights += bytes_of_weights(plan, begin);
            if (begin + 1 < end && weights > caches.second / 4) break;
            const std::int64_t numbers =
                ways[static_cast<std::size_t>(begin - segment.begin)].numbers + given;
            if (numbers < best.numbers) best = {numbers, begin};
        }
        ways.push_back(best);
    }
    std::vector<Stage> stages;
    for (std::int64_t end = segment.end; end > segment.begin; end = stages.back().begin)
        stages.push_back({ways[static_cast<std::size_t>(end - segment.begin)].begin, end});
    std::reverse(stages.begin(), stages.end());
    return stages;
}

// Whether a position may be done row by row with the one before it.
bool BatchedLayout::continues(const Plan& plan, const std::vector<int>& readers,
                              std::int64_t position, const Caches& caches) const {
    const auto layers = static_cast<std::int64_t>(plan.layers.size());
    if (position < 2 || position > layers) return false;
    const Layer& layer = layer_at(plan, position);
    const auto between = static_cast<int>(position - 1);  // the value
    if (!by_rows(layer_at(plan, between)) || !by_rows(layer)) return false;
    if (layer.reads[0] != between || readers[index(between)] != 1) return false;
    return place(between).shape.size() * bytes_of_pixel(tile_) > caches.second / 2;
}

// When the rows that are kept are full, those that are read again are moved to the front. So it is
// as many as fit, and at least twice as many as are read at a time: then no more are moved than
// are computed. Where not even these fit, columns are cut into as many tiles as it takes.
void BatchedLayout::slide(const Plan& plan, Stage& stage, const Caches& caches) {
    const std::int64_t between = stage.end - stage.begin - 1;  // values
    if (between == 0) return;
    std::vector<const ProductForm*> layers;
    for (std::int64_t position = stage.begin; position < stage.end; ++position)
        layers.push_back(layer_at(plan, position).product());
    const auto value = [&](std::int64_t number) -> Place& {
        return places_[index(static_cast<int>(stage.begin + number))];
    };
    const auto rows_at_once = [&](std::int64_t number) {
        const Range read = rows_read(*layers[static_cast<std::size_t>(number) + 1], {0, 1});
        return 2 * (read.end - read.begin);
    };
    const std::int64_t most = most_tiles(columns_given(*layers.back()));
    // Sets how many columns are kept; returns whether the fewest rows of these find room, and
    // computing columns of two tiles twice takes less than leaving rows to the third cache.
    const auto fits = [&](std::int64_t tiles) {
        std::int64_t bytes = 0;
        double twice = 0.0, all = 0.0;  // cycles
        for (std::int64_t number = 0; number < between; ++number) {
            Place& kept = value(number);
            const Weights& weights = layer_at(plan, stage.begin + number).product()->weights;
            const Taken taken = taken_by(layers, tiles, static_cast<std::size_t>(number));
            kept.columns = taken.most;
            bytes += rows_at_once(number) * kept.columns * kept.shape.channels;
            const auto numbers = static_cast<double>(kept.shape.channels * kept.shape.height);
            twice += numbers * static_cast<double>(taken.all - kept.shape.width) *
                     (cycles_of_sum + cycles_of_tap * static_cast<double>(weights.values.size()) /
                                          static_cast<double>(weights.rows));
            all += numbers * static_cast<double>(kept.shape.width) * cycles_of_far;
        }
        return bytes * bytes_of_pixel(tile_) <= room_to_slide(caches, tiles) && twice <= all;
    };
    stage.tiles = 1;
    while (!fits(stage.tiles) && stage.tiles < most) ++stage.tiles;
    if (!fits(stage.tiles)) fits(stage.tiles = 1);
    const std::int64_t room = room_to_slide(caches, stage.tiles);
    for (std::int64_t number = 0; number < between; ++number) {
        Place& kept = value(number);
        const std::int64_t row = kept.shape.channels * kept.columns * bytes_of_pixel(tile_);
        kept.slides = true;
        kept.rows = std::max({rows_at_once(number), kept.halo[0], room / between / row});
        kept.rows = std::min(kept.rows, kept.shape.height + 2 * kept.halo[0]);
    }
}

// The same of sums that are pooled in a second pass.
void BatchedLayout::slide_sums(const ProductForm& layer, std::int64_t given, Place& sums,
                               const Caches& caches) const {
    const Pooling& pooling = *layer.epilogue.pooling;
    const std::int64_t bytes = bytes_of_pixel(tile_);
    if (sums.shape.size() * bytes <= room_to_slide(caches, 1)) return;
    const Range read = rows_pooled(pooling, {0, 1});
    const std::int64_t at_once = 2 * (read.end - read.begin);
    const auto measure_columns = [&](std::int64_t tiles) {
        sums.columns = 1;
        for (std::int64_t tile = 0; tile < tiles; ++tile) {
            const Range taken =
                within(columns_pooled(pooling, tile_of(given, tiles, tile)), sums.shape.width);
            sums.columns = std::max(sums.columns, taken.end - taken.begin);
        }
        return sums.shape.channels * at_once * sums.columns * bytes;
    };
    const auto fits = [&](std::int64_t tiles) {
        return measure_columns(tiles) <= room_to_slide(caches, tiles);
    };
    while (!fits(sums.tiles) && sums.tiles < most_tiles(given)) ++sums.tiles;
    if (!fits(sums.tiles)) measure_columns(sums.tiles = 1);
    sums.slides = true;
    const std::int64_t row = sums.shape.channels * sums.columns * bytes;
    sums.rows = std::max(at_once, room_to_slide(caches, sums.tiles) / row);
    sums.rows = std::min(sums.rows, sums.shape.height);
}

void BatchedLayout::find_offsets(const Plan& plan, const Caches& caches) {
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
        slide_sums(*product, plan.layers[number]->given.width, sums_[number], caches);
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
    if (!place.slides) {
        place.rows = shape.height + 2 * place.halo[0];
        place.columns = shape.width + 2 * place.halo[1];
    }
    const std::int64_t pixels = place.rows * place.columns;
    const std::int64_t side_by_side = shape.image ? tile_.width : tile_.lanes();
    // Offsets within a value are kept in 32 bits.
    if (pixels > std::numeric_limits<std::int32_t>::max() / side_by_side / shape.channels) {
        throw TooLarge("a value of " + std::to_string(side_by_side) +
                       " examples side by side takes 8 GiB or more");
    }
    if (shape.image) {
        place.row = place.columns * tile_.width;
        place.channel = place.rows * place.row;
        place.group = shape.channels * place.channel;
        place.size = place.group * (place.every_group ? tile_.groups : 1);
    } else {
        place.row = place.channel = tile_.lanes();
        place.group = tile_.width;
        place.size = shape.channels * place.channel;
    }
    if (!place.every_group && shape.image) place.group = 0;
    if (!keeps_zeros(place)) place.size = rounded_up(place.size, line);
}

View BatchedLayout::of_group(const Place& place, float* scratch, std::int64_t group) const {
    return of_part(place, scratch, group, -place.halo[0], -place.halo[1]);
}

View BatchedLayout::of_part(const Place& place, float* scratch, std::int64_t group,
                            std::int64_t row, std::int64_t column) const {
    View view = of_groups(place, scratch, place.shape.width);
    view.data += group * place.group - row * place.row - column * tile_.width;
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
