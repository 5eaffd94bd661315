// Definition: foreign_file.hpp.
#include "io/foreign_file.hpp"

#include <algorithm>
#include <array>
#include <cctype>
#include <optional>

#include "io/plain_text.hpp"

namespace dkdm::io {
namespace {

constexpr std::uint64_t kLooked = 4096;  // bytes
constexpr std::size_t kShownText = 60;

const std::string kDistributed =
    "a distributed checkpoint of PyTorch: join its folder with python3 -m "
    "torch.distributed.checkpoint.format_utils dcp_to_torch FOLDER joined.pt";
const char* const kArray = "a numpy array (.npy)";

struct Magic {
  std::size_t at;
  std::string_view bytes;
  const char* what;
};

const std::vector<Magic>& magics() {
  using namespace std::string_view_literals;
  static const std::vector<Magic> list{
      {0, "\x1f\x8b"sv, "a gzip archive: unpack it first (gunzip, or tar -xzf)"},
      {0, "\x28\xb5\x2f\xfd"sv, "a zstd archive: unpack it first (unzstd)"},
      {0,
       "\xfd"
       "7zXZ\0"sv,
       "an xz archive: unpack it first (unxz, or tar -xJf)"},
      {0, "BZh"sv, "a bzip2 archive: unpack it first (bunzip2, or tar -xjf)"},
      {0, "\x04\x22\x4d\x18"sv, "an lz4 archive: unpack it first (unlz4)"},
      {0, "7z\xbc\xaf\x27\x1c"sv, "a 7z archive: unpack it first (7z x)"},
      {0, "Rar!\x1a\x07"sv, "a RAR archive: unpack it first (unrar x)"},
      {257, "ustar"sv, "a tar archive: unpack it first (tar -xf)"},
      {0, "\x93NUMPY"sv, kArray},
      {0, "\x89HDF\r\n\x1a\n"sv, "an HDF5 file (Keras and others); it is not read here"},
      {0, "GGUF"sv, "a GGUF file (llama.cpp); it is not read here"},
      {0, "ggml"sv, "a GGML file; it is not read here"},
      {0, "lmgg"sv, "a GGML file; it is not read here"},
      {4, "TFL3"sv, "a TensorFlow Lite model; it is not read here"},
      {0, "\x89PNG\r\n\x1a\n"sv, "a PNG image"},
      {0, "\xff\xd8\xff"sv, "a JPEG image"},
      {0, "GIF8"sv, "a GIF image"},
      {0, "BM"sv, "a BMP image"},
      {8, "WEBP"sv, "a WebP image"},
      {0, "II*\0"sv, "a TIFF image"},
      {0, "MM\0*"sv, "a TIFF image"},
      {0, "%PDF"sv, "a PDF document"},
      {0,
       "\x7f"
       "ELF"sv,
       "a program or library (ELF)"},
      {0, "SQLite format 3\0"sv, "an SQLite database"},
      {0, "PAR1"sv, "a Parquet table; it is not read here"},
      {0, "ARROW1"sv, "an Arrow table; it is not read here"},
  };
  return list;
}

std::string lower(std::string_view text) {
  std::string out(text);
  std::transform(out.begin(), out.end(), out.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return out;
}

// What stands between `open` and `close` in `text`, on one line, "" where it does not.
std::string between(std::string_view text, std::string_view open, std::string_view close) {
  const std::string small = lower(text);
  auto begin = small.find(open);
  if (begin == std::string::npos) return "";
  begin += open.size();
  const auto end = small.find(close, begin);
  std::string inner(text.substr(begin, end == std::string::npos ? kShownText : end - begin));
  std::replace_if(inner.begin(), inner.end(), [](unsigned char c) { return c < 0x20; }, ' ');
  const auto first = inner.find_first_not_of(' ');
  if (first == std::string::npos) return "";
  return escaped(inner.substr(first, inner.find_last_not_of(' ') - first + 1), kShownText);
}

std::string with(const std::string& what, const std::string& detail, const std::string& advice) {
  return what + (detail.empty() ? "" : " (" + detail + ")") + advice;
}

// Pointers of tools that keep large files elsewhere.
std::string pointer_kind(std::string_view begin) {
  if (begin.starts_with("version https://git-lfs.github.com/spec/") ||
      begin.starts_with("version https://hawser.github.com/spec/")) {
    const std::string size = between(begin, "\nsize ", "\n");
    return with("a Git LFS pointer", size.empty() ? "" : size + " bytes are elsewhere",
                ": run git lfs pull");
  }
  if (begin.starts_with("/annex/objects/") || begin.starts_with(".git/annex/objects/")) {
    return "a git-annex pointer: run git annex get";
  }
  if (begin.starts_with("outs:\n- ") || begin.starts_with("md5: "))
    return "a DVC pointer: run dvc pull";
  return "";
}

std::string markup_kind(std::string_view text) {
  const std::string small = lower(text.substr(0, 512));
  if (small.find("<html") != std::string::npos ||
      small.find("<!doctype html") != std::string::npos || small.starts_with("<head") ||
      small.starts_with("<body")) {
    std::string title = between(text, "<title>", "</title>");
    if (title.empty()) title = between(text, "<body>", "<");
    if (title.empty()) title = between(text, "<h1>", "<");
    return with("a web page", title, ": the download did not reach the file; download it again");
  }
  if (!small.starts_with("<?xml") && !small.starts_with("<error")) return "";
  std::string code = between(text, "<code>", "</code>");
  return with("an XML text", code, code.empty() ? "" : ": the server refused the download");
}

std::string json_kind(std::string_view text) {
  if (text.find("\"weight_map\"") != std::string_view::npos) {
    return "the index of a checkpoint in shards (weight_map): the weights are in the files that it names; "
           "give their folder to the teacher diffusers, or join them";
  }
  if (text.find("\"_class_name\"") != std::string_view::npos) {
    return "a configuration of diffusers (JSON): the weights are in a file beside it";
  }
  return "a JSON text (" +
         escaped(text.substr(0, std::min(text.find('\n'), kShownText)), kShownText) + ")";
}

// ONNX is a protobuf without a magic: ir_version, then the producer's name.
bool is_onnx(std::string_view begin) {
  return begin.size() > 12 && begin[0] == '\x08' && begin[1] > 0 && begin[1] < 32 &&
         begin[2] == '\x12' &&
         (begin.substr(0, 64).find("torch") != std::string_view::npos ||
          begin.substr(0, 64).find("onnx") != std::string_view::npos ||
          begin.substr(0, 64).find("keras") != std::string_view::npos);
}

// UTF-8 without control characters. The end may be cut.
bool is_text(std::string_view begin) {
  int following = 0;
  for (const char c : begin) {
    const auto byte = static_cast<unsigned char>(c);
    const bool follows = (byte & 0xc0) == 0x80;
    if (follows != (following > 0)) return false;
    if (follows) {
      --following;
    } else if (byte >= 0xc2 && byte <= 0xf4) {
      following = byte < 0xe0 ? 1 : byte < 0xf0 ? 2 : 3;
    } else if (byte > 0x7e || (byte < 0x20 && byte != '\n' && byte != '\r' && byte != '\t')) {
      return false;
    }
  }
  return true;
}

// TensorFlow's table of a checkpoint's tensors ends with LevelDB's number.
bool is_tensorflow_index(const ByteSource& file) {
  constexpr std::string_view kEnd = "\x57\xfb\x80\x8b\x24\x75\x47\xdb";
  return file.size() >= 48 && file.read(file.size() - kEnd.size(), kEnd.size()) == kEnd;
}

bool is_idx(std::string_view begin) {
  return begin.size() > 4 && begin[0] == 0 && begin[1] == 0 && begin[2] >= 8 && begin[2] <= 0x0e &&
         begin[3] >= 1 && begin[3] <= 4;
}

std::string text_kind(std::string_view begin) {
  std::string_view text = begin;
  if (text.starts_with("\xef\xbb\xbf")) text.remove_prefix(3);
  const auto first = text.find_first_not_of(" \t\r\n");
  if (first == std::string_view::npos) return "an empty text";
  text.remove_prefix(first);
  if (const std::string kind = markup_kind(text); !kind.empty()) return kind;
  if (text[0] == '{' || text[0] == '[') return json_kind(text);
  return "a text (\"" +
         escaped(text.substr(0, std::min(text.find_first_of("\r\n"), kShownText)), kShownText) +
         "\")";
}

}  // namespace

std::string zip_kind(const std::vector<ZipEntry>& entries) {
  const auto any = [&](auto&& fits) {
    return std::any_of(entries.begin(), entries.end(),
                       [&](const ZipEntry& entry) { return fits(entry.name); });
  };
  const auto ends = [&](std::string_view ending) {
    return any([&](std::string_view name) { return name.ends_with(ending); });
  };
  if (ends("archive_format") || ends("serialized_exported_program.json") ||
      ends("models/model.json")) {
    return "a program that torch.export saved (.pt2): save the module's state_dict() with torch.save "
           "instead";
  }
  if (ends("constants.pkl")) return "a TorchScript module: the teacher plugin torchscript loads it";
  if (ends("data.pkl")) return "a checkpoint of PyTorch";
  if (ends("model.weights.h5") || ends(".keras")) return "a Keras model; it is not read here";
  if (!entries.empty() && std::all_of(entries.begin(), entries.end(), [](const ZipEntry& entry) {
        return entry.name.ends_with(".npy");
      })) {
    return "an npz (arrays of numpy)";
  }
  if (any([](std::string_view name) {
        return name.ends_with(".distcp") || name.ends_with("/.metadata");
      })) {
    return kDistributed;
  }
  if (ends(".pt") || ends(".pth") || ends(".ckpt") || ends(".safetensors") || ends(".npz")) {
    return "a zip archive around other files: unpack it first (unzip)";
  }
  return "";
}

std::string recognised_kind(const ByteSource& file) {
  if (file.size() == 0) return "the file is empty (a download that failed?)";
  if (is_distributed_part(file.path())) return "a part of " + kDistributed;
  const std::string begin = file.read(0, std::min(file.size(), kLooked));
  if (const std::string kind = pointer_kind(begin); !kind.empty()) return kind;
  for (const Magic& magic : magics()) {
    if (std::string_view(begin).substr(std::min(magic.at, begin.size())).starts_with(magic.bytes)) {
      return magic.what;
    }
  }
  if (begin.find_first_not_of('\0') == std::string::npos && file.size() >= 16) {
    return "nothing but zero bytes at its beginning: a download that was not finished";
  }
  if (begin.starts_with("PK\x03\x04")) {
    std::optional<ZipReader> zip;
    try {
      zip.emplace(file);
    } catch (const DataError&) {
      return "a zip archive (.pt, .npz) without its end: the download was not finished";
    }
    return zip_kind(zip->entries());
  }
  if (begin.size() > 9 && begin[8] == '{' &&
      little_endian<std::uint64_t>(begin.data()) < (1u << 27)) {
    return little_endian<std::uint64_t>(begin.data()) < file.size()
               ? "a safetensors file"
               : "a safetensors file without its end: the download was not finished";
  }
  if (begin[0] == '\x80' && begin.size() > 1 && begin[1] >= 2 && begin[1] <= 5)
    return "a pickle of Python";
  if (is_onnx(begin)) return "an ONNX model; it is not read here";
  if (is_tensorflow_index(file)) return "the index of a TensorFlow checkpoint; it is not read here";
  if (is_idx(begin)) return "an IDX file (MNIST's format)";
  return is_text(begin) ? text_kind(begin) : "";
}

std::string folder_kind(const std::filesystem::path& folder) {
  const auto has = [&](const char* name) {
    std::error_code ignored;
    return std::filesystem::exists(folder / name, ignored);
  };
  if (has(".metadata")) return kDistributed;
  if (has("model_index.json")) return "a pipeline of diffusers: the teacher diffusers reads it";
  if (has("config.json"))
    return "a model of diffusers or transformers: the teacher diffusers reads a UNet2DModel";
  if (has("model.json")) return "a model that dkdm trained: the teacher checkpoint reads it";
  if (has("latest") || has("zero_to_fp32.py"))
    return "a checkpoint of DeepSpeed: join it with the zero_to_fp32.py beside it";
  return "";
}

bool is_distributed_part(const std::filesystem::path& file) {
  return file.extension() == ".distcp" || file.filename() == ".metadata";
}

void refuse_kind(const std::filesystem::path& file, const std::string& kind,
                 const std::string& expected) {
  if (kind.empty()) throw DataError(at_byte(file, 0), "is not " + expected);
  throw DataError(at_byte(file, 0),
                  kind.find(':') == std::string::npos ? kind + ", not " + expected : kind);
}

void refuse_foreign(const ByteSource& file, const std::string& expected) {
  std::string kind = recognised_kind(file);
  if (kind == kArray && expected.find(".npz") != std::string::npos) {
    kind += ": put it in an npz as arr_0, with numpy.savez(\"x.npz\", arr_0=numpy.load(\"x.npy\"))";
  }
  refuse_kind(file.path(), kind, expected);
}

}  // namespace dkdm::io
