// A small pool of threads that spin briefly and then sleep.
#pragma once

#include <chrono>
#include <functional>

namespace gossamer {

class Crew;

// Some threads at the disposal of one caller, the calling thread among them as member 0. Threads
// are taken from a pool that is created on first use and given back at the end. A child process
// after a fork begins with an empty pool.
class Team {
  public:
    explicit Team(int size);  // at least 1; fewer members where the system grants no more threads
    ~Team();
    Team(const Team&) = delete;
    Team& operator=(const Team&) = delete;

    int size() const { return size_; }

    // Call work(member) on the calling thread (member 0) and, at once, on others: members 1, 2...
    // in the order in which they come. Members who have not come when member 0 is done, or when it
    // has gathered the team, take no part; the others are waited for. `work` must not throw.
    void run(const std::function<void(int)>& work);

    // Within `run`, once by every member and before `wait_for_all`: return how many members take
    // part. Member 0 waits for the whole team so long at most.
    int gather(int member, std::chrono::microseconds patience);

    // Within `run` only: return once every member that takes part has come here (spins, then
    // yields).
    void wait_for_all();

  private:
    Crew* crew_ = nullptr;  // none for a team of one
    int size_;
    int asked_;
};

}  // namespace gossamer
