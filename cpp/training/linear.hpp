// A sparse linear layer in training: its outputs and its gradients.
#pragma once

#include <cstdint>

#include "training/index.hpp"

namespace gossamer::training {

// Examples' features in memory, one of which follow each other: features of an example, or examples
// of a feature.
struct Strided {
    const float* data;
    std::ptrdiff_t example;
    std::ptrdiff_t feature;
};

// Outputs [rows][examples]. The same whatever the number of threads.
void forward(const Index& index, const float* values, const float* bias, const Strided& inputs,
             std::int64_t examples, float* outputs, int threads);

// Null for what is not wanted: that of the inputs, or those of the values and the bias (where there
// are no values, that of the bias says so).
struct Gradients {
    float* inputs;  // [columns][examples]
    float* values;  // [non-zeros]
    float* bias;    // [rows]
};

void backward(const Index& index, const float* values, const Strided& inputs,
              const Strided& gradient, std::int64_t examples, const Gradients& wanted, int threads);

}  // namespace gossamer::training
