// A small pool of threads that spin briefly and then sleep.
#pragma once

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

    // Call work(member) on every member at once, 0 <= member < size(), and return when all have
    // returned. `work` must not throw.
    void run(const std::function<void(int)>& work);

    // Within `run` only: return once every member of the team has come here (spins, then yields).
    void wait_for_all();

  private:
    Crew* crew_ = nullptr;  // none for a team of one
    int size_;
    int asked_;
};

}  // namespace gossamer
