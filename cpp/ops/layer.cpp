#include "ops/layer.hpp"

#include <map>
#include <stdexcept>
#include <utility>

namespace gossamer {

namespace {

using Makers = std::map<std::string, std::shared_ptr<Layer> (*)(Fields&)>;

Makers& makers() {
    static Makers known;
    return known;
}

}  // namespace

// Examples side by side follow each other, whatever groups they are in.
Strided of_example(const View& view, const Shape& shape, std::int64_t example) {
    const std::vector<std::int64_t> sizes = shape.sizes();
    const int rank = static_cast<int>(sizes.size());
    Strided found{view.data + example, rank, {}, {}};
    std::ptrdiff_t stride = view.row;
    for (int axis = rank; axis-- > 0;) {
        found.sizes[axis] = sizes[static_cast<std::size_t>(axis)];
        found.strides[axis] = axis == 0 ? view.channel : axis == rank - 1 ? view.pixel : stride;
        if (axis > 0 && axis < rank - 1) stride *= found.sizes[axis];
    }
    return found;
}

Registered::Registered(const char* name, std::shared_ptr<Layer> (*make)(Fields&)) {
    makers()[name] = make;
}

std::vector<std::string> operators() {
    std::vector<std::string> names;
    for (const auto& [name, _] : makers()) names.push_back(name);
    return names;
}

std::shared_ptr<Layer> make_layer(const std::string& name, std::vector<int> reads,
                                  std::map<std::string, Field> given) {
    const auto make = makers().find(name);
    if (make == makers().end())
        throw std::invalid_argument("there is no operator \"" + name + "\"");
    Fields fields(name, std::move(given));
    auto layer = make->second(fields);
    fields.end();
    if (layer->arity() > 0 && reads.size() != layer->arity()) {
        throw std::invalid_argument(name +
                                    " must read so many values: " + std::to_string(layer->arity()));
    }
    // What its fields name, the residual, comes last.
    layer->reads.insert(layer->reads.begin(), reads.begin(), reads.end());
    return layer;
}

void Layer::run(const Strided*, const Strided&) const {
    throw std::logic_error("an operator has no way to run");
}

Prepared Layer::prepare(InstructionSet, bool) const {
    if (reads.size() > most_strided) throw std::logic_error("an operator reads too many values");
    const auto layer = shared_from_this();
    return {[layer](const Call& call) {
        const View& output = call.output;
        const std::int64_t groups = layer->given.image ? 1 : output.pixels;
        for (std::int64_t example = 0; example < groups * output.pixel; ++example) {
            Strided inputs[most_strided];
            for (std::size_t which = 0; which < layer->reads.size(); ++which)
                inputs[which] = of_example(call.read(which), layer->taken[which], example);
            layer->run(inputs, of_example(output, layer->given, example));
        }
    }};
}

}  // namespace gossamer
