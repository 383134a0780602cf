// What plans and kernels both speak of. Enumerations only: this is included by units compiled for
// one instruction set (see simd/dispatch.hpp).
#pragma once

namespace gossamer {

enum class ActivationKind {
    identity, relu, relu6, leaky_relu, elu, gelu, gelu_tanh, silu, hardswish, sigmoid, tanh,
};

enum class PoolingKind { max, average };

enum class InstructionSet { baseline, avx2, avx512 };

}  // namespace gossamer
