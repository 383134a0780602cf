// The Python module gossamer.kernels._native. What it takes is checked by `check` (plan.cpp).

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <memory>
#include <stdexcept>
#include <string_view>
#include <utility>

#include "core/engine.hpp"
#include "core/instruction_sets.hpp"
#include "core/peak.hpp"
#include "core/refusals.hpp"
#include "decoding/kept_attention.hpp"
#include "ops/layer.hpp"
#include "training/bindings.hpp"

namespace nb = nanobind;

namespace gossamer {

namespace {

template <class Number>
using Numbers = nb::ndarray<const Number, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Two = std::pair<std::int64_t, std::int64_t>;

template <class Number>
std::vector<Number> copied(const Numbers<Number>& array) {
    return std::vector<Number>(array.data(), array.data() + array.size());
}

template <class Number>
std::vector<Number> copied(const std::optional<Numbers<Number>>& array) {
    return array ? copied(*array) : std::vector<Number>();
}

Pair pair_of(const Two& sizes) { return {sizes.first, sizes.second}; }

template <class Kind>
Kind named(const std::map<std::string, Kind>& names, const std::string& name) {
    const auto found = names.find(name);
    if (found == names.end()) throw std::invalid_argument("\"" + name + "\" is not known");
    return found->second;
}

const std::map<std::string, ActivationKind> activations = {
    {"identity", ActivationKind::identity},
    {"relu", ActivationKind::relu},
    {"relu6", ActivationKind::relu6},
    {"leaky-relu", ActivationKind::leaky_relu},
    {"elu", ActivationKind::elu},
    {"gelu", ActivationKind::gelu},
    {"gelu-tanh", ActivationKind::gelu_tanh},
    {"silu", ActivationKind::silu},
    {"hardswish", ActivationKind::hardswish},
    {"sigmoid", ActivationKind::sigmoid},
    {"tanh", ActivationKind::tanh},
};
const std::map<std::string, WeightsKind> weights_kinds = {
    {"dense", WeightsKind::dense},
    {"csr", WeightsKind::sparse},
    {"block", WeightsKind::block},
};
const std::map<std::string, PoolingKind> pooling_kinds = {
    {"max", PoolingKind::max},
    {"average", PoolingKind::average},
};

void add_weights(nb::module_& module) {
    nb::class_<Weights>(module, "Weights")
        .def(
            "__init__",
            [](Weights* self, const std::string& kind, std::int64_t rows, std::int64_t columns,
               const Numbers<float>& values, const Numbers<std::int64_t>& starts,
               const Numbers<std::int32_t>& indices) {
                new (self) Weights{named(weights_kinds, kind),
                                   rows,
                                   columns,
                                   copied(values),
                                   copied(starts),
                                   copied(indices)};
            },
            nb::arg("kind"), nb::arg("rows"), nb::arg("columns"), nb::arg("values"),
            nb::arg("starts"), nb::arg("indices"));
}

void add_epilogue(nb::module_& module) {
    nb::class_<Pooling>(module, "Pooling")
        .def(
            "__init__",
            [](Pooling* self, const std::string& kind, Two kernel, Two stride, Two padding,
               Two dilation, bool ceil, bool counts_padding) {
                new (self)
                    Pooling{named(pooling_kinds, kind),
                            {pair_of(kernel), pair_of(stride), pair_of(padding), pair_of(dilation)},
                            ceil,
                            counts_padding};
            },
            nb::arg("kind"), nb::arg("kernel"), nb::arg("stride"), nb::arg("padding"),
            nb::arg("dilation"), nb::arg("ceil"), nb::arg("counts_padding"));
    nb::class_<Epilogue>(module, "Epilogue")
        .def(
            "__init__",
            [](Epilogue* self, std::optional<int> residual, const std::string& activation,
               float alpha, const std::optional<Numbers<float>>& scale,
               const std::optional<Numbers<float>>& shift, const std::optional<Pooling>& pooling) {
                if (residual && *residual < 0)
                    throw std::invalid_argument("residual must be the number of a value");
                new (self) Epilogue{residual.value_or(-1),
                                    named(activations, activation),
                                    alpha,
                                    copied(scale),
                                    copied(shift),
                                    pooling};
            },
            nb::arg("residual").none(), nb::arg("activation"), nb::arg("alpha"),
            nb::arg("scale").none(), nb::arg("shift").none(), nb::arg("pooling").none());
}

// The first of these types that a value is of.
template <class Type, class... Others>
Field field_of(nb::handle value) {
    Type found;
    if (nb::try_cast<Type>(value, found, false)) {
        if constexpr (std::is_same_v<Type, Numbers<float>>)
            return copied(found);
        else
            return found;
    }
    if constexpr (sizeof...(Others) > 0)
        return field_of<Others...>(value);
    else
        throw std::invalid_argument("a field of a layer cannot be of such a type");
}

// None is as if it were not there.
std::map<std::string, Field> fields_of(const nb::dict& given) {
    std::map<std::string, Field> fields;
    for (const auto& [name, value] : given) {
        if (value.is_none()) continue;
        fields.emplace(nb::cast<std::string>(name),
                       field_of<bool, std::int64_t, double, std::string, Numbers<float>, Sizes,
                                Weights, Pooling, Epilogue>(value));
    }
    return fields;
}

void add_layer(Plan& plan, const std::string& name, std::vector<int> inputs,
               const nb::typed<nb::dict, nb::str, nb::object>& fields) {
    plan.layers.push_back(make_layer(name, std::move(inputs), fields_of(fields)));
}

void add_plan(nb::module_& module) {
    nb::class_<Plan>(module, "Plan")
        .def(
            "__init__",
            [](Plan* self, const std::vector<std::int64_t>& input_shape) {
                new (self) Plan{};
                self->input = Check("input").shape(input_shape);
            },
            nb::arg("input_shape"))
        .def("add", &add_layer, nb::arg("name"), nb::arg("inputs"), nb::arg("fields"),
             "Add a layer of any operator; a field that is None is as if it were not given.")
        .def(
            "add_input",
            [](Plan& self, const std::vector<std::int64_t>& shape) {
                self.add_input(Check("input").shape(shape));
            },
            nb::arg("shape"), "Add a further input; no layer may stand before it.")
        .def_rw("outputs", &Plan::outputs)
        .def(
            "check",
            [](Plan& self) {
                check(self);
                std::vector<std::vector<std::int64_t>> shapes;
                for (const Shape& shape : self.shapes) shapes.push_back(shape.sizes());
                return shapes;
            },
            "Check every number; return the shape of every value.");
}

// A contiguous float32 array [examples, ...], held while this lives. A call takes a few
// microseconds where the network is small: the buffer protocol costs a fifth of what nb::ndarray
// does.
class Buffer {
  public:
    Buffer(nb::handle array, int flags) {
        if (PyObject_GetBuffer(array.ptr(), &buffer_, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT | flags))
            nb::raise_python_error();
        if (buffer_.ndim < 1 || std::string_view(buffer_.format) != "f") {
            PyBuffer_Release(&buffer_);
            throw std::invalid_argument("arrays must be float32 of one axis or more");
        }
    }
    ~Buffer() { PyBuffer_Release(&buffer_); }
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = delete;

