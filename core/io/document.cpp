// One pass over the characters, without a tree (dkdm/documents.hpp).
#include "dkdm/documents.hpp"

#include <algorithm>

#include "io/foreign_file.hpp"
#include "io/input_file.hpp"

namespace dkdm::io {
namespace {

class Scanner {
 public:
  Scanner(std::string_view text, Syntax syntax) : text_(text), toml_(syntax == Syntax::toml) {}

  std::size_t too_deep() {
    for (; at_ < text_.size(); ++at_) {
      const char c = text_[at_];
      if (c == '"' || (toml_ && c == '\'')) {
        skip_string(c);
      } else if (toml_ && c == '#') {
        at_ = std::min(text_.find('\n', at_), text_.size());
        parts_ = 0;
      } else if (c == '[' || c == '{') {
        parts_ = 0;
        if (++depth_ > kNestingLimit) return at_;
      } else if (c == ']' || c == '}') {
        parts_ = 0;
        if (depth_ > 0) --depth_;
      } else if (c == ',' || c == '=' || c == '\n') {
        parts_ = 0;
      } else if (toml_ && c == '.') {
        if (++parts_ >= kKeyPartLimit) return at_;
      }
    }
    return std::string_view::npos;
  }

 private:
  // Leaves at_ on the closing quote.
  void skip_string(char quote) {
    const std::string three(3, quote);
    const bool long_one = toml_ && text_.substr(at_, 3) == three;
    const bool escapes = quote == '"';
    at_ += long_one ? 3 : 1;
    for (; at_ < text_.size(); ++at_) {
      if (escapes && text_[at_] == '\\') {
        ++at_;
      } else if (long_one ? text_.substr(at_, 3) == three : text_[at_] == quote) {
        // Up to two more quotes are part of a long one.
        while (long_one && at_ + 3 < text_.size() && text_[at_ + 3] == quote) ++at_;
        if (long_one) at_ += 2;
        return;
      } else if (toml_ && !long_one && text_[at_] == '\n') {
        return;  // not closed: the parser says so
      }
    }
  }

  std::string_view text_;
  bool toml_;
  std::size_t at_ = 0;
  int depth_ = 0, parts_ = 0;  // parts_: dots since the last character that ends a key
};

}  // namespace

std::size_t too_deep(std::string_view text, Syntax syntax) {
  return Scanner(text, syntax).too_deep();
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
  if (syntax == Syntax::json &&
      (first == std::string::npos || (text[first] != '{' && text[first] != '[')))
    refuse_foreign(input, "a JSON document");
  const std::size_t deep = too_deep(text, syntax);
  if (deep != std::string::npos) {
    throw DataError(at_byte(file, deep), "nested too deeply; expected at most " +
                                             std::to_string(kNestingLimit) + " levels");
  }
  return text;
}

}  // namespace dkdm::io
