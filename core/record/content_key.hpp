// Content keys: a stage's key is the hash of everything that determines its output.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "dkdm/error.hpp"

namespace dkdm::record {

// What determines an output, as named texts in a fixed order ("plugin", "params", "seed", the keys
// of the inputs…). Kept in the manifest, so that `dkdm plan` and a person can see why two keys
// differ.
using KeyParts = std::vector<std::pair<std::string, std::string>>;

// 24 hexadecimal digits of SHA-256 over the length-prefixed parts. Golden-tested: a change here
// remakes every artifact of every user.
DKDM_API std::string content_key(const KeyParts& parts);

// An independent seed for one use ("train", "sample", …) of a run's seed.
DKDM_API std::uint64_t derive_seed(std::int64_t run_seed, const std::string& use);

}  // namespace dkdm::record
