#include "core/plan.hpp"

#include <algorithm>
#include <utility>

#include "ops/layer.hpp"

namespace gossamer {

namespace {

void require_pair(const Check& check, const Pair& pair, std::int64_t least,
                  const std::string& name) {
    check.require(pair.height >= least && pair.width >= least && pair.height <= longest &&
                      pair.width <= longest,
                  name + " must be between " + std::to_string(least) + " and 2^16");
}

// How many windows there are along one axis, as PyTorch counts them; 0 or less where none fits.
std::int64_t positions(std::int64_t size, std::int64_t kernel, std::int64_t stride,
                       std::int64_t padding, std::int64_t dilation, bool ceil) {
    const std::int64_t room = size + 2 * padding - (dilation * (kernel - 1) + 1);
    if (room < 0 && !(ceil && room + stride > 0)) return 0;
    std::int64_t steps = ceil && room > 0 ? divided_up(room, stride) : room < 0 ? 0 : room / stride;
    // A last window that would begin in the padding behind the end is left out.
    if (ceil && steps * stride >= size + padding) --steps;
    return steps + 1;
}

// A further input of the network; the executors fill it in.
class Input final : public Layer {
  public:
    explicit Input(const Shape& shape) : shape_(shape) {}
    bool enters() const override { return true; }
    Shape check(const Check&) override { return shape_; }

