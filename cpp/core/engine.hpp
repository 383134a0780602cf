// Runs a plan on any number of examples.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "core/plan.hpp"
#include "core/scratch.hpp"

namespace gossamer {

class Engine {
  public:
    Engine(Plan plan, InstructionSet set);

    // Of one example, of each input and output.
    const std::vector<std::int64_t>& input_sizes() const { return input_sizes_; }
    const std::vector<std::int64_t>& output_sizes() const { return output_sizes_; }
    std::size_t layers() const { return layers_; }
    InstructionSet instruction_set() const { return set_; }
    // How many of the first layers it computes for one example after the other, and not for several
    // side by side in the lanes of vectors.
    std::size_t leading() const { return leading_; }

    // From inputs [count, input size] to outputs [count, output size]. Several threads may call at
    // once. Where `layer_seconds` [layers] is given, adds the time of each layer to it: the sum
    // over the threads, divided by their number.
    void run(const Examples& examples, int threads, double* layer_seconds) const;

  private:
    void run_batched(const Examples& examples, Team& team, double* layer_seconds) const;
    void run_single(const Examples& examples, Team& team, double* layer_seconds) const;

    InstructionSet set_;
    std::vector<std::int64_t> input_sizes_;
    std::vector<std::int64_t> output_sizes_;
    std::size_t layers_;
    std::size_t leading_;
    double multiplications_;             // of one example
    std::unique_ptr<Executor> batched_;  // none where its values are too large
    std::unique_ptr<Executor> single_;
    mutable std::optional<ScratchPool> batched_scratch_;
    mutable std::optional<ScratchPool> single_scratch_;
};

}  // namespace gossamer
