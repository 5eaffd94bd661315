// SHA-256 (FIPS 180-4) by OpenSSL.
#include "io/sha256.hpp"

#include <openssl/evp.h>

#include <algorithm>

#include "dkdm/files.hpp"
#include "io/input_file.hpp"

namespace dkdm::io {

Sha256::Sha256() : context_(EVP_MD_CTX_new(), &EVP_MD_CTX_free) {
  if (!context_ || EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr) != 1)
    throw Error("SHA-256: OpenSSL refuses to start");
}

void Sha256::add(const void* data, std::size_t bytes) {
  if (EVP_DigestUpdate(context_.get(), data, bytes) != 1) throw Error("SHA-256: OpenSSL failed");
}

std::string Sha256::hexadecimal() {
  unsigned char value[EVP_MAX_MD_SIZE];
  unsigned length = 0;
  if (EVP_DigestFinal_ex(context_.get(), value, &length) != 1)
    throw Error("SHA-256: OpenSSL failed");
  std::string text;
  for (unsigned i = 0; i < length; ++i) {
    text += "0123456789abcdef"[value[i] >> 4];
    text += "0123456789abcdef"[value[i] & 15];
  }
  return text;
}

std::string sha256(const std::string& text) {
  Sha256 digest;
  digest.add(text);
  return digest.hexadecimal();
}

std::string sha256_file(const std::filesystem::path& file) {
  const InputFile input(file);
  Sha256 digest;
  std::vector<char> piece(std::size_t{1} << 20);
  for (std::uint64_t at = 0; at < input.size();) {
    const std::uint64_t bytes = std::min<std::uint64_t>(piece.size(), input.size() - at);
    input.read(at, piece.data(), bytes);
    digest.add(piece.data(), bytes);
    at += bytes;
  }
  return digest.hexadecimal();
}

}  // namespace dkdm::io
