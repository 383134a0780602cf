// Runs a plan on any number of examples.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <vector>

#include "plan.hpp"

namespace gossamer {

struct Freed {
    void operator()(float* memory) const { std::free(memory); }
};
using Scratch = std::unique_ptr<float[], Freed>;

class Engine {
  public:
    Engine(Plan plan, InstructionSet set);

    std::int64_t input_size() const { return input_size_; }
    std::int64_t output_size() const { return output_size_; }
    std::size_t layers() const { return layers_; }
    InstructionSet instruction_set() const { return set_; }

    // From inputs [count, input size] to outputs [count, output size]. Several threads may call at
    // once. Where `layer_seconds` [layers] is given, adds the time of each layer to it: the sum
    // over the threads, divided by their number.
    void run(const float* inputs, float* outputs, std::int64_t count, int threads,
             double* layer_seconds) const;

  private:
    Scratch take_scratch() const;
    void keep_scratch(Scratch scratch) const;
    void run_wide(const float* inputs, float* outputs, std::int64_t count, Team& team,
                  double* layer_seconds) const;
    void run_narrow(const float* inputs, float* outputs, std::int64_t count, Team& team,
                    double* layer_seconds) const;

    InstructionSet set_;
    std::int64_t input_size_;
    std::int64_t output_size_;
    std::size_t layers_;
    double multiplications_;  // of one example
    std::unique_ptr<Executor> wide_;  // none where its values are too large
    std::unique_ptr<Executor> narrow_;
    std::size_t scratch_floats_;
    // Scratch of earlier calls: fresh memory would cost a page fault for every 4 KB.
    mutable std::mutex mutex_;
    mutable std::vector<Scratch> idle_;
};

}  // namespace gossamer
