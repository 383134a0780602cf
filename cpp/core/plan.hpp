// What is run: the network of kernels/network.py, checked once by `check`.
//
// Included by portable code only: the units compiled for one instruction set must not share
// functions of these types with the others (see simd/dispatch.hpp).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "core/plain.hpp"

namespace gossamer {

inline std::int64_t divided_up(std::int64_t number, std::int64_t by) {
    return (number + by - 1) / by;
}

inline std::int64_t rounded_up(std::int64_t number, std::int64_t multiple) {
    return divided_up(number, multiple) * multiple;
}

// One value of one example: (features,), or (channels, height, width). A value of features has
// height and width 1. A value of two, four or five axes lies as an image: its first axis counts the
// channels, its last one the width, and those between them make up the height.
struct Shape {
    bool image = false;
    std::int64_t channels = 0;
    std::int64_t height = 1;
    std::int64_t width = 1;
    std::vector<std::int64_t> axes{};  // all of them, where there are two, four or five
    std::int64_t size() const { return channels * height * width; }
    std::vector<std::int64_t> sizes() const {
        if (!axes.empty()) return axes;
        if (image) return {channels, height, width};
        return {channels};
    }
};

// Whether values lie in the same way.
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

// What follows the sums of a layer, in this order: a value of their shape is added, activation,
// scale and shift, pooling.
struct Epilogue {
    int residual = -1;  // number of the value that is added, or -1
    ActivationKind activation = ActivationKind::identity;
    float alpha = 1.0f;
    std::vector<float> scale;  // both [channels], or both empty
    std::vector<float> shift;
    std::optional<Pooling> pooling;

    Finish finish() const {
        const bool affine = !scale.empty();
        return {activation, alpha, affine ? scale.data() : nullptr,
                affine ? shift.data() : nullptr};
    }
};

class Layer;  // ops/layer.hpp

// Value 0 is the first input, value n + 1 what layer n gives. Further inputs are layers that read
// nothing, before all others.
struct Plan {
    Shape input;
    std::vector<std::shared_ptr<Layer>> layers;
    std::vector<int> outputs{0};
    std::vector<Shape> shapes;  // set by `check`: of every value
    std::size_t inputs = 1;     // set by `check`: how many

    void add_input(const Shape& shape);
};

// The limits of kernels/checks.py. With them no product of the sizes of a layer overflows 64 bits.
inline constexpr std::int64_t most_numbers = std::int64_t{1} << 28;  // of a value, padding included
inline constexpr std::int64_t most_weights = (std::int64_t{1} << 31) - 1;  // zeros included
inline constexpr int most_axes = 5;                                        // of a value
inline constexpr std::int64_t most_layers = std::int64_t{1} << 16;
inline constexpr std::int64_t longest = std::int64_t{1} << 16;  // kernel, stride, padding, dilation

// A sound plan that an executor cannot hold.
struct TooLarge : std::overflow_error {
    using std::overflow_error::overflow_error;
};

// See to every index, start, shape and number, and fill in what is "set by check". Nothing that
// comes from a file is trusted: afterwards, no number in a plan can make an executor read or write
// outside of its buffers. Throws std::invalid_argument with one sentence otherwise.
void check(Plan& plan);

// Sees to numbers, and says where one is not sound.
class Check {
  public:
    explicit Check(std::string where) : where_(std::move(where)) {}

    // Throws std::invalid_argument unless it is sound.
    void require(bool sound, const std::string& expected) const;

    // The shape of one size to five.
    Shape shape(const std::vector<std::int64_t>& sizes) const;
    Shape sound(const Shape& shape) const;
    void weights(const Weights& weights) const;
    // What follows sums of a shape, and the values that are read. A missing scale becomes 1, a
    // missing shift 0, where there is the other.
    void followed(Epilogue& epilogue, const std::vector<Shape>& taken, const Shape& sums) const;
    // So many channels of what windows over an image give. `of` names what they belong to.
    Shape windows(const Shape& input, const Window& window, bool ceil, std::int64_t channels,
                  const std::string& of = "") const;
    Shape pooled(const Pooling& pooling, const Shape& input) const;

  private:
    void row(const Weights& weights, std::int64_t begin, std::int64_t end) const;

    std::string where_;
};

// The first layers of a checked plan, which give the value of the last of them; and the others,
// which take that value as an input. There all values keep their numbers, and those before that one
// are inputs, too, which nobody reads.
Plan leading(const Plan& plan, std::size_t layers);
Plan trailing(const Plan& plan, std::size_t layers);

class Team;  // threads.hpp

// Some of the examples of a call: where those of each input lie, and those of each output.
struct Examples {
    const float* const* inputs;
    float* const* outputs;
    std::int64_t first;
    std::int64_t count;

    Examples part(std::int64_t begin, std::int64_t of) const {
        return {inputs, outputs, first + begin, of};
    }
};

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
    virtual void run(const Examples& examples, float* scratch, Team& team,
                     double* layer_seconds) const noexcept = 0;
};

// Many examples at once, on the calling thread. Both executors copy what they need of the plan, and
// may throw TooLarge.
std::unique_ptr<Executor> make_batched_executor(const Plan& plan, InstructionSet set);

// One example (lanes() == 1), split over the team within each layer (single/executor.cpp).
std::unique_ptr<Executor> make_single_executor(const Plan& plan, InstructionSet set);

}  // namespace gossamer
