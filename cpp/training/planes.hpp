// How images lie in memory while a sparse convolution works on them.
//
// The pixels of a channel follow each other in one plane, row after row, with zeros between rows
// and between images, as many as the kernel needs to look past an edge: those after one row are
// those before the next. A weight of the kernel then meets, for every pixel of the outputs, the
// number so and so much further on, and vectors go along the plane whatever the image's width.
// With a stride, each channel has a plane for each phase, of every `stride`-th row and column, in
// which the kernel moves by one.
#pragma once

#include <cstdint>
#include <vector>

#include "core/plain.hpp"

namespace gossamer::training {

// A convolution along one axis of its images.
struct Axis {
    std::int64_t image;
    std::int64_t kernel;
    std::int64_t stride;
    std::int64_t before;  // zeros before the image, and after it
    std::int64_t after;
    std::int64_t dilation;

    // At most 0 where the kernel is larger than the image and its zeros.
    std::int64_t outputs() const;
};

// An axis cut into its phases, those that the kernel looks at.
class Phases {
  public:
    explicit Phases(const Axis& axis);

    std::int64_t count() const { return static_cast<std::int64_t>(offsets_.size()); }
    std::int64_t stride() const { return axis_.stride; }
    std::int64_t outputs() const { return outputs_; }

    // In which phase a number of the kernel meets the image, and how much further on.
    std::int64_t phase_of(std::int64_t tap) const;
    std::int64_t shift_of(std::int64_t tap) const { return tap * axis_.dilation / axis_.stride; }
    std::int64_t most_shift() const { return shift_of(axis_.kernel - 1); }

    // The places of a phase where the image stands; others are zero.
    Range filled(std::int64_t phase) const;
    // What of the image stands at a place.
    std::int64_t image_at(std::int64_t phase, std::int64_t place) const;

    // The first place that the image takes in any phase, and the end of the last.
    std::int64_t begin() const { return begin_; }
    std::int64_t end() const { return end_; }
    // From one row, or one image, to the next in a plane.
    std::int64_t pitch() const;
    // Whether every number of the image stands somewhere.
    bool whole() const;

  private:
    Axis axis_;
    std::int64_t outputs_;
    std::vector<std::int64_t> offsets_;  // of each phase, below the stride
    std::int64_t begin_;
    std::int64_t end_;
};

}  // namespace gossamer::training
