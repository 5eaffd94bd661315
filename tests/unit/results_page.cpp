// The page: self-contained, escaped, with what belongs to each value inside. How it looks and works
// in a browser is e2e/page.py's.
#include <png.h>
#include <sys/stat.h>
#include <zlib.h>
#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include <vector>

#include "results/report/html.hpp"
#include "results/report/report.hpp"
#include "results_support.hpp"

using namespace dkdm;
using namespace dkdm::results;
using namespace dkdm::results::testing;

namespace {

void write_png(const std::filesystem::path& file, int width, int height) {
  std::filesystem::create_directories(file.parent_path());
  std::vector<std::uint8_t> rgb;
  for (int i = 0; i < width * height; ++i) {
    rgb.insert(rgb.end(), {static_cast<std::uint8_t>(2 * (i % 2)), 20, 30});
  }
  png_image image{};
  image.version = PNG_IMAGE_VERSION;
  image.width = width;
  image.height = height;
  image.format = PNG_FORMAT_RGB;
  REQUIRE(png_image_write_to_file(&image, file.c_str(), 0, rgb.data(), 0, nullptr) != 0);
}

// A finished run of 100 steps with a loss curve, 640 evaluations of the teacher before it, and a
// sample stage in `samples/ROW-SEED`.
std::int64_t add_run(Store& store, record::RunRecord run, double fid, std::int64_t seed = 0) {
  std::vector<record::MetricRecord> metrics{a_metric("fid", fid), a_metric("is", 2.5)};
  for (auto& metric : metrics) metric.step = 100;
  const auto id = add_finished(store, run, metrics);
  record::StageRecord pool;
  pool.name = "pool";
  pool.key = "pool-" + run.key;
  pool.teacher_evaluations = 640;
  store.record_stage(id, pool);
  record::StageRecord sample;
  sample.name = "sample";
  sample.key = "sample-" + run.key;
  sample.artifact = "samples/" + run.row + "-" + std::to_string(seed);
  store.record_stage(id, sample);
  store.record_curves("stage-" + run.key, {{"loss", 0, 1.0}, {"loss", 50, 0.5}});
  return id;
}

std::string page_of(const TempFolder& folder) {
  ReportOptions options;
  options.format = ReportFormat::html;
  options.root = folder.path();
  return report(folder / "r.sqlite", {}, options);
}

std::string between(const std::string& text, const std::string& open, const std::string& close) {
  const auto from = text.find(open);
  REQUIRE(from != std::string::npos);
  return text.substr(from + open.size(), text.find(close, from) - from - open.size());
}

}  // namespace

TEST_CASE("page: nothing of it comes from elsewhere, and only its own scripts may run",
          "[unit][results]") {
  TempFolder folder;
  Store store(folder / "r.sqlite");
  add_run(store, a_run("dynamic"), 10);
  const auto page = page_of(folder);
  for (const std::string attribute : {"src=\"", "href=\""}) {
    for (auto at = page.find(attribute); at != std::string::npos;
         at = page.find(attribute, at + 1)) {
      const auto target = page.substr(at + attribute.size(), 5);
      CHECK((target[0] == '#' || target == "data:"));
    }
  }
  // Content Security Policy 3, section 6.7.2: hashes of the exact text between the tags.
  const auto policy = between(page, "Content-Security-Policy\" content=\"", "\"");
  CHECK(contains(policy, "default-src 'none'"));
  CHECK_FALSE(contains(policy, "unsafe"));
  CHECK(contains(policy, csp_hash(between(page, "<style>", "</style>"))));
  CHECK(contains(policy, csp_hash(between(page, "<script>", "</script>"))));
  CHECK_FALSE(contains(page, "{{"));
  // FIPS 180-4 example: SHA-256 of "abc", in base64.
  CHECK(csp_hash("abc") == "'sha256-ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0='");
}

TEST_CASE("page: a value leads to its runs, a run to all that made it", "[unit][results]") {
  TempFolder folder;
  Store store(folder / "r.sqlite");
  add_run(store, a_run("teacher"), 5);
  add_run(store, a_run("dynamic", 0), 10);
  add_run(store, a_run("dynamic", 1), 14, 1);
  add_run(store, a_run("data_free"), 20);
  const auto page = page_of(folder);
  CHECK(contains(page, "<a href=\"#row-1-2\"><strong><bdi>12.00 ± 2.83</bdi></strong></a>"));
  CHECK(contains(page,
                 "<h4 id=\"row-1-2\"><span class=\"key c1\"></span><bdi>The dynamic</bdi></h4>"));
  const auto run =
      between(page, "<details class=\"run\" id=\"run-2\">", "</details>\n<details class=\"run\"");
  CHECK(contains(run, "Run 2, seed 0: done"));
  CHECK(contains(run, "two slow cores"));       // environment
  CHECK(contains(run, "dkdm run "));            // the command that repeats it
  CHECK(contains(run, "<polyline points=\""));  // training loss
  CHECK(contains(run, "<bdi>train</bdi>"));     // stages
  CHECK(contains(run, "href=\"#grid-2\""));
  CHECK(contains(between(page, "Configuration of run 1", "</details>"), "steps = 100"));
  CHECK(contains(page, "Its configuration is that of <a href=\"#run-1\">run 1</a>."));
}

