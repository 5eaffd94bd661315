// Random numbers by CUDA kernels: what a GPU would compile and start, run by a stand-in for NVRTC
// and the driver (fake_cuda), on the fake device's memory. Where there is an NVRTC, it compiles
// them too.
#include <catch2/catch.hpp>

#include <ATen/ATen.h>
#include <dlfcn.h>

#include <iostream>
#include <regex>

#include "dkdm/random.hpp"
#include "fake_cuda/fake_cuda.hpp"
#include "fake_device/fake_device.hpp"
#include "fake_device/memory.hpp"
#include "random/kernel.hpp"
#include "random/kernel_source.hpp"

using namespace dkdm;
using Catch::Matchers::Contains;
using random::NumberKernels;

namespace {

void* readable(const void* address) { return fake_device::readable(address); }

// While it lives, fake devices have CUDA.
class WithCuda {
 public:
  explicit WithCuda(FakeCudaFault fault = FakeCudaFault::none)
      : library_(::dlopen(DKDM_FAKE_CUDA, RTLD_NOW | RTLD_LOCAL)) {
    REQUIRE(library_);
    function<decltype(fake_cuda_serve)>("fake_cuda_serve")(readable, fault);
    NumberKernels::look_in({"libnot-there.so", DKDM_FAKE_CUDA}, at::kPrivateUse1);
  }
  ~WithCuda() { NumberKernels::look_in(cuda::libraries(), at::kCUDA); }

  int launches() const { return function<decltype(fake_cuda_launches)>("fake_cuda_launches")(); }

 private:
  template <class Signature>
  Signature* function(const char* name) const {
    return reinterpret_cast<Signature*>(::dlsym(library_, name));
  }
  void* library_;
};

// What `work` says in the log, which is on stdout where no main has set it up.
template <class Work>
std::string said(const Work& work) {
  std::fflush(stdout);
  std::FILE* file = std::tmpfile();
  const int before = ::dup(STDOUT_FILENO);
  ::dup2(::fileno(file), STDOUT_FILENO);
  work();
  std::fflush(stdout);
  ::dup2(before, STDOUT_FILENO);
  ::close(before);
  std::rewind(file);
  std::string text(4096, '\0');
  text.resize(std::fread(text.data(), 1, text.size(), file));
  std::fclose(file);
  return text;
}

const at::Device device = fake_device::device();

}  // namespace

TEST_CASE("random kernels: normals and masks have the bits of the CPU's loops", "[unit][random]") {
  const WithCuda cuda;
  REQUIRE(NumberKernels::of(device));
  const std::int64_t large = std::int64_t{1} << 40;
  const at::Tensor index = at::tensor({std::int64_t{5}, std::int64_t{0}, 3 * large + 7,
                                       std::int64_t{0xffffffff}, (large << 22) + 1},
                                      at::kLong);
  const Random noise(7, Stream::pool_noise);
  for (const std::int64_t length : {0, 1, 15, 16, 17, 63, 64, 65, 100, 1000, 3 * 32 * 32}) {
    INFO("length " << length);
    const int before = cuda.launches();
    CHECK(at::equal(noise.normal(5, index.to(device), {length}).to(at::kCPU),
                    noise.normal(5, index, {length})));
    CHECK(cuda.launches() - before == (length > 0 ? 1 : 0));
  }
  CHECK(at::equal(noise.normal(0xffffffff, index.to(device), {77}).to(at::kCPU),
                  noise.normal(0xffffffff, index, {77})));
  // Every binade that a million radii are likely to meet, over more blocks than one.
  const at::Tensor many = at::arange(400, at::kLong);
  CHECK(at::equal(noise.normal(1, many.to(device), {3, 32, 32}).to(at::kCPU),
                  noise.normal(1, many, {3, 32, 32})));
  // Every other row of what an index was cut from.
  const at::Tensor strided = at::arange(20, at::kLong).slice(0, 0, 20, 2);
  CHECK(at::equal(
      noise.normal(1, at::arange(20, at::kLong).to(device).slice(0, 0, 20, 2), {9}).to(at::kCPU),
      noise.normal(1, strided, {9})));

  for (const std::int64_t first : {std::int64_t{0}, (large << 11) - 2, 3 * large + 7})
    for (const std::int64_t count : {0, 1, 300})
      CHECK(at::equal(
          random::uniform(7, Stream::pool_noise, {5, {}}, first, count, device).to(at::kCPU),
          noise.uniform(5, first, count)));

  const Random dropout(3, Stream::dropout);
  for (const std::vector<std::int64_t>& sizes :
       {std::vector<std::int64_t>{3, 7, 3, 3}, {2, 500}, {4, 130}, {0, 5}, {}, {2, 64, 16, 16}}) {
    for (const double p : {0.0, 1e-6, 0.3, 0.999999}) {
      INFO("sizes " << at::IntArrayRef(sizes) << ", p " << p);
      CHECK(at::equal(random::dropout_mask(3, Stream::dropout, {9, {}}, 0xffffffff, 0xfffffffe,
                                           sizes, p, device)
                          .to(at::kCPU),
                      dropout.dropout_mask(9, 0xffffffff, 0xfffffffe, sizes, p)));
    }
  }
}

