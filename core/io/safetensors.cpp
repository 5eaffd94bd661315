// safetensors: u64 length of a JSON header, the header {"name": {"dtype", "shape",
// "data_offsets"}}, then the tensors' bytes without gap or overlap (safetensors README, "Format").
#include <ATen/ATen.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <set>

#include "dkdm/io.hpp"
#include "io/atomic_file.hpp"
#include "io/input_file.hpp"

namespace dkdm::io {
namespace {

using Json = nlohmann::json;

constexpr std::uint64_t kHeaderLimit = 100'000'000;  // bytes; the format's own limit
constexpr std::uint64_t kAlignment = 8;
const std::string kMetadata = "__metadata__";

struct Dtype {
  const char* name;
  at::ScalarType type;
};
constexpr std::array<Dtype, 8> kDtypes{{{"F32", at::kFloat},
                                        {"F16", at::kHalf},
                                        {"BF16", at::kBFloat16},
                                        {"F64", at::kDouble},
                                        {"I64", at::kLong},
                                        {"I32", at::kInt},
                                        {"U8", at::kByte},
                                        {"BOOL", at::kBool}}};

struct Entry {
  std::string name;
  at::ScalarType type;
  std::vector<std::int64_t> shape;
  std::uint64_t begin = 0, end = 0;  // of its bytes, from the header's end
};

Json parse_header(const InputFile& input, std::uint64_t header_bytes) {
  const std::string text = input.read(8, header_bytes);
  std::set<std::string> names;  // a JSON object keeps the last of two equal names in silence
  const auto refuse_duplicates = [&](int depth, Json::parse_event_t event, Json& parsed) {
    if (event == Json::parse_event_t::key && depth == 1 &&
        !names.insert(parsed.get<std::string>()).second) {
      throw DataError(input.path().string(), "tensor " + parsed.dump() + " stands there twice");
    }
    return true;
  };
  try {
    Json header = Json::parse(text, refuse_duplicates);
    if (!header.is_object()) throw DataError(at_byte(input.path(), 8), "not a safetensors header");
    return header;
  } catch (const Json::parse_error& error) {
    throw DataError(at_byte(input.path(), 7 + error.byte), "the safetensors header is not JSON");
  } catch (const Json::exception&) {  // a name that is not UTF-8
    throw DataError(at_byte(input.path(), 8), "the safetensors header is not JSON in UTF-8");
  }
}

Entry parse_entry(const std::string& file, const std::string& name, const Json& json,
                  std::uint64_t data_bytes) {
  const std::string where = file + ": tensor '" + name + "'";
  if (!json.is_object() || !json.contains("dtype") || !json["dtype"].is_string() ||
      !json.contains("shape") || !json["shape"].is_array() || !json.contains("data_offsets") ||
      !json["data_offsets"].is_array() || json["data_offsets"].size() != 2) {
    throw DataError(where, "needs dtype (text), shape (list) and data_offsets (two integers)");
  }
  const auto natural = [&](const Json& number, const char* what) {
    if (!number.is_number_unsigned() || number.get<std::uint64_t>() > (std::uint64_t{1} << 62)) {
      throw DataError(where, std::string(what) + " holds " + number.dump(-1, ' ', true) +
                                 ", expected an integer from 0");
    }
    return number.get<std::uint64_t>();
  };

  Entry entry{.name = name, .type = at::kFloat, .shape = {}};
  const auto& dtype = json["dtype"].get_ref<const std::string&>();
  const auto known = std::find_if(kDtypes.begin(), kDtypes.end(),
                                  [&](const Dtype& one) { return dtype == one.name; });
  if (known == kDtypes.end()) {
    throw DataError(where, "dtype '" + dtype + "' is not one of F32 F16 BF16 F64 I64 I32 U8 BOOL");
  }
  entry.type = known->type;
  for (const Json& side : json["shape"]) {
    entry.shape.push_back(static_cast<std::int64_t>(natural(side, "shape")));
  }
  entry.begin = natural(json["data_offsets"][0], "data_offsets");
  entry.end = natural(json["data_offsets"][1], "data_offsets");
  if (entry.begin > entry.end || entry.end > data_bytes) {
    throw DataError(where, "bytes " + std::to_string(entry.begin) + " to " +
                               std::to_string(entry.end) + " lie outside the file's " +
                               std::to_string(data_bytes) + " (truncated?)");
  }
  const std::uint64_t expected = array_bytes(entry.shape, c10::elementSize(entry.type), where);
  if (entry.end - entry.begin != expected) {
    throw DataError(where, "has " + std::to_string(entry.end - entry.begin) +
                               " bytes, but its shape and dtype take " + std::to_string(expected));
  }
  return entry;
}

// The entries in the order of their bytes, checked to tile the data exactly.
std::vector<Entry> parse_entries(const InputFile& input, const Json& header,
                                 std::uint64_t data_bytes) {
  std::vector<Entry> entries;
  for (const auto& [name, json] : header.items()) {
    if (name != kMetadata) {
      entries.push_back(parse_entry(input.path().string(), name, json, data_bytes));
    }
  }
  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
    return std::tie(a.begin, a.end) < std::tie(b.begin, b.end);
  });
  std::uint64_t expected = 0;
  for (const Entry& entry : entries) {
    if (entry.begin != expected) {
      throw DataError(input.path().string() + ": tensor '" + entry.name + "'",
                      std::string(entry.begin < expected ? "overlaps the one" : "leaves a gap") +
                          " before it: begins at " + std::to_string(entry.begin) + ", expected " +
                          std::to_string(expected));
    }
    expected = entry.end;
  }
  if (expected != data_bytes) {
    throw DataError(input.path().string(), std::to_string(data_bytes - expected) +
                                               " bytes at the end belong to no tensor");
  }
  return entries;
}