  private:
    Shape shape_;
};

Shape checked(Layer& layer, const Check& check, const std::vector<Shape>& shapes) {
    check.require(!layer.reads.empty() || layer.enters(), "must read a value");
    check.require(static_cast<std::int64_t>(layer.reads.size()) <= most_layers,
                  "must read at most 2^16 values");
    layer.taken.clear();
    for (const int number : layer.reads) {
        check.require(
            number >= 0 && number < static_cast<int>(shapes.size()),
            "reads value " + std::to_string(number) + ", which is not computed before it");
        layer.taken.push_back(shapes[static_cast<std::size_t>(number)]);
    }
    return layer.given = check.sound(layer.check(check));
}

}  // namespace

void Plan::add_input(const Shape& shape) { layers.push_back(std::make_shared<Input>(shape)); }

void check(Plan& plan) {
    plan.shapes.assign(1, Check("input").sound(plan.input));
    const Check network("network");
    network.require(static_cast<std::int64_t>(plan.layers.size()) <= most_layers,
                    "must have at most 2^16 layers");
    plan.inputs = 1;
    for (std::size_t number = 0; number < plan.layers.size(); ++number) {
        const Check layer("layer " + std::to_string(number));
        if (plan.layers[number]->enters()) {
            layer.require(plan.inputs == number + 1, "inputs must come before all else");
            ++plan.inputs;
        }
        plan.shapes.push_back(checked(*plan.layers[number], layer, plan.shapes));
    }
    network.require(!plan.outputs.empty() && plan.outputs.size() <= most_layers,
                    "must have between 1 and 2^16 outputs");
    for (const int output : plan.outputs) {
        network.require(output >= 0 && output < static_cast<int>(plan.shapes.size()),
                        "output must be the number of a value");
    }
}

Plan leading(const Plan& plan, std::size_t layers) {
    const auto count = static_cast<std::ptrdiff_t>(layers);
    return {plan.input,
            {plan.layers.begin(), plan.layers.begin() + count},
            {static_cast<int>(layers)},
            {plan.shapes.begin(), plan.shapes.begin() + count + 1},
            plan.inputs};
}

Plan trailing(const Plan& plan, std::size_t layers) {
    const Shape unread{false, 1};
    Plan part{unread, plan.layers, plan.outputs, plan.shapes, layers + 1};
    std::fill_n(part.shapes.begin(), layers, unread);
    for (std::size_t number = 0; number < layers; ++number) {
        part.layers[number] = std::make_shared<Input>(part.shapes[number + 1]);
        part.layers[number]->given = part.shapes[number + 1];
    }
    return part;
}

void Check::require(bool sound, const std::string& expected) const {
    if (!sound) throw std::invalid_argument(where_ + ": " + expected);
}

Shape Check::shape(const std::vector<std::int64_t>& sizes) const {
    require(!sizes.empty() && sizes.size() <= most_axes, "a value must have one axis to five");
    std::int64_t total = 1;
    for (const std::int64_t size : sizes) {
        require(size >= 1 && size <= most_numbers && total * size <= most_numbers,
                "every size of a value must be at least 1 and their product at most 2^28");
        total *= size;
    }
    if (sizes.size() == 1) return {false, sizes[0], 1, 1};
    Shape shape{true, sizes.front(), total / sizes.front() / sizes.back(), sizes.back()};
    if (sizes.size() != 3) shape.axes = sizes;
    return shape;
}

Shape Check::sound(const Shape& shape) const {
    const std::int64_t sizes[] = {shape.channels, shape.height, shape.width};
    std::int64_t total = 1;
    for (const std::int64_t size : sizes) {
        require(size >= 1 && size <= most_numbers && total * size <= most_numbers,
                "every size of a value must be at least 1 and their product at most 2^28");
        total *= size;
    }
    require(shape.image || (shape.height == 1 && shape.width == 1),
            "a value of features must have no height and width");
    return shape;
}

void Check::followed(Epilogue& epilogue, const std::vector<Shape>& taken, const Shape& sums) const {
    require(epilogue.residual < 0 || taken.back() == sums,
            "residual must be a value of the shape of its sums");
    std::vector<float>&scale = epilogue.scale, &shift = epilogue.shift;
    const auto channels = static_cast<std::size_t>(sums.channels);
    require(scale.empty() || scale.size() == channels, "scale must have a number for each channel");
    require(shift.empty() || shift.size() == channels, "shift must have a number for each channel");
    if (scale.empty() == shift.empty()) return;
    scale.resize(channels, 1.0f);
    shift.resize(channels, 0.0f);
}

Shape Check::windows(const Shape& input, const Window& window, bool ceil, std::int64_t channels,
                     const std::string& of) const {
    const auto& [kernel, stride, padding, dilation] = window;
    require_pair(*this, kernel, 1, "kernel" + of);
    require_pair(*this, stride, 1, "stride" + of);
    require_pair(*this, dilation, 1, "dilation" + of);
    require_pair(*this, padding, 0, "padding" + of);
    sound(
        {true, input.channels, input.height + 2 * padding.height, input.width + 2 * padding.width});
    return sound(
        {true, channels,
         positions(input.height, kernel.height, stride.height, padding.height, dilation.height,
                   ceil),
         positions(input.width, kernel.width, stride.width, padding.width, dilation.width, ceil)});
}

Shape Check::pooled(const Pooling& pooling, const Shape& input) const {
    require(input.image, "a pooling must read (channels, height, width)");
    const auto& [kernel, stride, padding, dilation] = pooling.window;
    const Shape found =
        windows(input, pooling.window, pooling.ceil, input.channels, " of the pooling");
    require(pooling.kind == PoolingKind::max || (dilation.height == 1 && dilation.width == 1),
            "an average must have no dilation");
    require(2 * padding.height <= kernel.height && 2 * padding.width <= kernel.width,
            "padding of the pooling must be at most half of its kernel");
    return found;
}

void Check::weights(const Weights& weights) const {
    require(weights.rows >= 1 && weights.rows <= most_numbers && weights.columns >= 1 &&
                weights.columns <= most_weights / weights.rows,
            "weights must have 1 to 2^28 rows, 1 column or more, and at most 2^31 - 1 numbers");
    const auto stored = static_cast<std::int64_t>(weights.values.size());
    if (weights.kind == WeightsKind::dense) {
        require(weights.starts.empty() && weights.indices.empty(),
                "dense weights must have no starts and indices");
        require(stored == weights.rows * weights.columns,
                "dense weights must have rows x columns values");
        return;
    }
    const std::int64_t lanes = weights.kind == WeightsKind::block ? block_rows : 1;
    const std::int64_t groups = divided_up(weights.rows, lanes);
    const auto indices = static_cast<std::int64_t>(weights.indices.size());
    require(stored == lanes * indices, "weights must have as many values as their indices ask for");
    require(static_cast<std::int64_t>(weights.starts.size()) == groups + 1 &&
                weights.starts.front() == 0 && weights.starts.back() == indices,
            "starts must go from 0 to the number of indices, one for each row and one more");
    for (std::size_t group = 0; group + 1 < weights.starts.size(); ++group)
        row(weights, weights.starts[group], weights.starts[group + 1]);
}

void Check::row(const Weights& weights, std::int64_t begin, std::int64_t end) const {
    require(begin >= 0 && begin <= end && end <= static_cast<std::int64_t>(weights.indices.size()),
            "starts must ascend");
    std::int64_t last = -1;
    for (std::int64_t at = begin; at < end; ++at) {
        const std::int64_t index = weights.indices[static_cast<std::size_t>(at)];
        require(index > last && index < weights.columns,
                "indices of a row must ascend and be below the number of columns");
        last = index;
    }
}

}  // namespace gossamer
