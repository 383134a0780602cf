#include "threads.hpp"

#include <pthread.h>

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <map>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

namespace gossamer {

namespace {

// About 20 microseconds: as long as it takes Python to come back with the next batch.
constexpr int spins_before_sleep = 4000;

inline void pause() {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

template <class Condition>
bool spin_until(Condition condition) {
    for (int spin = 0; spin < spins_before_sleep; ++spin) {
        if (condition()) return true;
        pause();
    }
    return condition();
}

}  // namespace

// Threads that do one piece of work at a time, together with the one that calls.
class Crew {
  public:
    explicit Crew(int size) {
        try {
            for (int member = 1; member < size; ++member) {
                threads_.emplace_back([this, member] { serve(member); });
            }
        } catch (const std::system_error&) {
            // The system grants no more: those that there are do the work.
        }
        size_ = static_cast<int>(threads_.size()) + 1;
    }

    int size() const { return size_; }

    void run(const std::function<void(int)>& work) {
        pending_.store(size_ - 1, std::memory_order_relaxed);
        {
            std::lock_guard<std::mutex> lock(mutex_);
            work_ = &work;
            round_.fetch_add(1, std::memory_order_release);
        }
        begin_.notify_all();
        work(0);
        const auto done = [this] { return pending_.load(std::memory_order_acquire) == 0; };
        if (spin_until(done)) return;
        std::unique_lock<std::mutex> lock(mutex_);
        end_.wait(lock, done);
    }

    void wait_for_all() {
        const std::uint64_t phase = phase_.load(std::memory_order_acquire);
        if (arrived_.fetch_add(1, std::memory_order_acq_rel) == size_ - 1) {
            arrived_.store(0, std::memory_order_relaxed);
            phase_.fetch_add(1, std::memory_order_release);
            return;
        }
        const auto passed = [&] { return phase_.load(std::memory_order_acquire) != phase; };
        // Where another process holds the processor of a member, spinning on would only delay it.
        while (!spin_until(passed)) std::this_thread::yield();
    }

  private:
    [[noreturn]] void serve(int member) {
        for (std::uint64_t seen = 0;; ++seen) {
            const auto begun = [&] { return round_.load(std::memory_order_acquire) != seen; };
            if (!spin_until(begun)) {
                std::unique_lock<std::mutex> lock(mutex_);
                begin_.wait(lock, begun);
            }
            (*work_)(member);
            if (pending_.fetch_sub(1, std::memory_order_acq_rel) == 1) {
                std::lock_guard<std::mutex> lock(mutex_);
                end_.notify_one();
            }
        }
    }

    std::vector<std::thread> threads_;
    int size_ = 1;
    const std::function<void(int)>* work_ = nullptr;
    std::mutex mutex_;
    std::condition_variable begin_;
    std::condition_variable end_;
    std::atomic<std::uint64_t> round_{0};
    std::atomic<int> pending_{0};
    std::atomic<std::uint64_t> phase_{0};
    std::atomic<int> arrived_{0};
};

namespace {

// The crews that nobody uses. Crews are never ended: their threads sleep until the process ends.
struct Pool {
    std::mutex mutex;
    std::multimap<int, Crew*> idle;  // by the size that was asked for
};

std::atomic<Pool*> current_pool{nullptr};

// Threads do not live on in a child process, and a lock may be held there for ever: the child
// leaves the pool of its parent alone and begins with another.
void begin_anew() { current_pool.store(new Pool); }

Pool& pool() {
    static const bool ready = [] {
        begin_anew();
        pthread_atfork(nullptr, nullptr, begin_anew);
        return true;
    }();
    (void)ready;
    return *current_pool.load();
}

Crew* take_crew(int size) {
    Pool& from = pool();
    {
        std::lock_guard<std::mutex> lock(from.mutex);
        const auto found = from.idle.find(size);
        if (found != from.idle.end()) {
            Crew* crew = found->second;
            from.idle.erase(found);
            return crew;
        }
    }
    return new Crew(size);
}

void give_back(int size, Crew* crew) {
    Pool& to = pool();
    std::lock_guard<std::mutex> lock(to.mutex);
    to.idle.emplace(size, crew);
}

}  // namespace

Team::Team(int size) : size_(1), asked_(size) {
    if (size <= 1) return;
    crew_ = take_crew(size);
    size_ = crew_->size();
}

Team::~Team() {
    if (crew_) give_back(asked_, crew_);
}

void Team::run(const std::function<void(int)>& work) {
    if (crew_) {
        crew_->run(work);
    } else {
        work(0);
    }
}

void Team::wait_for_all() {
    if (crew_) crew_->wait_for_all();
}

}  // namespace gossamer
