#include "record/progress_file.hpp"

#include <cstdio>
#include <fstream>
#include <optional>

#include "dkdm/documents.hpp"
#include "dkdm/json.hpp"
#include "record/clock.hpp"
#include "record/process.hpp"

namespace dkdm::record {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

constexpr std::uintmax_t kLargest = 64 * 1024;

Json to_json(const ProgressRecord& r) {
  return {{"host", r.host},
          {"process", r.process},
          {"pid", r.pid},
          {"command", r.command},
          {"label", r.label},
          {"key", r.key},
          {"stage", r.stage},
          {"stages", r.stages},
          {"unit", r.unit},
          {"done", r.done},
          {"total", r.total},
          {"each_s", r.each_s},
          {"stage_left_s", r.stage_left_s},
          {"left_s", r.left_s},
          {"stage_started", r.stage_started},
          {"written", r.written}};
}

std::optional<ProgressRecord> read_one(const fs::path& file) {
  std::error_code error;
  if (!fs::is_regular_file(file, error) || fs::file_size(file, error) > kLargest || error)
    return std::nullopt;
  try {
    const Json json = Json::parse(io::read_document(file));  // anybody may have put it there
    ProgressRecord r;
    io::read_field(json, "host", r.host);
    io::read_field(json, "process", r.process);
    io::read_field(json, "pid", r.pid);
    io::read_field(json, "command", r.command);
    io::read_field(json, "label", r.label);
    io::read_field(json, "key", r.key);
    io::read_field(json, "stage", r.stage);
    io::read_field(json, "stages", r.stages);
    io::read_field(json, "unit", r.unit);
    io::read_field(json, "done", r.done);
    io::read_field(json, "total", r.total);
    io::read_field(json, "each_s", r.each_s);
    io::read_field(json, "stage_left_s", r.stage_left_s);
    io::read_field(json, "left_s", r.left_s);
    io::read_field(json, "stage_started", r.stage_started);
    io::read_field(json, "written", r.written);
    return r;
  } catch (const Json::exception&) {
    return std::nullopt;
  } catch (const DataError&) {
    return std::nullopt;
  }
}

std::vector<fs::path> files_in(const fs::path& folder) {
  std::vector<fs::path> files;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end;
       entry.increment(error))
    if (entry->path().extension() == ".json") files.push_back(entry->path());
  return files;
}

}  // namespace

ProgressFile::ProgressFile(const fs::path& folder) {
  if (folder.empty()) return;
  pid_ = getpid();
  host_ = host_name();
  process_ = process_token(pid_);
  std::error_code error;
  fs::create_directories(folder, error);
  for (const auto& file : files_in(folder)) {
    const auto left = read_one(file);
    if (left && left->host == host_ && process_token(left->pid) != left->process)
      fs::remove(file, error);
  }
  file_ = folder / (host_ + "-" + std::to_string(pid_) + ".json");
}

ProgressFile::~ProgressFile() {
  if (file_.empty() || getpid() != pid_) return;
  std::error_code ignored;
  fs::remove(file_, ignored);
}

void ProgressFile::write(ProgressRecord record) {
  if (file_.empty() || getpid() != pid_) return;
  record.host = host_;
  record.process = process_;
  record.pid = pid_;
  record.written = unix_time();
  // Not io::write_text: what is lost with the machine's power is of no use afterwards.
  const fs::path part = file_.string() + ".part";
  std::error_code error;
  {
    std::ofstream stream(part, std::ios::binary | std::ios::trunc);
    stream << to_json(record).dump(-1, ' ', false, Json::error_handler_t::replace) << '\n';
    stream.close();
    if (!stream) {
      fs::remove(part, error);
      return;
    }
  }
  fs::rename(part, file_, error);
  if (error) fs::remove(part, error);
}

std::vector<ProgressRecord> read_progress(const fs::path& folder) {
  std::vector<ProgressRecord> records;
  for (const auto& file : files_in(folder))
    if (auto record = read_one(file)) records.push_back(std::move(*record));
  return records;
}

}  // namespace dkdm::record
