// What is run: the network of kernels/network.py as plain structs, checked once by `check`.
//
// Included by portable code only: the units compiled for one instruction set must not share
// functions of these types with the others (see batched/kernels.hpp).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <stdexcept>
#include <vector>

#include "core/kinds.hpp"

namespace gossamer {

// `alpha` is the slope of leaky_relu below 0 and the scale of elu.
struct Activation {
    ActivationKind kind = ActivationKind::identity;
    float alpha = 1.0f;
};

struct Pair {
    std::int64_t height = 1;
    std::int64_t width = 1;
};

// One value of one example: (features,), or (channels, height, width). A value of features has
// height and width 1.
struct Shape {
    bool image = false;
    std::int64_t channels = 0;
    std::int64_t height = 1;
    std::int64_t width = 1;
    std::int64_t size() const { return channels * height * width; }
};

inline bool operator==(const Shape& a, const Shape& b) {
    return a.image == b.image && a.channels == b.channels && a.height == b.height &&
           a.width == b.width;
}

enum class WeightsKind { dense, sparse, block };

// A matrix [rows, columns], as `Weights` of kernels/network.py. After `check`: starts ascend from 0
// to the number of indices, and the indices of one row (of one group of 4 rows) ascend within
// [0, columns).
struct Weights {
    WeightsKind kind = WeightsKind::dense;
    std::int64_t rows = 0;
    std::int64_t columns = 0;
    std::vector<float> values;
    std::vector<std::int64_t> starts;
    std::vector<std::int32_t> indices;
};

inline constexpr std::int64_t block_rows = 4;

struct Pooling {
    PoolingKind kind = PoolingKind::max;
    Pair kernel;
    Pair stride;
    Pair padding{0, 0};
    Pair dilation;
    bool ceil = false;
    bool counts_padding = true;
};

// In this order: residual, activation, scale and shift, pooling.
struct Epilogue {
    int residual = -1;          // number of a value of the shape `sums`, or -1
    Activation activation;
    std::vector<float> scale;   // both [channels], or both empty
    std::vector<float> shift;
    std::optional<Pooling> pooling;
};

enum class LayerKind { linear, convolution, pool, pointwise, concatenate, reshape, softmax };

// One layer; the fields that its kind does not name stay as they are here.
struct Layer {
    LayerKind kind = LayerKind::linear;
    std::vector<int> inputs;    // numbers of values; one, but for concatenate
    Weights weights;            // linear, convolution
    Pair kernel;                // convolution
    Pair stride;
    Pair padding{0, 0};
    Pair dilation;
    std::int64_t groups = 1;
    std::vector<float> bias;    // empty, [channels], or [channels, height, width] of the sums
    Epilogue epilogue;          // linear, convolution, pointwise; a pool has its pooling here
    Shape target;               // reshape
    bool logarithm = false;     // softmax
    Shape sums;                 // set by `check`: the shape before pooling
    bool bias_by_position = false;  // set by `check`
};

// Value 0 is the input, value n + 1 what layer n gives.
struct Plan {
    Shape input;
    std::vector<Layer> layers;
    int output = 0;
    std::vector<Shape> shapes;  // set by `check`: of every value
};

// The limits of kernels/checks.py. With them no product of the sizes of a layer overflows 64 bits.
inline constexpr std::int64_t most_numbers = std::int64_t{1} << 28;  // of a value, padding included
inline constexpr std::int64_t most_weights = (std::int64_t{1} << 31) - 1;  // zeros included
inline constexpr std::int64_t most_layers = std::int64_t{1} << 16;
inline constexpr std::int64_t longest = std::int64_t{1} << 16;  // kernel, stride, padding, dilation

// A sound plan that an executor cannot hold.
struct TooLarge : std::overflow_error {
    using std::overflow_error::overflow_error;
};

// Fill in what is "set by check", after every index, start, shape and number has been seen to be
// sound. Throws std::invalid_argument with one sentence otherwise.
void check(Plan& plan);

// The number of windows along one axis, as PyTorch counts them; 0 or less where none fits.
std::int64_t window_positions(std::int64_t size, std::int64_t kernel, std::int64_t stride,
                              std::int64_t padding, std::int64_t dilation, bool ceil);

class Team;  // threads.hpp

// Runs a plan. Constant after construction, so that several callers may run it at once, each with
// a scratch of its own.
class Executor {
  public:
    virtual ~Executor() = default;

    // How many examples one call takes at most.
    virtual std::int64_t lanes() const = 0;

    // How many examples take no longer than one.
    virtual std::int64_t granule() const { return 1; }

    // Floats of scratch that one call needs; the caller aligns them to 64 bytes. They are zeros
    // before their first call, and as the call before left them before any other.
    virtual std::size_t scratch_floats() const = 0;

    // From inputs [count, input size] to outputs [count, output size], 0 < count <= lanes(). May
    // split its work over the members of the team, or leave all of it to the calling thread. Where
    // `layer_seconds` [layers] is given, adds to it the time that each layer took.
    virtual void run(const float* inputs, float* outputs, std::int64_t count, float* scratch,
                     Team& team, double* layer_seconds) const noexcept = 0;
};

// Many examples at once, on the calling thread. Both executors copy what they need of the plan, and
// may throw TooLarge.
std::unique_ptr<Executor> make_batched_executor(const Plan& plan, InstructionSet set);

// One example (lanes() == 1), split over the team within each layer (single/executor.cpp).
std::unique_ptr<Executor> make_single_executor(const Plan& plan, InstructionSet set);

}  // namespace gossamer
