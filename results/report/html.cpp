// Escaping, tables, and what a page carries inside itself.
#include "results/report/html.hpp"

#include <openssl/evp.h>

#include <algorithm>
#include <array>
#include <cstdint>

#include "core/io/image/image_codec.hpp"
#include "core/io/input_file.hpp"

namespace dkdm::results {
namespace {

constexpr std::uint64_t kPictureLimit = std::uint64_t{64} << 20;  // bytes of a file

std::string base64(const unsigned char* bytes, std::size_t size) {
  std::string encoded(4 * ((size + 2) / 3) + 1, '\0');
  const int length = EVP_EncodeBlock(reinterpret_cast<unsigned char*>(encoded.data()), bytes,
                                     static_cast<int>(size));
  encoded.resize(length);
  return encoded;
}

// Each pixel is the mean of a `factor` x `factor` block; what is left over at the edges is dropped.
io::Pixels shrunk(const io::Pixels& source, std::int64_t factor) {
  io::Pixels out{source.height / factor, source.width / factor, source.channels, {}};
  out.data.reserve(static_cast<std::size_t>(out.width * out.height * out.channels));
  for (std::int64_t y = 0; y < out.height; ++y) {
    for (std::int64_t x = 0; x < out.width; ++x) {
      for (std::int64_t channel = 0; channel < out.channels; ++channel) {
        std::int64_t sum = 0;
        for (std::int64_t dy = 0; dy < factor; ++dy) {
          const auto row = (y * factor + dy) * source.width;
          for (std::int64_t dx = 0; dx < factor; ++dx) {
            sum += source.data[(row + x * factor + dx) * source.channels + channel];
          }
        }
        out.data.push_back(
            static_cast<std::uint8_t>((sum + factor * factor / 2) / (factor * factor)));
      }
    }
  }
  return out;
}

// The pixels of a file, at most `most` wide and high, as a file of their own: what else the file
// holds does not get into a page.
std::string thumbnail(const std::string& bytes, std::int64_t most) {
  auto pixels = io::decode_png(bytes, "the file");
  const auto longest = std::max(pixels.width, pixels.height);
  // At least one pixel is left of the shorter side.
  const auto factor = std::min((longest + most - 1) / most, std::min(pixels.width, pixels.height));
  return io::encode_png(factor > 1 ? shrunk(pixels, factor) : pixels);
}

}  // namespace

std::string html_escaped(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size();) {
    const auto start = i;
    const auto code = next_code_point(text, i);
    switch (code) {
      case U'&': out += "&amp;"; break;
      case U'<': out += "&lt;"; break;
      case U'>': out += "&gt;"; break;
      case U'"': out += "&quot;"; break;
      case U'\'': out += "&#39;"; break;
      default: {
        const bool control = (code < 0x20 && code != '\n' && code != '\t') ||
                             (code >= 0x7f && code < 0xa0) || code == 0xfffd;
        if (control) out += "\xef\xbf\xbd";
        else out += text.substr(start, i - start);
      }
    }
  }
  return out;
}

std::string html_isolated(std::string_view text) { return "<bdi>" + html_escaped(text) + "</bdi>"; }

std::string html_table(const Table& table, const std::string& caption, const CellWrap& wrap) {
  const auto title = html_escaped(caption);
  std::string out = "<div class=\"wide\" role=\"region\" tabindex=\"0\" aria-label=\"" + title +
                    "\">\n<table" + (table.columns.size() > 3 ? " class=\"sticky\"" : "") +
                    ">\n<caption><span>" + title + "</span></caption>\n<thead><tr>";
  const auto style = [&](std::size_t c) {
    return table.columns[c].align == Align::right ? " class=\"number\"" : "";
  };
  for (std::size_t c = 0; c < table.columns.size(); ++c) {
    out += std::string("<th scope=\"col\"") + style(c) + ">" +
           html_escaped(table.columns[c].title) + "</th>";
  }
  out += "</tr></thead>\n<tbody>\n";
  for (std::size_t r = 0; r < table.rows.size(); ++r) {
    out += "<tr>";
    for (std::size_t c = 0; c < table.rows[r].size(); ++c) {
      const auto& cell = table.rows[r][c];
      auto inner = html_isolated(cell.text.value_or(""));
      if (cell.strong) inner = "<strong>" + inner + "</strong>";
      if (cell.fault) inner = "<span class=\"fault\">" + inner + "</span>";
      if (wrap) inner = wrap(r, c, inner);
      out += c == 0 ? "<th scope=\"row\">" + inner + "</th>"
                    : std::string("<td") + style(c) + ">" + inner + "</td>";
    }
    out += "</tr>\n";
  }
  return out + "</tbody>\n</table>\n</div>\n";
}

std::string csp_hash(std::string_view content) {
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned int size = 0;
  EVP_Digest(content.data(), content.size(), digest.data(), &size, EVP_sha256(), nullptr);
  return "'sha256-" + base64(digest.data(), size) + "'";
}

std::string png_data_uri(const std::filesystem::path& file, int most, std::string& reason) {
  std::string bytes;
  try {
    const io::InputFile input(file);
    if (input.size() > kPictureLimit) throw DataError(file.string(), "is too large for a picture");
    bytes = input.read(0, input.size());
  } catch (const Error& error) {
    // Without the file's name, which the page has already.
    reason = "cannot be read: " + std::string(error.what()).substr(file.string().size() + 2);
    return "";
  }
  try {
    const auto picture = thumbnail(bytes, most);
    return "data:image/png;base64," +
           base64(reinterpret_cast<const unsigned char*>(picture.data()), picture.size());
  } catch (const Error& error) {
    reason = std::string("is not a PNG image: ") + error.what();
    return "";
  }
}

}  // namespace dkdm::results
