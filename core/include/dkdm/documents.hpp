// JSON and TOML documents that anybody may have written, looked at before a library parses them: their
// parsers, and the trees that they make, recurse as deep as a document is nested.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "dkdm/error.hpp"

namespace dkdm::io {

enum class Syntax { json, toml };

// Brackets within brackets and, in TOML, the parts of dotted keys. Nothing that is written here or by
// the tools of this field comes near either.
inline constexpr int kNestingLimit = 64, kKeyPartLimit = 32;
inline constexpr std::uint64_t kDocumentLimit = std::uint64_t{64} << 20;  // bytes

// Why a parser must not be given a text, and the byte where that is.
struct Objection {
  enum class Kind { too_deep, not_ascii, not_ascii_after_backslash } kind;
  std::size_t byte;
  std::string text() const;  // "nested too deeply; expected at most 64 levels"
};

// The first objection to `text`: it is nested deeper than that; or, in TOML, a character that is not ASCII
// stands outside quotes and comments, where none is allowed, or begins the text that a backslash joins to
// its line: toml++ 3.3.0 has undefined behaviour at both (is_non_ascii_horizontal_whitespace). Text that is
// no document of `syntax` may get either answer: the parser refuses it.
DKDM_API std::optional<Objection> objection(std::string_view text, Syntax syntax);

// A whole document that a parser may be given. Throws DataError naming the file and the place when it cannot
// be read, is no regular file, is larger than kDocumentLimit or has an objection.
DKDM_API std::string read_document(const std::filesystem::path& file, Syntax syntax = Syntax::json);

}  // namespace dkdm::io
