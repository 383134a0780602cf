#include "core/threads.hpp"

#include <pthread.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <map>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

namespace gossamer {

namespace {

using std::chrono::microseconds;
using Clock = std::chrono::steady_clock;

// How long a thread without work stays awake: as long as it takes Python to come back with the next
// batch, and less than it takes to wake a sleeping thread.
constexpr microseconds awake_between_calls{20};

// How long members that wait for each other spin before they offer the processor to others.
constexpr microseconds awake_within_call{2};

inline void pause() {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

template <class Condition>
bool spin_until(Condition condition, microseconds longest) {
    if (condition()) return true;
    const Clock::time_point end = Clock::now() + longest;
    do {
        // A pause takes some tens of cycles, a look at the clock about as long.
        for (int spin = 0; spin < 8; ++spin) {
            pause();
            if (condition()) return true;
        }
    } while (Clock::now() < end);
    return false;
}

}  // namespace

// Threads that do one piece of work at a time, together with the one that calls. A thread takes
// part in a round if it comes while the round is open: one that sleeps, or whose processor another
// process holds, is not waited for.
class Crew {
  public:
    explicit Crew(int size) {
        try {
            for (int number = 1; number < size; ++number)
                threads_.emplace_back([this] { serve(); });
        } catch (const std::system_error&) {
            // The system grants no more: those that there are do the work.
        }
        size_ = static_cast<int>(threads_.size()) + 1;
    }

    int size() const { return size_; }

    void run(const std::function<void(int)>& work) {
        {
            std::lock_guard<std::mutex> lock(mutex_);
            work_ = &work;
            present_.store(1, std::memory_order_relaxed);
            finished_.store(1, std::memory_order_relaxed);
            open_.store(true, std::memory_order_relaxed);
            round_.fetch_add(1, std::memory_order_release);
        }
        begin_.notify_all();
        work(0);
        close();
        const auto done = [this] {
            return finished_.load(std::memory_order_acquire) ==
                   present_.load(std::memory_order_relaxed);
        };
        if (spin_until(done, awake_between_calls)) return;
        std::unique_lock<std::mutex> lock(mutex_);
        end_.wait(lock, done);
    }

    int gather(int member, microseconds patience) {
        if (member == 0) {
            spin_until([this] { return present_.load(std::memory_order_relaxed) == size_; },
                       patience);
            close();
        } else {
            wait_until([this] { return !open_.load(std::memory_order_acquire); });
        }
        return present_.load(std::memory_order_relaxed);
    }

    void wait_for_all() {
        const std::uint64_t phase = phase_.load(std::memory_order_acquire);
        const int present = present_.load(std::memory_order_relaxed);
        if (arrived_.fetch_add(1, std::memory_order_acq_rel) == present - 1) {
            arrived_.store(0, std::memory_order_relaxed);
            phase_.fetch_add(1, std::memory_order_release);
            return;
        }
        wait_until([&] { return phase_.load(std::memory_order_acquire) != phase; });
    }

  private:
    template <class Condition>
    static void wait_until(Condition condition) {
        // Where another process holds the processor of a member, spinning on would only delay it.
        while (!spin_until(condition, awake_within_call)) std::this_thread::yield();
    }

    void close() {
        std::lock_guard<std::mutex> lock(mutex_);
        open_.store(false, std::memory_order_release);
    }

    // The number of a member that still comes in time, or 0.
    int enter(std::uint64_t& seen, const std::function<void(int)>*& work) {
        std::lock_guard<std::mutex> lock(mutex_);
        seen = round_.load(std::memory_order_relaxed);
        if (!open_.load(std::memory_order_relaxed)) return 0;
        work = work_;
        return present_.fetch_add(1, std::memory_order_relaxed);
    }

    [[noreturn]] void serve() {
        std::uint64_t seen = 0;
        for (;;) {
            const auto begun = [&] { return round_.load(std::memory_order_acquire) != seen; };
            if (!spin_until(begun, awake_between_calls)) {
                std::unique_lock<std::mutex> lock(mutex_);
                begin_.wait(lock, begun);
            }
            const std::function<void(int)>* work = nullptr;
            const int member = enter(seen, work);
            if (member == 0) continue;
            (*work)(member);
            finished_.fetch_add(1, std::memory_order_release);
            std::lock_guard<std::mutex> lock(mutex_);
            end_.notify_one();
        }
    }

    std::vector<std::thread> threads_;
    int size_ = 1;
    std::mutex mutex_;
    std::condition_variable begin_;
    std::condition_variable end_;
    // Changed under the mutex, and read without it by those who spin.
    const std::function<void(int)>* work_ = nullptr;
    std::atomic<std::uint64_t> round_{0};
    std::atomic<bool> open_{false};
    std::atomic<int> present_{1};

    std::atomic<int> finished_{1};
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
    if (crew_)
        crew_->run(work);
    else
        work(0);
}

int Team::gather(int member, std::chrono::microseconds patience) {
    return crew_ ? crew_->gather(member, patience) : 1;
}

void Team::wait_for_all() {
    if (crew_) crew_->wait_for_all();
}

}  // namespace gossamer
