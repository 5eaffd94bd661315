// What plugins change behind the host's back is put back, by value; and the calls that cross the
// line.
#include <sys/stat.h>
#include <unistd.h>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <catch2/catch.hpp>
#include <cfenv>
#include <csignal>
#include <cstdlib>
#include <fstream>

#include "error_text.hpp"
#include "fixtures/plugins/meddle.hpp"
#include "plugin/call.hpp"
#include "plugin/registry.hpp"

using namespace dkdm;
using Catch::Matchers::Contains;
namespace fs = std::filesystem;

namespace {

// 1 + 2^-60 is 1 to nearest and the next number upward; volatile: computed here and now.
double rounded_sum() {
  volatile double one = 1, little = 0x1p-60;
  return one + little;
}

mode_t current_umask() {
  const mode_t now = ::umask(022);
  ::umask(now);
  return now;
}

struct Broken final : Denoiser {
  at::Tensor forward(const at::Tensor&, const at::Tensor&) override { throw 7; }
};

}  // namespace

TEST_CASE("host state: all of it is put back after a call, and named", "[robustness][plugin]") {
  const auto folder = fs::current_path();
  const auto mask = current_umask();
  const auto home = std::string(std::getenv("DKDM_HOME") ? std::getenv("DKDM_HOME") : "");
  const std::string locale = ::setlocale(LC_ALL, nullptr);
  struct sigaction interrupt{};
  ::sigaction(SIGINT, nullptr, &interrupt);
  {
    const plugin::NumericState numbers;
    const plugin::ProcessState process;
    meddle();
    c10::set_default_dtype(c10::scalarTypeToTypeMeta(at::kDouble));
    REQUIRE(rounded_sum() > 1);
    CHECK_THAT(numbers.restore(), Contains("floating-point mode") && Contains("default dtype"));
    CHECK_THAT(process.restore(), Contains("working folder") && Contains("umask") &&
                                      Contains("signal handling") && Contains("environment"));
    CHECK(numbers.restore().empty());
    CHECK(process.restore().empty());
  }
  CHECK(rounded_sum() == 1);
  CHECK(std::fegetround() == FE_TONEAREST);
  CHECK(at::empty({1}).scalar_type() == at::kFloat);
  CHECK(fs::current_path() == folder);
  CHECK(current_umask() == mask);
  CHECK(std::string(std::getenv("DKDM_HOME") ? std::getenv("DKDM_HOME") : "") == home);
  CHECK(::setlocale(LC_ALL, nullptr) == locale);
  struct sigaction now{};
  ::sigaction(SIGINT, nullptr, &now);
  CHECK(now.sa_handler == interrupt.sa_handler);
}

TEST_CASE("host state: worker threads that were started in another rounding mode are put right",
          "[robustness][plugin]") {
  {
    const plugin::CallScope scope("upward", "forward", plugin::Care::numbers);
    std::fesetround(FE_UPWARD);
    at::ones({1 << 22}).mul_(2);  // starts them
  }
  // 0.1 and 0.2 in float32: their sum rounds down to nearest.
  const at::Tensor sums = at::full({1 << 22}, 0.1F) + 0.2F;
  const volatile float a = 0.1F, b = 0.2F;
  CHECK(sums.eq(a + b).all().item<bool>());
  CHECK(sums.min().item<float>() == sums.max().item<float>());
}

TEST_CASE(
    "host state: opening a module changes nothing here, and a refused one is never opened here",
    "[robustness][plugin]") {
  const fs::path folder = fs::path(DKDM_BUILD_DIR) / "tests/fixtures/plugins";
  const auto here = fs::current_path();
  const plugin::Registry registry(
      std::vector<fs::path>{folder / "meddling-initialiser.so", folder / "meddling-student.so"});
  CHECK(registry.lookup("student", "fixture-meddling-student"));
  REQUIRE(registry.refusals().size() == 1);
  CHECK(fs::current_path() == here);
  CHECK(rounded_sum() == 1);
  std::ifstream maps("/proc/self/maps");
  const std::string opened{std::istreambuf_iterator<char>(maps), {}};
  CHECK_THAT(opened, Contains("meddling-student.so"));
  CHECK_THAT(opened, !Contains("meddling-initialiser.so"));
}

TEST_CASE("host state: relative paths of modules hold behind one that changes the working folder",
          "[robustness][plugin]") {
  const fs::path folder = fs::relative(fs::path(DKDM_BUILD_DIR) / "tests/fixtures/plugins");
  const plugin::Registry registry(
      std::vector<fs::path>{folder / "meddling-student.so", folder / "good-student.so"});
  CHECK(registry.lookup("student", "fixture-student"));
  CHECK(registry.refusals().empty());
}

TEST_CASE("calls: what is no std::exception is named with plugin, stage and type",
          "[robustness][plugin]") {
  Broken network;
  plugin::remember_name(&network, "broken-net");
  const at::Tensor x = at::zeros({1, 1, 4, 4});
  CHECK_THROWS_WITH(plugin::predict(network, x, at::zeros({1}, at::kLong)),
                    "broken-net: forward: threw something that is not a std::exception (int)");
  plugin::forget_name(&network);
}

TEST_CASE("error text: LibTorch's backtraces and bare function names are not for people",
          "[robustness][errors]") {
  const auto text_of = [](auto&& function) {
    try {
      function();
    } catch (...) {
      return current_error_text();
    }
    return std::string("nothing was thrown");
  };
  const auto wrong = text_of([] { at::zeros({2, 3}).matmul(at::zeros({2, 3})); });
  CHECK_THAT(wrong, Contains("cannot be multiplied"));
  CHECK_THAT(wrong, !Contains("frame #") && !Contains("Exception raised") && !Contains("\n"));
  const auto memory = text_of([] { at::empty({std::int64_t{1} << 50}); });
  CHECK(memory == "out of memory: 4503599.6 GB could not be allocated");
  CHECK(text_of([] { throw std::bad_alloc(); }) == "out of memory");
  CHECK(text_of([] { static_cast<void>(std::map<int, int>().at(3)); }) ==
        "unexpected std::out_of_range: map::at");
  CHECK(text_of([] { fs::file_size("/nowhere/at all"); }) ==
        "/nowhere/at all: No such file or directory");
  CHECK_THAT(text_of([] { throw Error("a\nb\tc  d"); }), Catch::Equals("a b c d"));
  CHECK(text_of([] { throw 7; }) == "threw something that is not a std::exception (int)");
}
