#include "conformance/check_support.hpp"

#include <ATen/ATen.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <regex>
#include <set>

#include "dkdm/random.hpp"
#include "dkdm/store_error.hpp"
#include "error_text.hpp"

namespace dkdm::conformance {
namespace {

// What a network of the fakes' size has under `name`; h [N,W,H,W].
at::Tensor fake_activation(const std::string& name, const at::Tensor& h) {
  return name.starts_with("block") ? h.flatten(2).transpose(1, 2) : h;
}

constexpr std::int64_t kFakeWidth = 8;

}  // namespace

void fail(const std::string& what, const std::string& remedy) { throw Error(what + "; " + remedy); }

void require(bool holds, const std::string& what, const std::string& remedy) {
  if (!holds) fail(what, remedy);
}

std::string text_of(const at::Tensor& tensor) {
  if (!tensor.defined()) return "nothing";
  return c10::str(tensor.scalar_type(), " ", tensor.sizes());
}

bool close(const at::Tensor& a, const at::Tensor& b) {
  return a.sizes() == b.sizes() && a.scalar_type() == b.scalar_type() &&
         at::allclose(a, b, 1e-3, 1e-4);
}

at::Tensor noisy_images(const SampleShape& shape, std::int64_t first, std::int64_t n) {
  return Random(11, Stream::sample_start).normal(0, first, n, shape.sizes());
}

at::Tensor spread_steps(std::int64_t first, std::int64_t n, std::int64_t steps) {
  return (at::arange(first, first + n, at::kLong) * 331 + 7).remainder(steps);
}

void require_output(const at::Tensor& out, const at::Tensor& x_t) {
  const auto n = x_t.size(0), c = x_t.size(1);
  const bool shaped = out.defined() && out.dim() == 4 && out.size(0) == n &&
                      (out.size(1) == c || out.size(1) == 2 * c) && out.size(2) == x_t.size(2) &&
                      out.size(3) == x_t.size(3);
  require(shaped, "forward gave " + text_of(out) + " for x_t " + text_of(x_t),
          "return [N,C,H,W] (eps) or [N,2C,H,W] (eps, then v)");
  require(out.scalar_type() == at::kFloat, "forward gave " + text_of(out),
          "return float32: cast back what was computed in another type");
  require(out.isfinite().all().item<bool>(), "forward gave NaN or infinities",
          "look for a division, a logarithm or weights of too large a scale");
}

void require_independent_rows(Denoiser& network, const SampleShape& shape, std::int64_t steps,
                              const std::function<void()>& before_forward) {
  constexpr std::int64_t kRows = 3;
  const auto of = [&](std::int64_t others) {
    const at::Tensor x =
        at::cat({noisy_images(shape, 0, 1), noisy_images(shape, others, kRows - 1)});
    before_forward();
    const at::Tensor t =
        at::cat({spread_steps(0, 1, steps), spread_steps(others, kRows - 1, steps)});
    return network.forward(x, t).narrow(0, 0, 1);
  };
  require(
      close(of(1), of(100)), "a row's output changed with the other rows of its batch",
      "let nothing mix rows: no batch normalisation (use group or layer normalisation), no mean "
      "over dimension 0");
}

Shapes taken_shapes(const std::vector<ImageSpec>& usual,
                    const std::function<std::string(const ImageSpec&)>& attempt) {
  Shapes shapes;
  std::vector<std::string> refusals;
  const auto try_one = [&](const ImageSpec& spec, bool told) {
    try {
      const std::string refusal = attempt(spec);
      if (refusal.empty()) {
        shapes.taken.push_back(spec);
        return;
      }
      refusals.push_back(refusal);
      if (!told) return;
      shapes.refused += (shapes.refused.empty() ? "" : " ") + text_of(spec);
      shapes.reason = refusal;
    } catch (const Error& error) {
      if (error.exit_code() == ExitCode::missing || error.exit_code() == ExitCode::interrupted)
        throw;
      if (told)
        shapes.broken += (shapes.broken.empty() ? "" : "; ") + text_of(spec) + ": " + error.what();
    }
  };
  for (const ImageSpec& spec : usual) try_one(spec, true);
  if (!shapes.taken.empty()) return shapes;

  std::set<std::int64_t> sides, channels{1, 3};
  constexpr std::int64_t kLargestSide = 512, kMostChannels = 16;
  static const std::regex number("[0-9]{1,4}");
  for (const std::string& text : refusals) {
    for (std::sregex_iterator at(text.begin(), text.end(), number), end; at != end; ++at) {
      const std::int64_t value = std::stoll(at->str());
      if (value < 1) continue;
      if (value <= kMostChannels) channels.insert(value);
      for (const std::int64_t side : {value, 2 * value})
        if (side <= kLargestSide) sides.insert(side);
    }
  }
  for (const std::int64_t side : sides)
    for (const std::int64_t count : channels)
      if (shapes.taken.empty()) try_one(ImageSpec::square(count, side), false);
  return shapes;
}

std::string located(const std::string& where, const std::string& remedy,
                    const std::function<std::string()>& body) {
  try {
    return body();
  } catch (const Error& error) {
    if (error.exit_code() == ExitCode::missing || error.exit_code() == ExitCode::interrupted) throw;
    throw Error(where + error.what(), error.exit_code());
  } catch (const std::exception& error) {
    fail(where + "it threw: " + error_text(error), remedy);
  } catch (...) {
    fail(where + "it " + current_error_text(), remedy);
  }
}

at::Tensor FakeTeacher::forward(const at::Tensor& x_t, const at::Tensor& t) {
  images += x_t.size(0);
  if (const auto names = features_asked(); !names.empty()) {
    const at::Tensor h = at::cos(x_t.mean(1, true)).repeat({1, kFakeWidth, 1, 1});
    for (const std::string& name : names) feature(name.c_str(), fake_activation(name, h));
  }
  const at::Tensor eps = 0.6 * x_t + 0.001 * t.to(at::kFloat).view({-1, 1, 1, 1});
  return at::cat({eps, 0.3 * at::sin(x_t)}, 1);
}

FakeStudent::FakeStudent(const SampleShape& shape)
    : channels_(shape.channels),
      weight_(register_parameter("weight", at::ones({kFakeWidth, shape.channels}) / 4)) {}

at::Tensor FakeStudent::forward(const at::Tensor& x_t, const at::Tensor&) {
  // [N,C,H,W] by [W,C] -> [N,W,H,W].
  const at::Tensor h = at::sin(at::conv2d(x_t, weight_.view({kFakeWidth, channels_, 1, 1})));
  for (const std::string& name : features_asked()) feature(name.c_str(), fake_activation(name, h));
  return h.mean(1, true).repeat({1, 2 * channels_, 1, 1});
}

at::Tensor FakeImages::images(const at::Tensor& index) const {
  const std::int64_t values = spec_.values();
  const at::Tensor i = index.view({-1, 1, 1, 1});
  const at::Tensor j = at::arange(values, at::kLong).view(spec_.batch(1));
  const at::Tensor noise =
      (7919 * j + 104729 * i * (j + 1) + 12345).remainder(1000003).remainder(64);
  return (noise + 19 * i.remainder(kClasses)).to(at::kByte);
}

at::Tensor FakeImages::labels(const at::Tensor& index) const { return index.remainder(kClasses); }

std::string FakeImages::fingerprint() const {
  return "fake " + std::to_string(size_) + " " + text_of(spec_);
}

TemporaryFolder::TemporaryFolder() {
  std::string name = (std::filesystem::temp_directory_path() / "dkdm-check-XXXXXX").string();
  if (!::mkdtemp(name.data()))
    throw StoreError(name + ": cannot make a temporary folder: " + std::strerror(errno) +
                     "; set TMPDIR to a folder that can be written");
  path_ = name;
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

}  // namespace dkdm::conformance
