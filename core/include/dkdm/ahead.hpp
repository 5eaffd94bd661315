// Work on the next images while a network is at the ones before.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/ParallelGuard.h>

#include <condition_variable>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

namespace dkdm {

// A thread that does one work after the other; results come in the order of works. All members are
// for the thread that made it.
class Ahead {
 public:
  using Work = std::function<at::Tensor()>;
  // Whether LibTorch's operators in a work stay on its thread, because the network has the others.
  enum class Operators { on_one_thread, on_all };

  explicit Ahead(Operators operators = Operators::on_one_thread)
      : operators_(operators), thread_([this] { run(); }) {}
  ~Ahead() {
    {
      const std::lock_guard lock(mutex_);
      unwanted_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }
  Ahead(const Ahead&) = delete;
  Ahead& operator=(const Ahead&) = delete;

  // Handed over and not yet taken.
  std::size_t outstanding() const { return outstanding_; }

  void push(Work work) {
    {
      const std::lock_guard lock(mutex_);
      works_.push_back(std::move(work));
    }
    ++outstanding_;
    changed_.notify_all();
  }

  // The oldest outstanding one; waits for it. Throws what its work threw.
  at::Tensor take() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return !results_.empty(); });
    auto [tensor, failure] = std::move(results_.front());
    results_.pop_front();
    --outstanding_;
    if (failure) std::rethrow_exception(failure);
    return tensor;
  }

  // Forgets what is outstanding.
  void clear() {
    {
      const std::lock_guard lock(mutex_);
      outstanding_ -= works_.size();
      works_.clear();
    }
    while (outstanding_ > 0) {
      try {
        take();
      } catch (...) {  // of no interest any more
      }
    }
  }

 private:
  void run() {
    std::optional<c10::ParallelGuard> serial;
    if (operators_ == Operators::on_one_thread) serial.emplace(true);
    std::unique_lock lock(mutex_);
    while (true) {
      changed_.wait(lock, [this] { return !works_.empty() || unwanted_; });
      if (unwanted_) return;
      const Work work = std::move(works_.front());
      works_.pop_front();
      lock.unlock();
      std::pair<at::Tensor, std::exception_ptr> result;
      try {
        result.first = work();
      } catch (...) {
        result.second = std::current_exception();
      }
      lock.lock();
      results_.push_back(std::move(result));
      changed_.notify_all();
    }
  }

  const Operators operators_;
  std::size_t outstanding_ = 0;  // of the caller's thread alone
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Work> works_;
  std::deque<std::pair<at::Tensor, std::exception_ptr>> results_;
  bool unwanted_ = false;
  std::thread thread_;  // last: it uses the others
};

// Works refer to what their maker holds: none outlives this.
struct ClearAtEnd {
  Ahead& ahead;
  ~ClearAtEnd() { ahead.clear(); }
};

}  // namespace dkdm
