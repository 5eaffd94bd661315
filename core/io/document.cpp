// One pass over the characters, without a tree (dkdm/documents.hpp).
#include "dkdm/documents.hpp"

#include "io/foreign_file.hpp"
#include <algorithm>

#include "io/input_file.hpp"

namespace dkdm::io {
namespace {

class Scanner {
 public:
  Scanner(std::string_view text, Syntax syntax) : text_(text), toml_(syntax == Syntax::toml) {}

  std::optional<Objection> objection() {
    if (toml_ && text_.starts_with("\xEF\xBB\xBF")) at_ = 3;  // a byte order mark
    for (; at_ < text_.size(); ++at_) {
      const char c = text_[at_];
      if (toml_ && !is_ascii(c)) {
        return Objection{Objection::Kind::not_ascii, at_};
      } else if (c == '"' || (toml_ && c == '\'')) {
        if (!skip_string(c)) return Objection{Objection::Kind::not_ascii_after_backslash, at_};
      } else if (toml_ && c == '#') {
        at_ = std::min(text_.find('\n', at_), text_.size());
        parts_ = 0;
      } else if (c == '[' || c == '{') {
        parts_ = 0;
        if (++depth_ > kNestingLimit) return Objection{Objection::Kind::too_deep, at_};
      } else if (c == ']' || c == '}') {
        parts_ = 0;
        if (depth_ > 0) --depth_;
      } else if (c == ',' || c == '=' || c == '\n') {
        parts_ = 0;
      } else if (toml_ && c == '.') {
        if (++parts_ >= kKeyPartLimit) return Objection{Objection::Kind::too_deep, at_};
      }
    }
    return std::nullopt;
  }

 private:
  // Leaves at_ on the closing quote. False where a backslash joins a character that is not ASCII, at at_.
  bool skip_string(char quote) {
    const std::string three(3, quote);
    const bool long_one = toml_ && text_.substr(at_, 3) == three;
    const bool escapes = quote == '"';
    at_ += long_one ? 3 : 1;
    for (; at_ < text_.size(); ++at_) {
      if (escapes && text_[at_] == '\\') {
        ++at_;
        if (long_one && !joins_ascii()) return false;
      } else if (long_one ? text_.substr(at_, 3) == three : text_[at_] == quote) {
        // Up to two more quotes are part of a long one.
        while (long_one && at_ + 3 < text_.size() && text_[at_ + 3] == quote) ++at_;
        if (long_one) at_ += 2;
        return true;
      } else if (toml_ && !long_one && text_[at_] == '\n') {
        return true;  // not closed: the parser says so
      }
    }
    return true;
  }

  // Behind a backslash: passes over white space up to the character before the next one.
  bool joins_ascii() {
    const std::size_t next = text_.find_first_not_of(" \t\r\n", at_);
    if (next == text_.npos) return true;
    const bool ascii = is_ascii(text_[next]);
    if (!ascii) at_ = next;
    else if (next > at_) at_ = next - 1;
    return ascii;
  }

  static bool is_ascii(char c) { return static_cast<unsigned char>(c) < 128; }

  std::string_view text_;
  bool toml_;
  std::size_t at_ = 0;
  int depth_ = 0, parts_ = 0;  // parts_: dots since the last character that ends a key
};

// "3:7", as editors count: columns are characters of UTF-8.
std::string line_and_column(std::string_view text, std::size_t byte) {
  const std::string_view before = text.substr(0, byte);
  const std::size_t newline = before.rfind('\n'), start = newline == before.npos ? 0 : newline + 1;
  const auto continues = [](char c) { return (c & 0xC0) == 0x80; };
  const auto column = before.size() - start - std::count_if(before.begin() + start, before.end(), continues);
  return std::to_string(1 + std::count(before.begin(), before.end(), '\n')) + ':' + std::to_string(column + 1);
}

}  // namespace

std::string Objection::text() const {
  if (kind == Kind::not_ascii)
    return "a character that is not ASCII outside quotes; put the key or value into quotes";
  if (kind == Kind::not_ascii_after_backslash)
    return "a character that is not ASCII after a backslash that joins lines; write them as one line";
  return "nested too deeply; expected at most " + std::to_string(kNestingLimit) + " levels";
}

std::optional<Objection> objection(std::string_view text, Syntax syntax) {
  return Scanner(text, syntax).objection();
}

std::string read_document(const std::filesystem::path& file, Syntax syntax) {
  const InputFile input(file);
  if (input.size() > kDocumentLimit) {
    throw DataError(file.string(), std::to_string(input.size()) + " bytes are too many for " +
                                       (syntax == Syntax::json ? "a JSON" : "a TOML") +
                                       " document; expected at most " +
                                       std::to_string(kDocumentLimit));
  }
  std::string text = input.read(0, input.size());
  // A document of JSON is an object or a list here; TOML begins with anything.
  const auto first = text.find_first_not_of(" \t\r\n", text.starts_with("\xef\xbb\xbf") ? 3 : 0);
  if (syntax == Syntax::json && (first == std::string::npos || (text[first] != '{' && text[first] != '['))) {
    refuse_foreign(input, "a JSON document");
  }
  if (const auto found = objection(text, syntax)) {
    throw DataError(syntax == Syntax::json ? at_byte(file, found->byte)
                                           : file.string() + ':' + line_and_column(text, found->byte),
                    found->text());
  }
  return text;
}

}  // namespace dkdm::io
