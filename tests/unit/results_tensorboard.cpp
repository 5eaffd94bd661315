// Event files: framing against published checks, and the fields read back. That TensorBoard's own
// reader takes them: tests/e2e/event_files.py.
#include <catch2/catch.hpp>

#include <cstring>

#include "results/query/tensorboard.hpp"
#include "results_support.hpp"

using namespace dkdm;
using namespace dkdm::results;
using namespace dkdm::results::testing;

namespace {

std::string hex(const std::string& bytes) {
  std::string text;
  for (const unsigned char byte : bytes) {
    char two[3];
    std::snprintf(two, sizeof two, "%02x", byte);
    text += two;
  }
  return text;
}

// The records of a file; checks each one's framing by writing it again.
std::vector<std::string> records_of(const std::string& file) {
  std::vector<std::string> records;
  for (std::size_t at = 0; at < file.size();) {
    std::uint64_t length = 0;
    std::memcpy(&length, file.data() + at, sizeof length);
    records.push_back(file.substr(at + 12, length));
    REQUIRE(file.substr(at, 16 + length) == tfrecord(records.back()));
    at += 16 + length;
  }
  return records;
}

}  // namespace

TEST_CASE("tensorboard: CRC-32C agrees with the published checks", "[unit][results]") {
  // RFC 3720, appendix B.4, and the check value of the CRC catalogue.
  CHECK(crc32c(std::string(32, '\0')) == 0x8a9136aaU);
  CHECK(crc32c(std::string(32, '\xff')) == 0x62a8ab43U);
  CHECK(crc32c("123456789") == 0xe3069283U);
}

TEST_CASE("tensorboard: a record is framed as the reader expects", "[unit][results]") {
  // Length 2, its masked CRC, "hi", its masked CRC: from the definition in
  // tensorflow/core/lib/io/record_writer.h.
  CHECK(hex(tfrecord("hi")) ==
        "0200000000000000"
        "78270b34"
        "6869"
        "13d60856");
}

TEST_CASE("tensorboard: curves and metrics are scalars at their steps", "[unit][results]") {
  TempFolder folder;
  const auto file = folder / "r.sqlite";
  Store store(file);
  const auto id = store.begin_run(a_run("dynamic", 3), an_environment(), {});
  record::StageRecord train;
  train.name = "train";
  train.key = "t";
  train.started = 1000;
  train.elapsed_s = 60;
  train.steps = 300;
  store.record_stage(id, train);
  store.record_curves("t", {{"loss", 100, 0.5}, {"loss", 300, 0.25}});
  auto metric = a_metric("fid", 9.5);
  metric.step = 300;
  store.record_metrics(id, {metric});
  store.end_run(id, "done", "", "");

  const auto files = export_tensorboard(file, folder / "tb", {id});
  REQUIRE(files.size() == 1);
  CHECK(files[0] == folder / "tb" / "desk" / "dynamic-seed3-run1" / "events.out.tfevents.dkdm");
  const auto records = records_of(read_file(files[0]));
  REQUIRE(records.size() == 4);
  CHECK(contains(records[0], "brain.Event:2"));
  // wall_time 1020 (a third of a minute after 1000), step 100, summary, value, tag "loss", 0.5f.
  CHECK(hex(records[1]) ==
        "09"
        "0000000000e08f40"
        "10"
        "64"
        "2a"
        "0d"
        "0a"
        "0b"
        "0a"
        "04"
        "6c6f7373"
        "15"
        "0000003f");
  CHECK(contains(records[3], "fid@512 ema"));
  CHECK(export_tensorboard(file, folder / "all", {}).size() == 1);
  CHECK_THROWS_WITH(export_tensorboard(file, folder / "tb", {99}), Catch::Contains("no run 99"));
}
