// What Python sees of the kernels for training.
#pragma once

#include <nanobind/nanobind.h>

namespace gossamer::training {

void add_bindings(nanobind::module_& module);

}  // namespace gossamer::training
