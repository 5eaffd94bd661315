#include "record/content_key.hpp"

#include "dkdm/files.hpp"

namespace dkdm::record {

std::string content_key(const KeyParts& parts) {
  std::string text;
  for (const auto& [name, value] : parts) {
    text += name + ' ' + std::to_string(value.size()) + ' ' + value + '\n';
  }
  return io::sha256(text).substr(0, 24);
}

std::uint64_t derive_seed(std::int64_t run_seed, const std::string& use) {
  return std::stoull(io::sha256(use + ' ' + std::to_string(run_seed)).substr(0, 16), nullptr, 16);
}

}  // namespace dkdm::record