    float* data() const { return static_cast<float*>(buffer_.buf); }
    std::int64_t count() const { return buffer_.shape[0]; }
    bool has(std::int64_t examples, std::int64_t numbers) const {
        return count() == examples &&
               buffer_.len == examples * numbers * static_cast<std::int64_t>(sizeof(float));
    }

  private:
    Py_buffer buffer_;
};

// The arrays of a call, held while this lives: of one, or a tuple of several.
class Arrays {
  public:
    Arrays(nb::handle given, int flags, const std::vector<std::int64_t>& sizes) {
        if (nb::isinstance<nb::tuple>(given))
            for (const nb::handle array : nb::cast<nb::tuple>(given))
                held_.push_back(std::make_unique<Buffer>(array, flags));
        else
            held_.push_back(std::make_unique<Buffer>(given, flags));
        if (held_.size() != sizes.size())
            throw std::invalid_argument("there must be " + std::to_string(sizes.size()) +
                                        " arrays");
        for (std::size_t which = 0; which < held_.size(); ++which) {
            if (!held_[which]->has(count(), sizes[which])) {
                throw std::invalid_argument("arrays must have " + std::to_string(sizes[which]) +
                                            " numbers for each example");
            }
            data_.push_back(held_[which]->data());
        }
    }

    std::int64_t count() const { return held_[0]->count(); }
    float* const* data() const { return data_.data(); }

