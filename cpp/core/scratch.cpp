#include "core/scratch.hpp"

#include <algorithm>
#include <new>
#include <utility>

namespace gossamer {

Scratch ScratchPool::take() {
    if (mutex_.try_lock()) {
        std::lock_guard<std::mutex> lock(mutex_, std::adopt_lock);
        if (!idle_.empty()) {
            Scratch scratch = std::move(idle_.back());
            idle_.pop_back();
            return scratch;
        }
    }
    const std::size_t floats = (std::max<std::size_t>(floats_, 1) + 15) / 16 * 16;
    auto* memory = static_cast<float*>(std::aligned_alloc(64, floats * sizeof(float)));
    if (!memory) throw std::bad_alloc();
    std::fill_n(memory, floats, 0.0f);
    return Scratch(memory);
}

void ScratchPool::keep(Scratch scratch) {
    if (!mutex_.try_lock()) return;
    std::lock_guard<std::mutex> lock(mutex_, std::adopt_lock);
    idle_.push_back(std::move(scratch));
}

}  // namespace gossamer
