// Networks of large images, whose first layers are computed for one example after the other and the
// others side by side.
//
// Side by side, an image takes as many times the memory as there are lanes. Where a layer does
// little with each number, reading it from behind the third cache takes longer than computing with
// it; one image alone stays nearer. Small images with many weights are the other way round: weights
// are read once for all examples, and lanes are filled whatever the size of an image.
#pragma once

#include <cstddef>
#include <memory>

#include "core/plan.hpp"

namespace gossamer {

// Whether others can go on from the last value of so many layers alone.
bool can_lead(const Plan& plan, std::size_t layers);

// How many layers are best computed for one example after the other; 0 where it is about as fast
// to compute all of them side by side, or where it cannot be told.
std::size_t best_leading(const Plan& plan);

// Computes so many layers for one example after the other, which `can_lead`.
std::unique_ptr<Executor> make_led_executor(const Plan& plan, std::size_t layers,
                                            InstructionSet set);

}  // namespace gossamer
