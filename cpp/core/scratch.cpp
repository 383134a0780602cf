#include "core/scratch.hpp"

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include <algorithm>
#include <cstdint>
#include <new>
#include <utility>

namespace gossamer {

namespace {

// Memory in pages of so many bytes is found by the processor without a look for each 4 KB of it.
constexpr std::size_t huge_page = 2 << 20;

}  // namespace

void* new_memory(std::size_t bytes) {
    const std::size_t unit = bytes < huge_page * 3 / 4 ? 64 : huge_page;
    const std::size_t whole = (std::max<std::size_t>(bytes, 1) + unit - 1) / unit * unit;
    void* memory = std::aligned_alloc(unit, whole);
    if (!memory) throw std::bad_alloc();
#if defined(MADV_HUGEPAGE)
    if (unit == huge_page) madvise(memory, whole, MADV_HUGEPAGE);  // only faster if it succeeds
#endif
    return memory;
}

void put_in_large_pages([[maybe_unused]] const void* memory, [[maybe_unused]] std::size_t bytes) {
#if defined(__linux__)
    constexpr int collapse = 25;  // MADV_COLLAPSE of Linux 6.1, which older headers lack
    const auto address = reinterpret_cast<std::uintptr_t>(memory);
    // Whole pages alone: what lies beside is others'. One by one; only faster if it succeeds.
    const std::uintptr_t end = (address + bytes) / huge_page * huge_page;
    for (std::uintptr_t page = (address + huge_page - 1) / huge_page * huge_page; page < end;
         page += huge_page)
        madvise(reinterpret_cast<void*>(page), huge_page, collapse);
#endif
}

Scratch zeros(std::size_t floats) {
    auto* memory = static_cast<float*>(new_memory(floats * sizeof(float)));
    std::fill_n(memory, floats, 0.0f);
    return Scratch(memory);
}

Scratch ScratchPool::take() {
    if (mutex_.try_lock()) {
        std::lock_guard<std::mutex> lock(mutex_, std::adopt_lock);
        if (!idle_.empty()) {
            Scratch scratch = std::move(idle_.back());
            idle_.pop_back();
            return scratch;
        }
    }
    return zeros((floats_ + 15) / 16 * 16);
}

void ScratchPool::keep(Scratch scratch) {
    if (!mutex_.try_lock()) return;
    std::lock_guard<std::mutex> lock(mutex_, std::adopt_lock);
    idle_.push_back(std::move(scratch));
}

}  // namespace gossamer