TEST_CASE("page: the charts' data is whole", "[unit][results]") {
  TempFolder folder;
  Store store(folder / "r.sqlite");
  add_run(store, a_run("teacher"), 5);
  auto run = a_run("dynamic");
  run.label = "</script><!--";
  add_run(store, run, 10);
  add_run(store, a_run("data_free"), 20);
  const auto data = between(page_of(folder), "id=\"charts\">", "</script>");
  CHECK_FALSE(contains(data, "<"));
  const auto charts = nlohmann::json::parse(data);
  REQUIRE(charts.size() == 2);  // by the teacher's evaluations, loss; the bars need no script
  CHECK(charts[0]["title"] == "FID@512 by teacher evaluations");
  CHECK(charts[0]["series"][0]["level"] == true);  // the teacher took no part
  CHECK(charts[0]["series"][1]["label"] == "</script><!--");
  CHECK(charts[0]["series"][1]["points"] == nlohmann::json::parse("[[640, 10]]"));
  CHECK(charts[1]["series"][1]["points"] == nlohmann::json::parse("[[0, 1], [50, 0.5]]"));
}

TEST_CASE("page: single evaluations are bars, several are curves", "[unit][results]") {
  TempFolder folder;
  Store store(folder / "r.sqlite");
  add_run(store, a_run("teacher"), 5);
  const auto dynamic = add_run(store, a_run("dynamic"), 10);
  add_run(store, a_run("data_free"), 20);
  const auto bars = between(page_of(folder), "<table class=\"bars\">", "</table>");
  CHECK(contains(bars, "FID@512 by method"));
  // The longest is the whole drawing, the others their share of it.
  CHECK(contains(bars,
                 "<bdi>The data_free</bdi></th><td><svg class=\"bar\" aria-hidden=\"true\" "
                 "viewBox=\"0 0 1000 20\" preserveAspectRatio=\"none\"><rect width=\"1000.0\""));
  CHECK(contains(bars, "<rect width=\"500.0\""));
  CHECK(contains(bars, "<rect width=\"250.0\""));
  CHECK(contains(bars, "<td class=\"number\">10.00</td>"));
  auto later = a_metric("fid", 8);
  later.step = 200;
  store.record_metrics(dynamic, {later});
  const auto curves = page_of(folder);
  CHECK_FALSE(contains(curves, "<table class=\"bars\">"));
  CHECK(contains(curves, "FID@512 by training step"));
}

TEST_CASE("page: a method has one colour in tables, charts, samples and runs", "[unit][results]") {
  TempFolder folder;
  Store store(folder / "r.sqlite");
  add_run(store, a_run("teacher"), 5);
  add_run(store, a_run("dynamic"), 10);
  add_run(store, a_run("data_free"), 20);
  auto elsewhere = a_run("data_free");  // in another experiment, where it is the first row
  elsewhere.experiment = "other";
  elsewhere.key += "-other";
  add_run(store, elsewhere, 30);
  const auto page = page_of(folder);
  const std::string key = "<span class=\"key c2\"></span>";
  CHECK(contains(page, "<th scope=\"row\">" + key + "<bdi>The data_free</bdi></th>"));
  CHECK(contains(page, "\">" + key + "<bdi>The data_free</bdi></h4>"));
  CHECK(contains(page, "<tr class=\"c2\"><th scope=\"row\"><bdi>The data_free</bdi>"));
  CHECK(contains(page, "<figcaption>" + key + "<bdi>The data_free</bdi>"));
  for (const char* other : {"c0", "c1", "c3"})
    CHECK_FALSE(contains(page, std::string("key ") + other + "\"></span><bdi>The data_free</bdi>"));
  const auto charts = nlohmann::json::parse(between(page, "id=\"charts\">", "</script>"));
  for (const auto& chart : charts) {
    for (const auto& series : chart["series"]) {
      INFO(series.dump());
      const auto label = series["label"].get<std::string>();
      CHECK(series["colour"] == (label == "The teacher" ? 0 : label == "The dynamic" ? 1 : 2));
    }
  }
}

