// Escaping, tables, and what a page carries inside itself.
#include "results/html.hpp"

#include <openssl/evp.h>
#include <png.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <fstream>
#include <iterator>
#include <vector>

namespace dkdm::results {
namespace {

std::string base64(const unsigned char* bytes, std::size_t size) {
  std::string encoded(4 * ((size + 2) / 3) + 1, '\0');
  const int length = EVP_EncodeBlock(reinterpret_cast<unsigned char*>(encoded.data()), bytes,
                                     static_cast<int>(size));
  encoded.resize(length);
  return encoded;
}

struct Pixels {
  int width = 0, height = 0;
  std::vector<std::uint8_t> rgb;
};

// Each pixel is the mean of a `factor` x `factor` block; what is left over at the edges is dropped.
Pixels shrunk(const Pixels& source, int factor) {
  Pixels out{source.width / factor, source.height / factor, {}};
  out.rgb.reserve(static_cast<std::size_t>(out.width) * out.height * 3);
  for (int y = 0; y < out.height; ++y) {
    for (int x = 0; x < out.width; ++x) {
      for (int channel = 0; channel < 3; ++channel) {
        int sum = 0;
        for (int dy = 0; dy < factor; ++dy) {
          const auto row = static_cast<std::size_t>(y * factor + dy) * source.width;
          for (int dx = 0; dx < factor; ++dx) {
            sum += source.rgb[(row + x * factor + dx) * 3 + channel];
          }
        }
        out.rgb.push_back(static_cast<std::uint8_t>((sum + factor * factor / 2) / (factor * factor)));
      }
    }
  }
  return out;
}

std::string encoded(const Pixels& pixels) {
  png_image image{};
  image.version = PNG_IMAGE_VERSION;
  image.width = pixels.width;
  image.height = pixels.height;
  image.format = PNG_FORMAT_RGB;
  png_alloc_size_t size = 0;
  if (!png_image_write_to_memory(&image, nullptr, &size, 0, pixels.rgb.data(), 0, nullptr)) return "";
  std::string bytes(size, '\0');
  if (!png_image_write_to_memory(&image, bytes.data(), &size, 0, pixels.rgb.data(), 0, nullptr)) {
    return "";
  }
  bytes.resize(size);
  return bytes;
}

// The file `bytes` as a smaller one; "" and `reason` when it is no PNG. Transparency turns white.
std::string thumbnail(const std::string& bytes, int most, std::string& reason) {
  png_image image{};
  image.version = PNG_IMAGE_VERSION;
  if (!png_image_begin_read_from_memory(&image, bytes.data(), bytes.size())) {
    reason = image.message;
    return "";
  }
  const int width = image.width, height = image.height;
  if (std::max(width, height) <= most) {
    png_image_free(&image);
    return bytes;
  }
  image.format = PNG_FORMAT_RGB;
  Pixels pixels{width, height, std::vector<std::uint8_t>(PNG_IMAGE_SIZE(image))};
  const png_color white{255, 255, 255};
  if (!png_image_finish_read(&image, &white, pixels.rgb.data(), 0, nullptr)) {
    reason = image.message;
    return "";
  }
  return encoded(shrunk(pixels, (std::max(width, height) + most - 1) / most));
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
  std::ifstream stream(file, std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(stream), {}};
  if (!stream) {
    reason = "cannot be read";
    return "";
  }
  std::string why;
  const auto picture = thumbnail(bytes, most, why);
  if (picture.empty()) {
    reason = "is not a PNG image: " + why;
    return "";
  }
  return "data:image/png;base64," +
         base64(reinterpret_cast<const unsigned char*>(picture.data()), picture.size());
}

}  // namespace dkdm::results
