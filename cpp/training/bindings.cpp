#include "training/bindings.hpp"

#include <nanobind/ndarray.h>
#include <nanobind/stl/array.h>
#include <nanobind/stl/string.h>

#include "core/instruction_sets.hpp"
#include "training/convolution.hpp"
#include "training/linear.hpp"

namespace nb = nanobind;

namespace gossamer::training {

namespace {

// Where the memory of a tensor begins, 0 for none. A layer of a small network takes a few
// microseconds, of which an array of its own for each tensor would cost more than the rest.
using Address = std::uintptr_t;

template <class Number>
Number* at(Address address) {
    return reinterpret_cast<Number*>(address);
}

Strided strided(Address address, std::ptrdiff_t example, std::ptrdiff_t feature) {
    if (example != 1 && feature != 1)
        throw std::invalid_argument("features of an example or examples of one must follow");
    return {at<const float>(address), example, feature};
}

void add_linear(nb::module_& module) {
    nb::class_<Index>(module, "TrainingIndex",
                      "Where the non-zeros of a sparse layer stand. The memory at the addresses "
                      "that its methods take is the caller's to check: float32, outputs and the "
                      "gradient of the inputs [features][examples].")
        .def(
            "__init__",
            [](Index* self, Address positions, std::int64_t count, std::int64_t rows,
               std::int64_t columns, const std::string& instruction_set) {
                const InstructionSet set = instruction_set_named(instruction_set);
                nb::gil_scoped_release release;
                new (self) Index(at<const std::int64_t>(positions), count, rows, columns, set);
            },
            nb::arg("positions"), nb::arg("count"), nb::arg("rows"), nb::arg("columns"),
            nb::arg("instruction_set"))
        .def(
            "forward",
            [](const Index& self, Address values, Address bias, Address inputs,
               std::ptrdiff_t example, std::ptrdiff_t feature, std::int64_t examples,
               Address outputs, int threads) {
                const Strided given = strided(inputs, example, feature);
                nb::gil_scoped_release release;
                forward(self, at<const float>(values), at<const float>(bias), given, examples,
                        at<float>(outputs), threads);
            },
            nb::arg("values"), nb::arg("bias"), nb::arg("inputs"), nb::arg("example"),
            nb::arg("feature"), nb::arg("examples"), nb::arg("outputs"), nb::arg("threads"))
        .def(
            "backward",
            [](const Index& self, Address values, Address inputs, std::ptrdiff_t example,
               std::ptrdiff_t feature, Address gradient, std::ptrdiff_t gradient_example,
               std::ptrdiff_t gradient_feature, std::int64_t examples, Address of_inputs,
               Address of_values, Address of_bias, int threads) {
                const Strided given = strided(inputs, example, feature);
                const Strided coming = strided(gradient, gradient_example, gradient_feature);
                const Gradients wanted{at<float>(of_inputs), at<float>(of_values),
                                       at<float>(of_bias)};
                nb::gil_scoped_release release;
                backward(self, at<const float>(values), given, coming, examples, wanted, threads);
            },
            nb::arg("values"), nb::arg("inputs"), nb::arg("example"), nb::arg("feature"),
            nb::arg("gradient"), nb::arg("gradient_example"), nb::arg("gradient_feature"),
            nb::arg("examples"), nb::arg("of_inputs"), nb::arg("of_values"), nb::arg("of_bias"),
            nb::arg("threads"));
}

void add_convolution(nb::module_& module) {
    using Numbers = std::array<std::int64_t, 6>;
    const auto axis = [](const Numbers& given) {
        return Axis{given[0], given[1], given[2], given[3], given[4], given[5]};
    };
    nb::class_<Convolution>(
        module, "TrainingConvolution",
        "Where the non-zeros of a sparse convolution stand, for images of one "
        "size. The memory at the addresses that its methods take is the "
        "caller's to check: float32, [images][channels][height][width] or channels "
        "last; outputs and the gradient of the inputs lie as the inputs do.")
        .def(
            "__init__",
            [axis](Convolution* self, Address positions, std::int64_t count, std::int64_t outputs,
                   std::int64_t inputs, std::int64_t groups, const Numbers& vertical,
                   const Numbers& horizontal, const std::string& instruction_set) {
                const InstructionSet set = instruction_set_named(instruction_set);
                nb::gil_scoped_release release;
                new (self)
                    Convolution(at<const std::int64_t>(positions), count, {outputs, inputs, groups},
                                axis(vertical), axis(horizontal), set);
            },
            nb::arg("positions"), nb::arg("count"), nb::arg("outputs"), nb::arg("inputs"),
            nb::arg("groups"), nb::arg("vertical"), nb::arg("horizontal"),
            nb::arg("instruction_set"))
        .def(
            "forward",
            [](const Convolution& self, Address values, Address bias, Address inputs,
               bool channels_last, std::int64_t images, Address outputs, int threads) {
                nb::gil_scoped_release release;
                self.forward(at<const float>(values), at<const float>(bias),
                             {at<const float>(inputs), channels_last}, images, at<float>(outputs),
                             threads);
            },
            nb::arg("values"), nb::arg("bias"), nb::arg("inputs"), nb::arg("channels_last"),
            nb::arg("images"), nb::arg("outputs"), nb::arg("threads"))
        .def(
            "backward",
            [](const Convolution& self, Address values, Address inputs, bool channels_last,
               Address gradient, bool gradient_channels_last, std::int64_t images,
               Address of_inputs, Address of_values, Address of_bias, int threads) {
                const Gradients wanted{at<float>(of_inputs), at<float>(of_values),
                                       at<float>(of_bias)};
                nb::gil_scoped_release release;
                self.backward(at<const float>(values), {at<const float>(inputs), channels_last},
                              {at<const float>(gradient), gradient_channels_last}, images, wanted,
                              threads);
            },
            nb::arg("values"), nb::arg("inputs"), nb::arg("channels_last"), nb::arg("gradient"),
            nb::arg("gradient_channels_last"), nb::arg("images"), nb::arg("of_inputs"),
            nb::arg("of_values"), nb::arg("of_bias"), nb::arg("threads"));
}

}  // namespace

void add_bindings(nb::module_& module) {
    add_linear(module);
    add_convolution(module);
}

}  // namespace gossamer::training