TEST_CASE("page: grids of one seed stand side by side; a missing one says so", "[unit][results]") {
  TempFolder folder;
  Store store(folder / "r.sqlite");
  add_run(store, a_run("teacher"), 5);
  add_run(store, a_run("dynamic", 0), 10);
  add_run(store, a_run("dynamic", 1), 14, 1);
  write_png(folder / "samples/teacher-0/grid.png", 4, 4);
  std::filesystem::create_directories(folder / "samples/dynamic-0");
  write_file(folder / "samples/dynamic-0/grid.png", "not a picture");
  const auto page = page_of(folder);
  const auto grids = between(page, "<div class=\"grids\">", "</div>");
  CHECK(contains(grids, "<figure id=\"grid-1\"><img src=\"data:image/png;base64,iVBORw0KGgo"));
  CHECK(contains(grids, "alt=\"Samples of The teacher, seed 0\""));
  CHECK(contains(grids, "No picture: samples/dynamic-0/grid.png is not a PNG image"));
  CHECK_FALSE(contains(grids, "grid-3"));
  CHECK(contains(page, "<summary>Samples of seed 1</summary>"));
  CHECK(contains(page, "No picture: samples/dynamic-1/grid.png cannot be read"));
}

TEST_CASE("page: a large picture becomes a thumbnail, a small one stays as it is",
          "[unit][results]") {
  TempFolder folder;
  std::string reason;
  write_png(folder / "p/small.png", 6, 4);
  write_png(folder / "p/large.png", 12, 8);
  const auto small = png_data_uri(folder / "p/small.png", 6, reason);
  CHECK(small.size() == std::string("data:image/png;base64,").size() +
                            (read_file(folder / "p/small.png").size() + 2) / 3 * 4);
  const auto large = png_data_uri(folder / "p/large.png", 6, reason);
  CHECK(reason.empty());
  // PNG's header chunk (RFC 2083, 4.1.1) has width and height from byte 16 on; base64's characters
  // from the 20th are bytes 15 to 23: 52 00 00 | 00 06 00 | 00 00 04.
  CHECK(large.substr(22 + 20, 12) == "UgAAAAYAAAAE");
}

TEST_CASE("page: a picture that promises gigabytes, or never comes, is left out",
          "[unit][results]") {
  TempFolder folder;
  // A header and nothing behind it; RFC 2083, 4.1.1 and 3.4.
  const auto big = [](std::uint32_t number) {
    std::string bytes;
    for (int shift = 24; shift >= 0; shift -= 8) bytes += static_cast<char>(number >> shift & 0xff);
    return bytes;
  };
  const auto chunk = [&](const std::string& type, const std::string& data) {
    const auto body = type + data;
    const auto crc = ::crc32(0, reinterpret_cast<const unsigned char*>(body.data()), body.size());
    return big(data.size()) + body + big(crc);
  };
  const auto header = [&](std::uint32_t width, std::uint32_t height) {
    write_file(folder / "x.png",
               "\x89PNG\r\n\x1a\n" +
                   chunk("IHDR", big(width) + big(height) + std::string("\x10\x06\0\0\0", 5)) +
                   chunk("IDAT", std::string(16, '\0')) + chunk("IEND", ""));
  };
  std::string reason;
  for (const auto& [width, height] :
       {std::pair{30'000u, 30'000u}, {1'000'000u, 1'000'000u}, {11'000u, 11'000u}}) {
    header(width, height);
    CHECK(png_data_uri(folder / "x.png", 512, reason).empty());
    CHECK_THAT(reason, Catch::Contains("is not a PNG image") &&
                           (Catch::Contains("more than 2^27 pixels") ||
                            Catch::Contains("promises more") || Catch::Contains("limit")));
  }
  REQUIRE(::mkfifo((folder / "pipe.png").c_str(), 0600) == 0);
  CHECK(png_data_uri(folder / "pipe.png", 512, reason).empty());
  CHECK_THAT(reason, Catch::Contains("cannot be read: is a pipe"));
  // What a file holds beside its pixels does not get into the page.
  write_png(folder / "y.png", 4, 4);
  auto bytes = read_file(folder / "y.png");
  const auto clean = png_data_uri(folder / "y.png", 512, reason);
  bytes.insert(33, chunk("tEXt", std::string("a\0", 2) + std::string(1000, 's')));
  write_file(folder / "y.png", bytes);
  CHECK(png_data_uri(folder / "y.png", 512, reason) == clean);
}

TEST_CASE("page: what failed and what is missing is shown with its reason", "[unit][results]") {
  TempFolder folder;
  Store store(folder / "r.sqlite");
  add_run(store, a_run("teacher"), 5);
  const auto id = store.begin_run(a_run("dynamic"), an_environment(), {});
  store.end_run(id, "failed", "train", "loss <is> not finite");
  ReportOptions options;
  options.format = ReportFormat::html;
  options.choice.asked = {a_run("teacher"), a_run("dynamic"), a_run("data_free")};
  const auto page = report(folder / "r.sqlite", {"desk"}, options);
  CHECK(contains(page, "<a href=\"#row-1-2\"><span class=\"fault\"><bdi>failed</bdi></span></a>"));
  CHECK(contains(page, "failed in stage train: loss &lt;is&gt; not finite"));
  CHECK(contains(page, "<a href=\"#row-1-3\"><bdi>not run</bdi></a>"));
  CHECK_FALSE(contains(page, "<img"));  // no store was named
}