  private:
    std::vector<std::unique_ptr<Buffer>> held_;
    std::vector<float*> data_;
};

void check_threads(int threads) {
    if (threads < 1 || threads > 1024)
        throw std::invalid_argument("threads must be between 1 and 1024");
}

void run(const Engine& engine, nb::handle input_arrays, nb::handle output_arrays, int threads) {
    const Arrays inputs(input_arrays, PyBUF_SIMPLE, engine.input_sizes());
    const Arrays outputs(output_arrays, PyBUF_WRITABLE, engine.output_sizes());
    check_threads(threads);
    if (outputs.count() != inputs.count())
        throw std::invalid_argument("outputs must have a row for each example");
    nb::gil_scoped_release release;
    engine.run({inputs.data(), outputs.data(), 0, inputs.count()}, threads, nullptr);
}

// The least time of each layer over the repeats.
std::vector<double> layer_seconds(const Engine& engine, nb::handle input_arrays, int threads,
                                  int repeats) {
    const Arrays inputs(input_arrays, PyBUF_SIMPLE, engine.input_sizes());
    check_threads(threads);
    const std::int64_t count = inputs.count();
    nb::gil_scoped_release release;
    std::vector<std::vector<float>> outputs;
    std::vector<float*> places;
    for (const std::int64_t size : engine.output_sizes()) {
        outputs.emplace_back(static_cast<std::size_t>(count * size));
        places.push_back(outputs.back().data());
    }
    std::vector<double> least(engine.layers());
    for (int repeat = 0; repeat < repeats; ++repeat) {
        std::vector<double> seconds(engine.layers());
        engine.run({inputs.data(), places.data(), 0, count}, threads, seconds.data());
        for (std::size_t layer = 0; layer < least.size(); ++layer)
            least[layer] = repeat == 0 ? seconds[layer] : std::min(least[layer], seconds[layer]);
    }
    // Inputs behind the first count as layers in a plan only.
    least.erase(least.begin(),
                least.begin() + static_cast<std::ptrdiff_t>(engine.input_sizes().size()) - 1);
    return least;
}

void add_engine(nb::module_& module) {
    nb::class_<Engine>(module, "Engine")
        .def(
            "__init__",
            [](Engine* self, const Plan& plan, const std::string& instruction_set) {
                new (self) Engine(plan, instruction_set_named(instruction_set));
            },
            nb::arg("plan"), nb::arg("instruction_set"))
        .def_prop_ro("instruction_set",
                     [](const Engine& self) { return name_of(self.instruction_set()); })
        .def_prop_ro("leading", &Engine::leading)
        .def("run", &run, nb::arg("inputs"), nb::arg("outputs"), nb::arg("threads"))
        .def("layer_seconds", &layer_seconds, nb::arg("inputs"), nb::arg("threads"),
             nb::arg("repeats"));
}

void attend(KeptAttention& kept, const std::vector<std::int64_t>& places, nb::handle queries,
            nb::handle keys, nb::handle values, nb::handle outputs) {
    const std::int64_t sequences = kept.form().sequences;
    const Buffer query(queries, PyBUF_SIMPLE), key(keys, PyBUF_SIMPLE), value(values, PyBUF_SIMPLE);
    const Buffer output(outputs, PyBUF_WRITABLE);
    const std::int64_t most = kept.form().most;
    if (static_cast<std::int64_t>(places.size()) != sequences ||
        std::any_of(places.begin(), places.end(),
                    [&](std::int64_t place) { return place >= most; }))
        throw std::invalid_argument(
            "there must be a place for each sequence, of those that there is room for");
    if (!query.has(sequences, kept.queries()) || !key.has(sequences, kept.keys()) ||
        !value.has(sequences, kept.values()) || !output.has(sequences, kept.outputs()))
        throw std::invalid_argument("arrays must have the numbers of a token for each sequence");
    kept.attend(places.data(), query.data(), key.data(), value.data(), output.data());
}

void add_decoding(nb::module_& module) {
    nb::class_<KeptAttention>(module, "KeptAttention")
        .def(
            "__init__",
            [](KeptAttention* self, std::int64_t sequences, std::int64_t most, std::int64_t heads,
               std::int64_t key_heads, std::int64_t width, std::int64_t depth, float scale,
               nb::handle added, const std::string& instruction_set) {
                const Buffer given(added, PyBUF_SIMPLE);
                std::vector<float> numbers(given.data(), given.data() + given.count());
                new (self)
                    KeptAttention({sequences, most, heads, key_heads, width, depth, scale},
                                  std::move(numbers), instruction_set_named(instruction_set));
            },
            nb::arg("sequences"), nb::arg("most"), nb::arg("heads"), nb::arg("key_heads"),
            nb::arg("width"), nb::arg("depth"), nb::arg("scale"), nb::arg("added"),
            nb::arg("instruction_set"),
            "`added` to the scores is an array of no numbers or [1 or heads x most x most].")
        .def_prop_ro("bytes", &KeptAttention::bytes)
        .def("attend", &attend, nb::arg("places"), nb::arg("query"), nb::arg("key"),
             nb::arg("value"), nb::arg("output"),
             "Keep the key and the value of a token of each sequence at its place, and attend from "
             "it; "
             "a sequence whose place is below 0 keeps nothing and gets zeros.");
}

}  // namespace

}  // namespace gossamer

