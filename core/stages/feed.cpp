#include "stages/feed.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <exception>
#include <mutex>
#include <thread>

#include "plugin/call.hpp"

namespace dkdm::stages {
namespace {

constexpr std::int64_t kBatch = 64;
constexpr std::size_t kAhead = 4;  // batches read and not yet taken

// A thread that reads batches in order until `last` or until it is no longer wanted.
class Reader {
 public:
  Reader(const Dataset& images, std::int64_t first, std::int64_t last)
      : thread_([this, &images, first, last] { read(images, first, last); }) {}
  ~Reader() {
    {
      const std::lock_guard lock(mutex_);
      unwanted_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }
  Reader(const Reader&) = delete;
  Reader& operator=(const Reader&) = delete;

  // The next batch; undefined after the last. Throws what reading threw.
  at::Tensor next() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return !batches_.empty() || ended_; });
    if (batches_.empty()) {
      if (failure_) std::rethrow_exception(failure_);
      return {};
    }
    at::Tensor batch = std::move(batches_.front());
    batches_.pop_front();
    changed_.notify_all();
    return batch;
  }

 private:
  void read(const Dataset& images, std::int64_t first, std::int64_t last) {
    std::exception_ptr failure;
    try {
      for (; first < last; first += kBatch) {
        at::Tensor batch =
            plugin::images_of(images, at::arange(first, std::min(first + kBatch, last), at::kLong));
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [this] { return batches_.size() < kAhead || unwanted_; });
        if (unwanted_) break;
        batches_.push_back(std::move(batch));
        changed_.notify_all();
      }
    } catch (...) {
      failure = std::current_exception();
    }
    const std::lock_guard lock(mutex_);
    failure_ = failure;
    ended_ = true;
    changed_.notify_all();
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<at::Tensor> batches_;
  std::exception_ptr failure_;
  bool ended_ = false, unwanted_ = false;
  std::thread thread_;  // last: it uses the others
};

}  // namespace

void add_images(Evaluator& evaluator, const Dataset& images, std::int64_t first, std::int64_t last,
                Host& host) {
  Reader reader(images, first, last);
  std::int64_t done = first;
  host.progress("images", done, last);
  for (at::Tensor batch = reader.next(); batch.defined(); batch = reader.next()) {
    evaluator.add(batch);
    done += batch.size(0);
    host.progress("images", done, last);
  }
}

void warn_of_few_samples(const Evaluator& evaluator, std::int64_t count, Host& host) {
  if (count < evaluator.min_samples())
    host.log("evaluator",
             std::to_string(count) + " samples, fewer than " +
                 std::to_string(evaluator.min_samples()) +
                 " (twice the feature dimension): distances are strongly biased");
}

}  // namespace dkdm::stages
