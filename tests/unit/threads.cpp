// Why so many threads: the settings that LibTorch, MKL and OpenMP follow.
#include <ATen/Parallel.h>

#include <catch2/catch.hpp>

#include <map>

#include "record/threads.hpp"

using namespace dkdm;

namespace {

std::string reason(std::int64_t threads, const std::map<std::string, std::string>& set) {
  return record::reason_for_threads(threads, /*cores=*/4, [&](const char* name) {
    const auto found = set.find(name);
    return found == set.end() ? nullptr : found->second.c_str();
  });
}

}  // namespace

TEST_CASE("threads: the reason names the setting that won and what had no effect", "[unit][run]") {
  CHECK(reason(4, {}) == "one per core");
  CHECK(reason(2, {}) == "cores this process may use");
  CHECK(reason(1, {{"OMP_NUM_THREADS", "1"}}) == "OMP_NUM_THREADS=1");
  CHECK(reason(2, {{"OMP_NUM_THREADS", "2,1"}}) == "OMP_NUM_THREADS=2,1");
  CHECK(reason(3, {{"OMP_NUM_THREADS", "1"}, {"MKL_NUM_THREADS", "3"}}) ==
        "MKL_NUM_THREADS=3, which wins over OMP_NUM_THREADS=1");
  CHECK(reason(4, {{"OMP_NUM_THREADS", "16"}}) ==
        "OMP_NUM_THREADS=16; MKL allows no more than the cores unless MKL_DYNAMIC=false");
  CHECK(reason(16, {{"OMP_NUM_THREADS", "16"}, {"MKL_DYNAMIC", "FALSE"}}) ==
        "OMP_NUM_THREADS=16; more than the cores");
  CHECK(reason(1, {{"OMP_THREAD_LIMIT", "1"}}) ==
        "cores this process may use; limited by OMP_THREAD_LIMIT=1");
  CHECK(reason(4, {{"MKL_NUM_THREADS", "many"}}) ==
        "one per core; MKL_NUM_THREADS=many is ignored, expected a number above 0");
}

TEST_CASE("threads: those that work are counted", "[unit][run]") {
  const int before = at::get_num_threads();
  at::set_num_threads(3);
  CHECK(record::working_threads() == 3);
  at::set_num_threads(1);
  CHECK(record::working_threads() == 1);
  at::set_num_threads(before);
}
