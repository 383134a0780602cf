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

// New memory from a line of the cache on; much of it in large pages where the system has them. To
// be freed by std::free.
void* new_memory(std::size_t bytes);

Scratch zeros(std::size_t floats);

// Ask for large pages where what is there already fills them. Weights that are read from end to
// end, once for each call, are else looked for every 4 KB.
void put_in_large_pages(const void* memory, std::size_t bytes);

template <typename Numbers>
void put_in_large_pages(const Numbers& numbers) {
    put_in_large_pages(numbers.data(), numbers.size() * sizeof(numbers[0]));
}

// For long vectors that are read from end to end.
template <typename Number>
struct InLargePages {
    using value_type = Number;
    InLargePages() = default;
    template <typename Other>
    InLargePages(const InLargePages<Other>&) {}
    Number* allocate(std::size_t count) {
        return static_cast<Number*>(new_memory(count * sizeof(Number)));
    }
    void deallocate(Number* memory, std::size_t) { std::free(memory); }
    friend bool operator==(const InLargePages&, const InLargePages&) { return true; }
    friend bool operator!=(const InLargePages&, const InLargePages&) { return false; }
};

template <typename Number>
using LongVector = std::vector<Number, InLargePages<Number>>;

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