TEST_CASE("random kernels: a step that lies on the device is read there", "[unit][random]") {
  const auto step = at::full({}, std::int64_t{4000000001}, at::kLong).to(device);
  const at::Tensor index = at::arange(3, at::kLong);
  const auto key = random::key_of(2, Stream::layer);
  const auto numbers = [&] {
    return random::normal(key, {17, step}, index.to(device), {50}).to(at::kCPU);
  };
  const auto mask = [&] {
    return random::dropout_mask(2, Stream::layer, {17, step}, 1, 0, {3, 50}, 0.5, device)
        .to(at::kCPU);
  };
  const auto uniforms = [&] {
    return random::uniform(2, Stream::layer, {17, step}, 5, 50, device).to(at::kCPU);
  };
  const Random expected(2, Stream::layer);
  for (const bool by_kernels : {false, true}) {
    INFO(by_kernels);
    std::optional<WithCuda> cuda;
    if (by_kernels) cuda.emplace();
    CHECK(at::equal(numbers(), expected.normal(4000000001, index, {50})));
    CHECK(at::equal(uniforms(), expected.uniform(4000000001, 5, 50)));
    CHECK(at::equal(mask(), expected.dropout_mask(4000000001, 1, 0, {3, 50}, 0.5)));
  }
}

TEST_CASE("random kernels: what cannot be trusted or had is done by operators, and said once",
          "[unit][random]") {
  const at::Tensor index = at::arange(3, at::kLong);
  const Random noise(1, Stream::pool_noise);
  const auto check = [&](FakeCudaFault fault, const std::string& why) {
    const WithCuda cuda(fault);
    const auto numbers = [&] { return noise.normal(5, index.to(device), {100}).to(at::kCPU); };
    at::Tensor first, second;
    const std::string text = said([&] { first = numbers(); });
    CHECK_THAT(text, Contains("numbers are made on fake:0 by LibTorch's operators, which takes "
                              "longer: " +
                              why));
    CHECK(said([&] { second = numbers(); }).empty());
    CHECK(at::equal(first, noise.normal(5, index, {100})));
    CHECK(at::equal(second, first));
  };
  check(FakeCudaFault::rounds_otherwise, "the CUDA kernels give other bits");
  check(FakeCudaFault::refuses_code, "the CUDA driver, given code: planted");
  check(FakeCudaFault::refuses_to_compile,
        "NVRTC: NVRTC_ERROR_COMPILATION: dkdm.cu(1): error: planted");
  NumberKernels::look_in({"libnot-there.so"}, at::kPrivateUse1);
  CHECK_THAT(said([&] { noise.normal(5, index.to(device), {1}); }),
             Contains("NVRTC is not here (no library has nvrtcCreateProgram)"));
  NumberKernels::look_in(cuda::libraries(), at::kCUDA);
  CHECK(said([&] { noise.normal(5, index.to(device), {1}); }).empty());
}

TEST_CASE("random kernels: NVRTC takes the source, and contracts nothing", "[unit][random]") {
  std::string ptx;
  try {
    ptx = cuda::ptx(cuda::libraries(), random::kKernelSource, 80);
  } catch (const Error& error) {
    REQUIRE_THAT(error.what(), Contains("NVRTC is not here"));
    WARN("there is no NVRTC on this machine: not compiled");
    return;
  }
  for (const char* kernel : {"dkdm_normal", "dkdm_uniform", "dkdm_mask"})
    CHECK(std::regex_search(ptx, std::regex(".visible .entry " + std::string(kernel))));
  CHECK(ptx.find("mul.rn.f32") != std::string::npos);
  CHECK(ptx.find("add.rn.f32") != std::string::npos);
  CHECK(ptx.find("sqrt.rn.f32") != std::string::npos);
  CHECK_FALSE(std::regex_search(ptx, std::regex(R"((fma|mad)(\.\w+)*\.f(16|32|64))")));
  CHECK_FALSE(std::regex_search(ptx, std::regex(R"((mul|add|sub)\.f32)")));  // without .rn
  CHECK_FALSE(std::regex_search(ptx, std::regex(R"(\.(ftz|approx))")));

  CHECK_THROWS_WITH(cuda::ptx(cuda::libraries(), "__global__ void f() { g(); }", 80),
                    Contains("NVRTC: NVRTC_ERROR_COMPILATION") && Contains("dkdm.cu(1)"));
  CHECK_THROWS_WITH(cuda::ptx(cuda::libraries(), random::kKernelSource, 20),
                    Contains("NVRTC does not know devices of compute capability 2.0"));
}
