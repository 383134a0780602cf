// Working memory, kept from one call to the next: fresh memory costs a page fault for every 4 KB.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <vector>

namespace gossamer {

struct Freed {
    void operator()(float* memory) const { std::free(memory); }
};
using Scratch = std::unique_ptr<float[], Freed>;

// Pieces of the same size. Several threads may take and keep at once, and none waits for another:
// after a fork the lock may be held by a thread that is no more.
class ScratchPool {
  public:
    explicit ScratchPool(std::size_t floats) : floats_(floats) {}

    // A piece that was kept, as it was left, or else a new one of zeros.
    Scratch take();
    void keep(Scratch scratch);

  private:
    std::size_t floats_;
    std::mutex mutex_;
    std::vector<Scratch> idle_;
};

}  // namespace gossamer
