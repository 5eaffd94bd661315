// Reference statistics as files, and what is known of them.
#include <ATen/ATen.h>

#include <algorithm>

#include "dkdm/documents.hpp"
#include "dkdm/files.hpp"
#include "dkdm/io.hpp"
#include "dkdm/json.hpp"
#include "dkdm/statistics_file.hpp"
#include "error_text.hpp"
#include "stages/reference.hpp"

namespace dkdm::stages {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr const char* kArray = "dkdm";  // the text of reference.json as bytes, inside an npz

Json parse(const std::string& text, const std::string& where) {
  if (io::too_deep(text, io::Syntax::json) != std::string::npos) {
    throw DataError(where, "provenance that is nested too deeply");
  }
  try {
    return Json::parse(text);
  } catch (const Json::exception& error) {
    throw DataError(where, "provenance is not JSON: " + error_text(error));
  }
}

bool has_array(const fs::path& file, const std::string& key) {
  const auto keys = io::npz_keys(file);
  return std::find(keys.begin(), keys.end(), key) != keys.end();
}

// null where the file has none.
Json provenance_of(const fs::path& file) {
  if (!has_array(file, kArray)) return nullptr;
  const auto bytes = io::read_npz(file, kArray).to(at::kByte).contiguous();
  return parse({reinterpret_cast<const char*>(bytes.const_data_ptr()), std::size_t(bytes.numel())},
               file.string() + ": '" + kArray + "'");
}

std::string as_text(const Json& value) {
  return value.is_string() ? value.get<std::string>() : value.dump();
}

void append(Provenance& out, const Json& json) {
  for (const auto& [name, value] : json.items()) out.emplace_back(name, as_text(value));
}

}  // namespace

Reference read_reference(const fs::path& file) {
  Reference reference;
  if (!io::has_statistics(file)) return reference;
  const auto read = io::read_statistics(file);
  auto& statistics = reference.statistics.emplace();
  statistics.arrays = {{"mu", read.pool.mean}, {"sigma", read.pool.covariance}};
  if (read.spatial) {
    statistics.arrays["mu_s"] = read.spatial->mean;
    statistics.arrays["sigma_s"] = read.spatial->covariance;
  }
  statistics.fingerprint = io::sha256_file(file);
  const Json json = provenance_of(file);
  if (json.is_null()) return reference;
  try {
    io::read_field(json, "protocol", statistics.protocol);
    io::read_field(json, "images", statistics.count);
    std::optional<std::int64_t> channels;  // of images alone
    io::read_field(json, "channels", channels);
    const auto [height, width] = io::read_sides(json);
    statistics.spec = {channels.value_or(0), height, width};
    io::read_field(json, "recipe", reference.recipe);
  } catch (const Json::exception& error) {
    throw DataError(file.string() + ": '" + kArray + "'", error_text(error));
  }
  return reference;
}

void write_reference(const Evaluator& evaluator, const fs::path& folder, const fs::path& file) {
  io::TensorMap arrays = evaluator.reference_statistics();
  const std::string text = io::read_text(folder / kReferenceText);
  arrays[kArray] = at::tensor(
      at::ArrayRef<std::uint8_t>(reinterpret_cast<const std::uint8_t*>(text.data()), text.size()));
  io::write_npz(file, arrays);
}

Provenance file_provenance(const fs::path& file) {
  Provenance out{{"file", file.string()}};
  const auto reference = read_reference(file);
  const Json json = provenance_of(file);
  if (json.is_null())
    out.emplace_back("provenance",
                     "none: not written by this suite, so its images, their number and "
                     "the protocol are whatever its publisher says");
  else append(out, json);
  if (reference.statistics)
    for (const auto& [name, array] : reference.statistics->arrays)
      out.emplace_back(name, "dimension " + std::to_string(array.size(0)));
  else out.emplace_back("statistics", "none (mu, sigma)");
  out.emplace_back("arr_0", has_array(file, "arr_0") ? "images" : "none: no precision or recall");
  out.emplace_back("sha256", io::sha256_file(file));
  return out;
}

Provenance folder_provenance(const fs::path& folder) {
  Provenance out{{"folder", folder.string()}};
  if (fs::exists(folder / kReferenceText))
    append(out,
           parse(io::read_document(folder / kReferenceText), (folder / kReferenceText).string()));
  const auto file = folder / "manifest.json";
  const Json manifest = parse(io::read_document(file), file.string());
  try {
    out.emplace_back("seconds", as_text(manifest.at("elapsed_s")));
    out.emplace_back("bytes", as_text(manifest.at("bytes")));
    for (const auto& [name, value] : manifest.at("determined_by").items()) {
      auto text = as_text(value);
      std::replace(text.begin(), text.end(), '\n', ' ');
      out.emplace_back("key: " + name, text);
    }
  } catch (const Json::exception& error) {
    throw DataError(file.string(), error_text(error));
  }
  return out;
}

}  // namespace dkdm::stages
