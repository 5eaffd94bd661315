// What the checks of all kinds share: failures, fake data, comparisons.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "conformance/check.hpp"
#include "dkdm/dataset.hpp"
#include "dkdm/denoiser.hpp"

namespace dkdm::conformance {

void check_student(const Subject& subject, Checklist& list);
// Its shapes at a size that would not fit (check_shapes.cpp).
void check_shapes(const Subject& subject, Checklist& list);
void check_teacher(const Subject& subject, Checklist& list);
void check_dataset(const Subject& subject, Checklist& list);
void check_method(const Subject& subject, Checklist& list);
void check_evaluator(const Subject& subject, Checklist& list);
void check_autoencoder(const Subject& subject, Checklist& list);

// Throws what a failed check reports.
[[noreturn]] void fail(const std::string& what, const std::string& remedy);
// Fails unless `holds`.
void require(bool holds, const std::string& what, const std::string& remedy);

std::string text_of(const at::Tensor& tensor);  // "f32 [2, 3, 8, 8]"

// Equal to rounding: another batch size may take another kernel. Shapes and dtypes must agree.
bool close(const at::Tensor& a, const at::Tensor& b);

// Noisy images [n,C,H,W], row i by i alone, and steps spread over a chain of `steps`, int64 [n].
at::Tensor noisy_images(const SampleShape& shape, std::int64_t first, std::int64_t n);
at::Tensor spread_steps(std::int64_t first, std::int64_t n, std::int64_t steps = 1000);

// What a network's forward must give for x_t: f32 [N,C or 2C,H,W], finite.
void require_output(const at::Tensor& out, const at::Tensor& x_t);
// A row's output is the same with other rows beside it, in the mode that `before_forward` sets.
void require_independent_rows(Denoiser& network, const SampleShape& shape, std::int64_t steps,
                              const std::function<void()>& before_forward);

// A network on subject.device; and whether `compute`, its call `name` ("forward") with input that
// is there, computes there what it is given there: fails unless, and says what was seen.
void bring_to_device(const Subject& subject, torch::nn::Module& network);
std::string follow_input(const Subject& subject, const std::string& name,
                         const std::function<at::Tensor()>& compute);
// Moves `network` to subject.device and fails unless its forward computes there what it is given
// there, in the modes that `before_forward` sets one after the other. Says what was seen.
std::string follow_inputs(const Subject& subject, Denoiser& network, const SampleShape& shape,
                          std::int64_t steps,
                          const std::vector<std::function<void()>>& before_forward);

// Tries the image shapes in `usual`, and where a plugin takes none of them those that its refusals
// name (numbers, and twice them, as sides; 1, 3 and numbers up to 16 as channels). `attempt`
// returns the refusal, "" where the shape is taken; what it throws is a failure at that shape, told
// in `broken`.
struct Shapes {
  std::vector<ImageSpec> taken;
  std::string refused;  // "3x32 1x28", of the usual ones
  std::string reason;   // the last refusal
  std::string broken;   // "1x28: …", neither taken nor refused; "" = none
};
Shapes taken_shapes(const std::vector<ImageSpec>& usual,
                    const std::function<std::string(const ImageSpec&)>& attempt);

// `body`'s findings; a failure begins with `where` ("at 3x32: "), and what is no Error of dkdm gets
// `remedy`.
std::string located(const std::string& where, const std::string& remedy,
                    const std::function<std::string()>& body);

// A teacher in closed form that counts the images it was asked about, with learned variance. Offers
// whatever feature is asked for.
class FakeTeacher final : public Denoiser {
 public:
  std::int64_t images = 0;
  at::Tensor forward(const at::Tensor& x_t, const at::Tensor& t) override;
};

// A student of one layer that offers whatever feature is asked for: [N,S*S,W] for "block.…", else
// [N,W,H,W].
class FakeStudent final : public Denoiser {
 public:
  explicit FakeStudent(const SampleShape& shape);
  at::Tensor forward(const at::Tensor& x_t, const at::Tensor& t) override;

 private:
  std::int64_t channels_;
  at::Tensor weight_;
};

// Images by index: noise around a brightness that their label decides.
class FakeImages final : public Dataset {
 public:
  FakeImages(std::int64_t size, ImageSpec spec) : size_(size), spec_(spec) {}
  static constexpr std::int64_t kClasses = 10;
  ImageSpec spec() const override { return spec_; }
  std::int64_t size() const override { return size_; }
  std::int64_t num_classes() const override { return kClasses; }
  at::Tensor images(const at::Tensor& index) const override;
  at::Tensor labels(const at::Tensor& index) const override;
  std::string fingerprint() const override;

 private:
  std::int64_t size_;
  ImageSpec spec_;
};

// A new empty folder, removed with what is in it.
class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

}  // namespace dkdm::conformance
