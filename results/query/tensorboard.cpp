// Event files are TFRecords of tensorflow.Event protocol buffers (tensorflow/core/util/event.proto
// and framework/summary.proto name the fields): this is the part of both that scalars need.
#include "results/query/tensorboard.hpp"

#include <array>
#include <bit>
#include <cstring>

#include "core/io/atomic_file.hpp"
#include "dkdm/store_error.hpp"
#include "results/store/database.hpp"
#include "results/text/text.hpp"

namespace dkdm::results {
namespace {

namespace fs = std::filesystem;

static_assert(std::endian::native == std::endian::little, "the file's numbers are little endian");

template <class Number>
std::string bytes_of(Number number) {
  std::string bytes(sizeof number, '\0');
  std::memcpy(bytes.data(), &number, sizeof number);
  return bytes;
}

constexpr std::array<std::uint32_t, 256> kCrcTable = [] {
  std::array<std::uint32_t, 256> table{};
  for (std::uint32_t i = 0; i < 256; ++i) {
    std::uint32_t crc = i;
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78U : 0U);
    table[i] = crc;
  }
  return table;
}();

// So that a CRC of bytes that hold CRCs is not always the same.
std::uint32_t masked(std::uint32_t crc) { return (crc >> 15 | crc << 17) + 0xa282ead8U; }

// The wire format of protocol buffers: https://protobuf.dev/programming-guides/encoding
std::string varint(std::uint64_t value) {
  std::string bytes;
  for (; value >= 128; value >>= 7) bytes += static_cast<char>((value & 127) | 128);
  return bytes + static_cast<char>(value);
}
enum Wire { kVarint = 0, kFixed64 = 1, kLengthed = 2, kFixed32 = 5 };
std::string tag(int field, Wire wire) {
  return varint(static_cast<std::uint64_t>(field) << 3 | wire);
}
std::string lengthed(int field, const std::string& bytes) {
  return tag(field, kLengthed) + varint(bytes.size()) + bytes;
}

std::string version_event(double time) {
  return tag(1, kFixed64) + bytes_of(time) + lengthed(3, "brain.Event:2");
}

std::string scalar_event(double time, std::int64_t step, const std::string& name, double value) {
  // A reader refuses the whole file for a string that is not UTF-8.
  const auto scalar =
      lengthed(1, valid_utf8(name)) + tag(2, kFixed32) + bytes_of(static_cast<float>(value));
  return tag(1, kFixed64) + bytes_of(time) + tag(2, kVarint) +
         varint(static_cast<std::uint64_t>(step)) + lengthed(5, lengthed(1, scalar));
}

// Runs of one experiment stand together and apart from each other.
struct RunToExport {
  std::int64_t id = 0, seed = 0;
  std::string experiment, row;
  double created = 0;

  fs::path folder() const {
    return fs::path(plain_name(experiment)) /
           (plain_name(row) + "-seed" + std::to_string(seed) + "-run" + std::to_string(id));
  }
};

void write_curves(SQLite::Database& db, const RunToExport& run, std::string& out) {
  SQLite::Statement points(
      db,
      "SELECT c.name, c.step, c.value, s.started + s.elapsed_s * c.step / max(s.steps, c.step, 1) "
      "FROM stages s JOIN curves c ON c.stage_key = s.key WHERE s.run = ? AND "
      "s.name = (SELECT max(name) FROM stages WHERE run = s.run AND name IN ('train', 'teacher')) "
      "AND c.value IS NOT NULL ORDER BY c.name, c.step");
  points.bind(1, run.id);
  while (points.executeStep()) {
    out += tfrecord(scalar_event(points.getColumn(3).getDouble(), points.getColumn(1).getInt64(),
                                 points.getColumn(0).getString(), points.getColumn(2).getDouble()));
  }
}

void write_metrics(SQLite::Database& db, const RunToExport& run, std::string& out) {
  SQLite::Statement values(
      db,
      "SELECT name || '@' || sample_count || ' ' || weights, step, value, recorded FROM metrics "
      "WHERE run = ? AND value IS NOT NULL ORDER BY name, step, id");
  values.bind(1, run.id);
  while (values.executeStep()) {
    out += tfrecord(scalar_event(values.getColumn(3).getDouble(), values.getColumn(1).getInt64(),
                                 values.getColumn(0).getString(), values.getColumn(2).getDouble()));
  }
}

std::vector<RunToExport> selected(SQLite::Database& db, const fs::path& file,
                                  const std::vector<std::int64_t>& runs) {
  std::vector<RunToExport> selection;
  SQLite::Statement rows(db,
                         "SELECT r.id, r.seed, e.name, r.row, r.created FROM runs r "
                         "JOIN experiments e ON e.id = r.experiment WHERE ?1 IN (0, r.id) "
                         "ORDER BY r.id");
  const auto add = [&](std::int64_t wanted) {
    rows.reset();
    rows.bind(1, wanted);
    bool found = false;
    while (rows.executeStep()) {
      found = true;
      selection.push_back({rows.getColumn(0).getInt64(), rows.getColumn(1).getInt64(),
                           rows.getColumn(2).getString(), rows.getColumn(3).getString(),
                           rows.getColumn(4).getDouble()});
    }
    if (!found && wanted != 0) {
      throw StoreError(file.string() + ": there is no run " + std::to_string(wanted) +
                       "; `dkdm runs` lists them");
    }
  };
  if (runs.empty()) add(0);
  for (const auto run : runs) add(run);
  return selection;
}

}  // namespace

std::uint32_t crc32c(std::string_view bytes) {
  std::uint32_t crc = ~0U;
  for (const char byte : bytes)
    crc = crc >> 8 ^ kCrcTable[(crc ^ static_cast<unsigned char>(byte)) & 255];
  return ~crc;
}

std::string tfrecord(std::string_view bytes) {
  const auto length = bytes_of(static_cast<std::uint64_t>(bytes.size()));
  return length + bytes_of(masked(crc32c(length))) + std::string(bytes) +
         bytes_of(masked(crc32c(bytes)));
}

std::vector<fs::path> export_tensorboard(const fs::path& file, const fs::path& folder,
                                         const std::vector<std::int64_t>& runs) {
  Database database(file, OpenMode::read);
  return database.read([&](SQLite::Database& db) {
    std::vector<fs::path> files;
    for (const auto& run : selected(db, file, runs)) {
      const auto target = folder / run.folder() / "events.out.tfevents.dkdm";
      std::error_code error;
      fs::create_directories(target.parent_path(), error);
      auto out = tfrecord(version_event(run.created));
      write_curves(db, run, out);
      write_metrics(db, run, out);
      io::AtomicFile events(target);
      events.write(out);
      events.commit();
      files.push_back(target);
    }
    return files;
  });
}

}  // namespace dkdm::results
