#include "wide_layout.hpp"

#include <algorithm>
#include <limits>
#include <numeric>
#include <string>

#include "lifetimes.hpp"

namespace gossamer {

namespace {

bool reads_only_features(const Plan& plan, int value) {
    for (const Layer& layer : plan.layers) {
        const bool read = std::count(layer.inputs.begin(), layer.inputs.end(), value) > 0;
        if (layer.epilogue.residual == value) return false;
        if (read && (layer.kind != LayerKind::reshape || layer.target.image)) return false;
    }
    return plan.output != value;
}

}  // namespace

bool pools_in_registers(const Layer& layer) {
    if (!layer.epilogue.pooling || layer.kind != LayerKind::convolution) return false;
    const Pooling& pooling = *layer.epilogue.pooling;
    const auto is = [](const Pair& pair, std::int64_t both) {
        return pair.height == both && pair.width == both;
    };
    const bool reaches_over =
        pooling.ceil && (layer.sums.height % 2 != 0 || layer.sums.width % 2 != 0);
    return is(pooling.kernel, 2) && is(pooling.stride, 2) && is(pooling.padding, 0) &&
           is(pooling.dilation, 1) && layer.stride.width == 1 && !reaches_over;
}

WideLayout::WideLayout(const Plan& plan, Tile tile) : tile_(tile) {
    places_.resize(plan.shapes.size());
    sums_.resize(plan.layers.size());
    for (std::size_t value = 0; value < places_.size(); ++value) {
        places_[value].shape = plan.shapes[value];
    }
    find_roots(plan);
    find_halos(plan);
    find_segments(plan);
    find_offsets(plan);
}

void WideLayout::find_roots(const Plan& plan) {
    if (plan.input.image && reads_only_features(plan, 0)) {
        places_[0].shape = Shape{false, plan.input.size(), 1, 1};
    }
    roots_.resize(places_.size());
    std::iota(roots_.begin(), roots_.end(), 0);
    for (std::size_t number = 0; number < plan.layers.size(); ++number) {
        const Layer& layer = plan.layers[number];
        if (layer.kind != LayerKind::reshape) continue;
        if (place(layer.inputs[0]).shape == layer.target) roots_[number + 1] = root(layer.inputs[0]);
    }
}

void WideLayout::find_halos(const Plan& plan) {
    for (const Layer& layer : plan.layers) {
        if (layer.kind != LayerKind::convolution) continue;
        Place& input = places_[index(root(layer.inputs[0]))];
        input.halo[0] = std::max(input.halo[0], layer.padding.height);
        input.halo[1] = std::max(input.halo[1], layer.padding.width);
    }
}

void WideLayout::find_segments(const Plan& plan) {
    const auto add = [&](bool images) {
        const std::int64_t position = segments_.empty() ? 0 : segments_.back().end;
        if (!segments_.empty() && segments_.back().images == images) {
            segments_.back().end = position + 1;
        } else {
            segments_.push_back({position, position + 1, images});
        }
    };
    add(place(0).shape.image);
    for (std::size_t number = 0; number < plan.layers.size(); ++number) {
        const auto& inputs = plan.layers[number].inputs;
        add(place(static_cast<int>(number) + 1).shape.image ||
            std::any_of(inputs.begin(), inputs.end(),
                        [&](int input) { return place(input).shape.image; }));
    }
    add(place(plan.output).shape.image);
}

void WideLayout::find_offsets(const Plan& plan) {
    const auto layers = static_cast<std::int64_t>(plan.layers.size());
    std::vector<Lifetime> lifetimes(places_.size(), unused_lifetime());
    std::vector<Place*> places;
    for (Place& value : places_) places.push_back(&value);
    const auto used = [&](int value, std::int64_t position) {
        lifetimes[index(root(value))].use(position);
    };
    used(0, 0);
    used(plan.output, layers + 1);
    for (std::int64_t number = 0; number < layers; ++number) {
        const Layer& layer = plan.layers[static_cast<std::size_t>(number)];
        used(static_cast<int>(number) + 1, number + 1);
        for (const int input : layer.inputs) used(input, number + 1);
        if (layer.epilogue.residual >= 0) used(layer.epilogue.residual, number + 1);
    }
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
        const Layer& layer = plan.layers[number];
        if (layer.kind == LayerKind::pool || !layer.epilogue.pooling) continue;
        if (pools_in_registers(layer)) continue;
        sums_[number].shape = layer.sums;
        const auto position = static_cast<std::int64_t>(number) + 1;
        lifetimes.push_back({position, position});
        places.push_back(&sums_[number]);
    }
    for (std::size_t at = 0; at < places.size(); ++at) {
        if (!lifetimes[at].used()) continue;
        measure(*places[at]);
        lifetimes[at].size = places[at]->size;
    }
    size_ = assign_offsets(lifetimes);
    for (std::size_t at = 0; at < places.size(); ++at) places[at]->offset = lifetimes[at].offset;
}

void WideLayout::measure(Place& place) const {
    const Shape& shape = place.shape;
    const std::int64_t pixels =
        (shape.height + 2 * place.halo[0]) * (shape.width + 2 * place.halo[1]);
    const std::int64_t side_by_side = shape.image ? tile_.width : tile_.lanes();
    // Offsets within a value are kept in 32 bits.
    if (pixels > std::numeric_limits<std::int32_t>::max() / side_by_side / shape.channels) {
        throw TooLarge("a value of " + std::to_string(side_by_side) +
                                " examples side by side takes 8 GiB or more");
    }
    if (shape.image) {
        place.row = (shape.width + 2 * place.halo[1]) * tile_.width;
        place.channel = (shape.height + 2 * place.halo[0]) * place.row;
        place.group = shape.channels * place.channel;
        place.size = place.group * (place.every_group ? tile_.groups : 1);
    } else {
        place.row = place.channel = tile_.lanes();
        place.group = tile_.width;
        place.size = shape.channels * place.channel;
    }
    if (!place.every_group && shape.image) place.group = 0;
    place.size = (place.size + 15) / 16 * 16;
}

View WideLayout::of_group(const Place& place, float* scratch, std::int64_t group) const {
    const Shape& shape = place.shape;
    float* corner = scratch + place.offset + group * place.group;
    return {corner + place.halo[0] * place.row + place.halo[1] * tile_.width,
            place.channel, place.row, shape.channels, shape.height, shape.width};
}

View WideLayout::of_groups(const Place& place, float* scratch, std::int64_t groups) const {
    return {scratch + place.offset, place.channel, place.row, place.shape.channels, 1, groups};
}

}  // namespace gossamer
