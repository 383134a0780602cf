// Checks of a plan. Nothing that comes from a file is trusted: after `check`, no number in a plan
// can make an executor read or write outside of its buffers.
#include "core/plan.hpp"

#include <stdexcept>
#include <string>

namespace gossamer {

namespace {

class Checker {
  public:
    explicit Checker(Plan& plan) : plan_(plan) {}

    void check() {
        where_ = "input";
        plan_.shapes.assign(1, checked(plan_.input));
        require(static_cast<std::int64_t>(plan_.layers.size()) <= most_layers,
                "must have at most 2^16 layers");
        for (std::size_t number = 0; number < plan_.layers.size(); ++number) {
            where_ = "layer " + std::to_string(number);
            plan_.shapes.push_back(checked(output_of(plan_.layers[number])));
        }
        where_ = "network";
        require(plan_.output >= 0 && plan_.output < values(), "output must be the number of a value");
    }

  private:
    void require(bool sound, const std::string& expected) const {
        if (!sound) throw std::invalid_argument(where_ + ": " + expected);
    }

    int values() const { return static_cast<int>(plan_.shapes.size()); }

    Shape checked(const Shape& shape) const {
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

    const Shape& read(int number) const {
        require(number >= 0 && number < values(),
                "reads value " + std::to_string(number) + ", which is not computed before it");
        return plan_.shapes[static_cast<std::size_t>(number)];
    }

    Shape output_of(Layer& layer) const {
        require(!layer.inputs.empty(), "must read a value");
        require(static_cast<std::int64_t>(layer.inputs.size()) <= most_layers,
                "must read at most 2^16 values");
        require(layer.kind == LayerKind::concatenate || layer.inputs.size() == 1,
                "must read one value");
        const Shape input = read(layer.inputs[0]);
        switch (layer.kind) {
            case LayerKind::linear:
                return linear(layer, input);
            case LayerKind::convolution:
                return convolution(layer, input);
            case LayerKind::pool:
                layer.sums = input;
                require(layer.epilogue.pooling.has_value(), "a pool must have a pooling");
                return pooled(*layer.epilogue.pooling, input);
            case LayerKind::pointwise:
                layer.sums = input;
                require(!layer.epilogue.pooling, "a pointwise layer must have no pooling");
                return finished(layer);
            case LayerKind::concatenate:
                return concatenated(layer, input);
            case LayerKind::reshape:
                require(checked(layer.target).size() == input.size(),
                        "must reshape to as many numbers as it reads");
                return layer.target;
            case LayerKind::softmax:
                return input;
        }
        throw std::invalid_argument(where_ + ": its kind is not known");
    }

    Shape linear(Layer& layer, const Shape& input) const {
        check_weights(layer.weights);
        require(!input.image && input.channels == layer.weights.columns,
                "must read a value of " + std::to_string(layer.weights.columns) + " features");
        layer.sums = Shape{false, layer.weights.rows, 1, 1};
        require(!layer.epilogue.pooling, "a linear layer must have no pooling");
        check_bias(layer);
        return finished(layer);
    }

    Shape convolution(Layer& layer, const Shape& input) const {
        check_weights(layer.weights);
        require(input.image, "a convolution must read (channels, height, width)");
        check_pair(layer.kernel, 1, "kernel");
        check_pair(layer.stride, 1, "stride");
        check_pair(layer.dilation, 1, "dilation");
        check_pair(layer.padding, 0, "padding");
        require(layer.groups >= 1 && input.channels % layer.groups == 0 &&
                    layer.weights.rows % layer.groups == 0,
                "groups must divide the channels that it reads and its rows");
        require(layer.weights.kind != WeightsKind::block || layer.groups == 1 ||
                    layer.weights.rows / layer.groups % block_rows == 0,
                "rows of a group must be a multiple of 4, so that no block spans two groups");
        const std::int64_t taps = layer.kernel.height * layer.kernel.width;
        require(layer.weights.columns == input.channels / layer.groups * taps,
                "columns must be channels / groups times the size of the kernel");
        check_padded(input, layer.padding);
        layer.sums = checked(
            Shape{true, layer.weights.rows,
                  window_positions(input.height, layer.kernel.height, layer.stride.height,
                                   layer.padding.height, layer.dilation.height, false),
                  window_positions(input.width, layer.kernel.width, layer.stride.width,
                                   layer.padding.width, layer.dilation.width, false)});
        check_bias(layer);
        return finished(layer);
    }

    void check_padded(const Shape& input, const Pair& padding) const {
        checked(Shape{true, input.channels, input.height + 2 * padding.height,
                      input.width + 2 * padding.width});
    }

    void check_pair(const Pair& pair, std::int64_t least, const std::string& name) const {
        require(pair.height >= least && pair.width >= least && pair.height <= longest &&
                    pair.width <= longest,
                name + " must be between " + std::to_string(least) + " and 2^16");
    }

    void check_bias(Layer& layer) const {
        const auto size = static_cast<std::int64_t>(layer.bias.size());
        layer.bias_by_position = size != 0 && size != layer.sums.channels;
        require(!layer.bias_by_position || size == layer.sums.size(),
                "bias must have a number for each channel, or for each of its sums");
    }

    Shape finished(Layer& layer) const {
        Epilogue& epilogue = layer.epilogue;
        require(epilogue.residual == -1 || read(epilogue.residual) == layer.sums,
                "residual must be a value of the shape of its sums");
        const auto channels = static_cast<std::size_t>(layer.sums.channels);
        require(epilogue.scale.empty() || epilogue.scale.size() == channels,
                "scale must have a number for each channel");
        require(epilogue.shift.empty() || epilogue.shift.size() == channels,
                "shift must have a number for each channel");
        if (epilogue.scale.empty() != epilogue.shift.empty()) {
            epilogue.scale.resize(channels, 1.0f);
            epilogue.shift.resize(channels, 0.0f);
        }
        return epilogue.pooling ? pooled(*epilogue.pooling, layer.sums) : layer.sums;
    }

    Shape pooled(const Pooling& pooling, const Shape& input) const {
        require(input.image, "a pooling must read (channels, height, width)");
        check_pair(pooling.kernel, 1, "kernel of the pooling");
        check_pair(pooling.stride, 1, "stride of the pooling");
        check_pair(pooling.dilation, 1, "dilation of the pooling");
        check_pair(pooling.padding, 0, "padding of the pooling");
        require(pooling.kind == PoolingKind::max ||
                    (pooling.dilation.height == 1 && pooling.dilation.width == 1),
                "an average must have no dilation");
        require(2 * pooling.padding.height <= pooling.kernel.height &&
                    2 * pooling.padding.width <= pooling.kernel.width,
                "padding of the pooling must be at most half of its kernel");
        check_padded(input, pooling.padding);
        return checked(
            Shape{true, input.channels,
                  window_positions(input.height, pooling.kernel.height, pooling.stride.height,
                                   pooling.padding.height, pooling.dilation.height, pooling.ceil),
                  window_positions(input.width, pooling.kernel.width, pooling.stride.width,
                                   pooling.padding.width, pooling.dilation.width, pooling.ceil)});
    }

    Shape concatenated(const Layer& layer, const Shape& first) const {
        Shape all = first;
        all.channels = 0;
        for (const int number : layer.inputs) {
            const Shape& shape = read(number);
            require(shape.image == first.image && shape.height == first.height &&
                        shape.width == first.width,
                    "must concatenate values of one height and width");
            all.channels += shape.channels;
            require(all.channels <= most_numbers, "concatenates too many channels");
        }
        return all;
    }

    void check_weights(const Weights& weights) const {
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
        const bool block = weights.kind == WeightsKind::block;
        const std::int64_t groups =
            block ? (weights.rows + block_rows - 1) / block_rows : weights.rows;
        const auto indices = static_cast<std::int64_t>(weights.indices.size());
        require(stored == (block ? block_rows : 1) * indices,
                "weights must have as many values as their indices ask for");
        require(static_cast<std::int64_t>(weights.starts.size()) == groups + 1 &&
                    weights.starts.front() == 0 && weights.starts.back() == indices,
                "starts must go from 0 to the number of indices, one for each row and one more");
        for (std::size_t group = 0; group + 1 < weights.starts.size(); ++group) {
            check_row(weights, weights.starts[group], weights.starts[group + 1]);
        }
    }

    void check_row(const Weights& weights, std::int64_t begin, std::int64_t end) const {
        require(begin >= 0 && begin <= end &&
                    end <= static_cast<std::int64_t>(weights.indices.size()),
                "starts must ascend");
        std::int64_t last = -1;
        for (std::int64_t at = begin; at < end; ++at) {
            const std::int64_t index = weights.indices[static_cast<std::size_t>(at)];
            require(index > last && index < weights.columns,
                    "indices of a row must ascend and be below the number of columns");
            last = index;
        }
    }

    Plan& plan_;
    std::string where_;
};

}  // namespace

void check(Plan& plan) { Checker(plan).check(); }

std::int64_t window_positions(std::int64_t size, std::int64_t kernel, std::int64_t stride,
                              std::int64_t padding, std::int64_t dilation, bool ceil) {
    const std::int64_t room = size + 2 * padding - (dilation * (kernel - 1) + 1);
    if (room < 0 && !(ceil && room + stride > 0)) return 0;
    std::int64_t steps = ceil && room > 0 ? (room + stride - 1) / stride : room < 0 ? 0 : room / stride;
    // A last window that would begin in the padding behind the end is left out.
    if (ceil && steps * stride >= size + padding) --steps;
    return steps + 1;
}

}  // namespace gossamer
