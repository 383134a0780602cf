// Which instruction sets this processor and this build have.
#pragma once

#include <string>
#include <vector>

#include "core/plain.hpp"

namespace gossamer {

// From the best to "baseline", which is always there.
std::vector<InstructionSet> available_instruction_sets();

std::string name_of(InstructionSet set);

// Throws std::invalid_argument where the name is not known or the set not available.
InstructionSet instruction_set_named(const std::string& name);

}  // namespace gossamer
