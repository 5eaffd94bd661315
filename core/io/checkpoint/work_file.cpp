#include "io/checkpoint/work_file.hpp"

#include <ATen/ATen.h>

#include <charconv>
#include <sstream>
#include <system_error>

#include "io/checkpoint/tensor_bytes.hpp"
#include "io/sha256.hpp"

namespace dkdm::io {
namespace {

namespace fs = std::filesystem;

const std::string kChecksum = "checksum";

// SHA-256 over every name, type, shape, byte and fact; lengths keep two texts from running into
// each other.
std::string checksum(const TensorMap& tensors, const Facts& facts) {
  Sha256 digest;
  const auto add = [&](const std::string& text) {
    digest.add(std::to_string(text.size()) + ' ' + text);
  };
  for (const auto& [name, value] : facts) {
    if (name == kChecksum) continue;
    add(name);
    add(value);
  }
  for (const auto& [name, tensor] : tensors) {
    std::ostringstream head;
    head << name << ' ' << tensor.scalar_type() << ' ' << tensor.sizes();
    add(head.str());
    for_each_block(tensor, [&](std::string_view bytes) { digest.add(bytes.data(), bytes.size()); });
  }
  return digest.hexadecimal();
}

template <class Number>
Number parsed(const Work& work, const std::string& name, const char* expected) {
  const std::string& text = work.fact(name);
  Number number{};
  const char* const end = text.data() + text.size();
  const auto result = std::from_chars(text.data(), end, number);
  if (text.empty() || result.ec != std::errc() || result.ptr != end)
    throw DataError(work.file.string(), name + " is \"" + text + "\", expected " + expected);
  return number;
}

}  // namespace

const std::string& Work::fact(const std::string& name) const {
  const auto found = facts.find(name);
  if (found == facts.end()) throw DataError(file.string(), "does not say its " + name);
  return found->second;
}

std::int64_t Work::integer(const std::string& name) const {
  return parsed<std::int64_t>(*this, name, "an integer");
}

double Work::real(const std::string& name) const { return parsed<double>(*this, name, "a number"); }

const at::Tensor& Work::tensor(const std::string& name, at::ScalarType type,
                               at::IntArrayRef sizes) const {
  const auto found = tensors.find(name);
  if (found == tensors.end()) throw DataError(file.string(), "has no tensor " + name);
  const at::Tensor& tensor = found->second;
  bool fits = tensor.scalar_type() == type && tensor.dim() == std::int64_t(sizes.size());
  for (std::size_t i = 0; fits && i < sizes.size(); ++i)
    fits = sizes[i] < 0 || sizes[i] == tensor.size(std::int64_t(i));
  if (!fits) {
    std::ostringstream text;
    text << name << " is " << tensor.scalar_type() << ' ' << tensor.sizes() << ", expected " << type
         << ' ' << sizes;
    throw DataError(file.string(), text.str());
  }
  return tensor;
}

void save_work(const fs::path& file, const TensorMap& tensors, Facts facts) {
  // Brought from its device once, for the checksum and for the file.
  TensorMap here;
  for (const auto& [name, tensor] : tensors) here[name] = tensor.detach().to(at::kCPU);
  facts[kChecksum] = checksum(here, facts);
  save_tensors(file, here, facts);
}

Work load_work(const fs::path& file) {
  Work work{file, {}, {}};
  work.tensors = load_tensors(file, &work.facts);
  if (work.fact(kChecksum) != checksum(work.tensors, work.facts))
    throw DataError(file.string(), "is not what was written: its checksum differs");
  return work;
}

std::string set_aside(const fs::path& file, const std::string& why) {
  const fs::path aside = file.string() + ".damaged";
  std::error_code error;
  fs::rename(file, aside, error);
  if (!error) return why + "; set aside as " + aside.filename().string();
  fs::remove(file, error);
  return why + "; removed";
}

}  // namespace dkdm::io