at::Tensor read_entry(const InputFile& input, const Entry& entry, std::uint64_t data_begin) {
  at::Tensor tensor = at::empty(entry.shape, entry.type);
  input.read(data_begin + entry.begin, tensor.mutable_data_ptr(), entry.end - entry.begin);
  if (entry.type == at::kBool) {
    const auto* bytes = static_cast<const unsigned char*>(tensor.const_data_ptr());
    if (std::any_of(bytes, bytes + tensor.numel(), [](unsigned char byte) { return byte > 1; })) {
      throw DataError(input.path().string() + ": tensor '" + entry.name + "'",
                      "a BOOL is neither 0 nor 1");
    }
  }
  return tensor;
}

const char* dtype_name(const std::string& where, const at::Tensor& tensor) {
  if (!tensor.defined()) throw StoreError(where + ": the tensor is undefined");
  for (const Dtype& one : kDtypes) {
    if (one.type == tensor.scalar_type()) return one.name;
  }
  throw StoreError(where + ": safetensors files hold no " + c10::toString(tensor.scalar_type()));
}

}  // namespace

TensorMap load_tensors(const std::filesystem::path& file,
                       std::map<std::string, std::string>* metadata) {
  const InputFile input(file);
  char length[8];
  input.read(0, length, sizeof length);
  const auto header_bytes = little_endian<std::uint64_t>(length);
  if (header_bytes > kHeaderLimit || header_bytes > input.size() - 8) {
    throw DataError(at_byte(file, 0), "a header of " + std::to_string(header_bytes) +
                                          " bytes does not fit the file's " +
                                          std::to_string(input.size()) +
                                          " (not safetensors, or truncated)");
  }
  const Json header = parse_header(input, header_bytes);
  const std::uint64_t data_begin = 8 + header_bytes;

  if (const auto texts = header.find(kMetadata); texts != header.end()) {
    if (!texts->is_object()) throw DataError(file.string(), "__metadata__ is not a table of texts");
    for (const auto& [key, value] : texts->items()) {
      if (!value.is_string()) {
        throw DataError(file.string(), "__metadata__ '" + key + "' is not a text");
      }
      if (metadata) (*metadata)[key] = value.get<std::string>();
    }
  }
  TensorMap tensors;
  for (const Entry& entry : parse_entries(input, header, input.size() - data_begin)) {
    tensors[entry.name] = read_entry(input, entry, data_begin);
  }
  return tensors;
}

void save_tensors(const std::filesystem::path& file, const TensorMap& tensors,
                  const std::map<std::string, std::string>& metadata) {
  Json header = Json::object();
  if (!metadata.empty()) header[kMetadata] = metadata;
  // Widest elements first, as the reference writer does, keeps every tensor aligned to its element.
  std::vector<const TensorMap::value_type*> order;
  for (const auto& item : tensors) {
    const std::string where = file.string() + ": tensor '" + item.first + "'";
    dtype_name(where, item.second);
    if (item.first == kMetadata) throw StoreError(where + ": the name is reserved");
    order.push_back(&item);
  }
  std::stable_sort(order.begin(), order.end(), [](const auto* a, const auto* b) {
    return a->second.element_size() > b->second.element_size();
  });
  std::uint64_t offset = 0;
  for (const auto* item : order) {
    const std::uint64_t bytes = item->second.numel() * item->second.element_size();
    header[item->first] = {{"dtype", dtype_name(file.string(), item->second)},
                           {"shape", item->second.sizes().vec()},
                           {"data_offsets", {offset, offset + bytes}}};
    offset += bytes;
  }
  std::string text;
  try {
    text = header.dump();
  } catch (const Json::exception& error) {
    throw StoreError(file.string() + ": names and metadata must be UTF-8: " + error.what());
  }
  text.resize((text.size() + kAlignment - 1) / kAlignment * kAlignment, ' ');

  AtomicFile output(file);
  const std::uint64_t header_bytes = text.size();
  output.write(&header_bytes, sizeof header_bytes);
  output.write(text);
  for (const auto* item : order) {
    // The format knows no strides: a channels-last tensor goes out in logical order.
    const at::Tensor plain = item->second.detach().to(at::kCPU).contiguous();
    output.write(plain.const_data_ptr(), plain.numel() * plain.element_size());
  }
  output.commit();
}

}  // namespace dkdm::io