NB_MODULE(_native, module) {
    using namespace gossamer;
    // A network may live as long as the process through no fault of these bindings, whose objects
    // hold none of Python's: PyTorch keeps the hook of a parameter, and with it all globals of the
    // script that made it, where the garbage collector cannot see. nanobind would call that a leak.
    nb::set_leak_warnings(false);
    add_weights(module);
    add_epilogue(module);
    add_plan(module);
    add_engine(module);
    add_decoding(module);
    training::add_bindings(module);
    module.def("available_instruction_sets", [] {
        std::vector<std::string> names;
        for (const InstructionSet set : available_instruction_sets()) names.push_back(name_of(set));
        return names;
    });
    module.def("operators", &operators, "Names that `Plan.add` takes.");
    module.def("refusals", &refusals,
               "How often a number was met that counts no row or place, in all engines.");
    module.attr("MOST_NUMBERS") = most_numbers;
    module.attr("MOST_WEIGHTS") = most_weights;
    module.attr("MOST_LAYERS") = most_layers;
    module.attr("LONGEST") = longest;
    module.def(
        "fma_peak",
        [](const std::string& set, double seconds) {
            const InstructionSet found = instruction_set_named(set);
            nb::gil_scoped_release release;
            return multiply_add_peak(found, seconds);
        },
        nb::arg("instruction_set"), nb::arg("seconds"),
        "Floating-point operations a second of one core, in registers.");
    module.def(
        "read_bandwidth",
        [](const std::string& set, std::int64_t bytes, double seconds) {
            const InstructionSet found = instruction_set_named(set);
            nb::gil_scoped_release release;
            return read_bandwidth(found, bytes, seconds);
        },
        nb::arg("instruction_set"), nb::arg("bytes"), nb::arg("seconds"),
        "Bytes a second that one core reads of an array of so many bytes, over and over.");
}
