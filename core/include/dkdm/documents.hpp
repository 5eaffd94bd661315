// JSON and TOML documents that anybody may have written, looked at before a library parses them:
// their parsers, and the trees that they make, recurse as deep as a document is nested.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

#include "dkdm/error.hpp"

namespace dkdm::io {

enum class Syntax { json, toml };

// Brackets within brackets and, in TOML, the parts of dotted keys. Nothing that is written here or
// by the tools of this field comes near either.
inline constexpr int kNestingLimit = 64, kKeyPartLimit = 32;
inline constexpr std::uint64_t kDocumentLimit = std::uint64_t{64} << 20;  // bytes

// The byte of `text` where it goes deeper than that; npos = nowhere. Text that is no document of
// `syntax` may get either answer: the parser refuses it.
DKDM_API std::size_t too_deep(std::string_view text, Syntax syntax);

// A whole document that a parser may be given. Throws DataError naming the file, and the byte, when
// it cannot be read, is no regular file, is larger than kDocumentLimit or nested too deeply.
DKDM_API std::string read_document(const std::filesystem::path& file, Syntax syntax = Syntax::json);

}  // namespace dkdm::io
