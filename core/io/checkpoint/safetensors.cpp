// safetensors: u64 length of a JSON header, the header {"name": {"dtype", "shape",
// "data_offsets"}}, then the tensors' bytes without gap or overlap (safetensors README, "Format").
#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "io/checkpoint/tensor_file.hpp"
#include "io/plain_text.hpp"

namespace dkdm::io {
namespace {

using Json = nlohmann::json;

constexpr std::uint64_t kHeaderLimit = 100'000'000;  // bytes; the format's own limit
constexpr int kDepthLimit = 3;                       // header, tensor, shape
const std::string kMetadata = "__metadata__";

struct Entry {
  std::string name;
  ItemType type{};
  std::vector<std::int64_t> shape;
  std::uint64_t begin = 0, end = 0;  // of its bytes, from the header's end
};

Json parse_header(const MappedFile& input, std::uint64_t header_bytes) {
  const std::string_view text = input.view(8, header_bytes);
  std::set<std::string> names;  // a JSON object keeps the last of two equal names in silence
  const auto refuse = [&](int depth, Json::parse_event_t event, Json& parsed) {
    if (depth > kDepthLimit) {
      throw DataError(at_byte(input.path(), 8), "nested deeper than a safetensors header is");
    }
    if (event == Json::parse_event_t::key && depth == 1 &&
        !names.insert(parsed.get<std::string>()).second) {
      throw DataError(input.path().string(),
                      "tensor " + shown(parsed.dump()) + " stands there twice");
    }
    return true;
  };
  try {
    Json header = Json::parse(text, refuse);
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
  const std::string where = file + ": tensor '" + shown(name) + "'";
  if (!json.is_object() || !json.contains("dtype") || !json["dtype"].is_string() ||
      !json.contains("shape") || !json["shape"].is_array() || !json.contains("data_offsets") ||
      !json["data_offsets"].is_array() || json["data_offsets"].size() != 2) {
    throw DataError(where, "needs dtype (text), shape (list) and data_offsets (two integers)");
  }
  const auto natural = [&](const Json& number, const char* what) {
    if (!number.is_number_unsigned() || number.get<std::uint64_t>() > (std::uint64_t{1} << 62)) {
      throw DataError(where, std::string(what) + " holds " + shown(number.dump(-1, ' ', true)) +
                                 ", expected an integer from 0");
    }
    return number.get<std::uint64_t>();
  };

  Entry entry{.name = escaped(name, name.size()), .shape = {}};
  const auto& dtype = json["dtype"].get_ref<const std::string&>();
  const auto known = std::find_if(kItems.begin(), kItems.end(), [&](const ItemInfo& item) {
    return !dtype.empty() && dtype == item.safetensors;
  });
  if (known == kItems.end()) {
    std::string names;
    for (const ItemInfo& item : kItems) {
      if (!item.safetensors.empty()) names += " " + std::string(item.safetensors);
    }
    throw DataError(where, "dtype '" + shown(dtype) + "' is not one of" + names);
  }
  entry.type = known->type;
  if (json["shape"].size() > kDimensionLimit) throw DataError(where, "has too many dimensions");
  for (const Json& side : json["shape"]) {
    entry.shape.push_back(static_cast<std::int64_t>(natural(side, "shape")));
  }
  if (const std::int64_t packed = packed_numbers(entry.type); packed > 1) {
    if (entry.shape.empty() || entry.shape.back() % packed != 0) {
      throw DataError(where, "dtype '" + dtype + "' needs a last side that is a multiple of " +
                                 std::to_string(packed) + ": so many numbers share a byte");
    }
    entry.shape.back() /= packed;
  }
  entry.begin = natural(json["data_offsets"][0], "data_offsets");
  entry.end = natural(json["data_offsets"][1], "data_offsets");
  if (entry.begin > entry.end || entry.end > data_bytes) {
    throw DataError(where, "bytes " + std::to_string(entry.begin) + " to " +
                               std::to_string(entry.end) + " lie outside the file's " +
                               std::to_string(data_bytes) + " (truncated?)");
  }
  const std::uint64_t expected = array_bytes(entry.shape, info(entry.type).bytes, where);
  if (entry.end - entry.begin != expected) {
    throw DataError(where, "has " + std::to_string(entry.end - entry.begin) +
                               " bytes, but its shape and dtype take " + std::to_string(expected));
  }
  return entry;
}

// The entries in the order of their bytes, checked to tile the data exactly.
std::vector<Entry> parse_entries(const MappedFile& input, const Json& header,
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
      throw DataError(input.path().string() + ": tensor '" + shown(entry.name) + "'",
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

}  // namespace

TensorFile parse_safetensors(const MappedFile& input) {
  const std::filesystem::path& file = input.path();
  const auto header_bytes = little_endian<std::uint64_t>(input.view(0, 8).data());
  if (header_bytes > kHeaderLimit || header_bytes > input.size() - 8) {
    throw DataError(at_byte(file, 0), "a header of " + std::to_string(header_bytes) +
                                          " bytes does not fit the file's " +
                                          std::to_string(input.size()) +
                                          " (not safetensors, or truncated)");
  }
  const Json header = parse_header(input, header_bytes);
  const std::uint64_t data_begin = 8 + header_bytes;

  TensorFile out{.format = "safetensors"};
  if (const auto texts = header.find(kMetadata); texts != header.end()) {
    if (!texts->is_object()) throw DataError(file.string(), "__metadata__ is not a table of texts");
    for (const auto& [key, value] : texts->items()) {
      if (!value.is_string()) {
        throw DataError(file.string(), "__metadata__ '" + shown(key) + "' is not a text");
      }
      out.values[key] = value.get<std::string>();
    }
  }
  StoredState state;
  for (const Entry& entry : parse_entries(input, header, input.size() - data_begin)) {
    StoredTensor tensor{.type = entry.type, .storage = out.storages.size(), .sizes = entry.shape};
    tensor.strides.resize(entry.shape.size());
    std::int64_t stride = 1;
    for (std::size_t i = entry.shape.size(); i-- > 0;) {
      tensor.strides[i] = stride;
      stride *= std::max<std::int64_t>(entry.shape[i], 1);
    }
    out.storages.push_back(
        {data_begin + entry.begin, entry.end - entry.begin, std::nullopt, entry.name});
    state.tensors.emplace_back(entry.name, std::move(tensor));
  }
  if (!state.tensors.empty()) out.states.push_back(std::move(state));
  return out;
}

}  // namespace dkdm::io
