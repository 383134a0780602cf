#include "core/refusals.hpp"

#include <atomic>

namespace gossamer {
namespace {

std::atomic<std::int64_t> noted{0};

}  // namespace

void note_refusal() { noted.fetch_add(1, std::memory_order_relaxed); }

std::int64_t refusals() { return noted.load(std::memory_order_relaxed); }

}  // namespace gossamer
