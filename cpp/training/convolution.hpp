// A sparse convolution in training: its outputs and its gradients.
#pragma once

#include <cstdint>
#include <vector>

#include "training/index.hpp"
#include "training/linear.hpp"
#include "training/planes.hpp"

namespace gossamer::training {

struct Channels {
    std::int64_t outputs;
    std::int64_t inputs;  // of a group
    std::int64_t groups;
};

// [images][channels][height][width], or [images][height][width][channels].
template <class Number>
struct Images {
    Number* data;
    bool channels_last;
};

// Where the non-zeros of a convolution stand, for images of one size.
class Convolution {
  public:
    // Positions in the flattened weight [outputs][inputs of a group][height][width]. Throws
    // std::invalid_argument where they are not ascending ones within it, or the images smaller than
    // the kernel, and std::overflow_error where they are too large.
    Convolution(const std::int64_t* positions, std::int64_t count, const Channels& channels,
                const Axis& vertical, const Axis& horizontal, InstructionSet set);

    // Outputs lie as inputs do. The same whatever the number of threads.
    void forward(const float* values, const float* bias, const Images<const float>& inputs,
                 std::int64_t images, float* outputs, int threads) const;

    // The gradient of the inputs lies as these do.
    void backward(const float* values, const Images<const float>& inputs,
                  const Images<const float>& gradient, std::int64_t images, const Gradients& wanted,
                  int threads) const;

  private:
    struct Strip;

    std::int64_t count() const { return static_cast<std::int64_t>(order_.size()); }
    std::int64_t channels_in() const { return channels_.inputs * channels_.groups; }
    std::int64_t planes() const { return channels_in() * rows_.count() * columns_.count(); }
    Strip strip(std::int64_t number, std::int64_t images) const;
    std::int64_t strips(std::int64_t images) const;
    Range outputs_of(const Strip& strip) const;
    Range inputs_of(const Strip& strip) const;
    template <class Use>
    void each_phase(const Strip& strip, const Use& use) const;
    void take(const Images<const float>& images, const Strip& strip, float* planes) const;
    void put(const float* planes, const Strip& strip, const Images<float>& images) const;
    void take_gradient(const Images<const float>& gradient, const Strip& strip,
                       float* planes) const;
    void put_outputs(const float* planes, const Strip& strip, const Images<float>& outputs) const;
    void add_gradients(const float* values, const Strip& strip, bool adds, const float* inputs,
                       const float* gradient, const Gradients& to) const;

    Channels channels_;
    Axis vertical_, horizontal_;
    Phases rows_, columns_;
    const Loops& loops_;
    std::int64_t images_in_strip_;  // so many at least as fill a tile
    std::int64_t pitch_;            // from row to row of a plane
    std::int64_t apart_;            // from image to image of a plane
    std::int64_t lead_;             // zeros before the first of the outputs' gradient
    std::int64_t input_plane_;      // floats of a plane
    std::int64_t output_plane_;
    Sorted by_output_;  // the columns of these are floats from a pixel to where the weight leads
    Sorted by_plane_;
    std::vector<std::int32_t> order_;
};

}  // namespace gossamer::training
