// Which of the evaluated steps counts, and what is made of it.
#include <ATen/ATen.h>

#include <catch2/catch.hpp>
#include <limits>

#include "dkdm/io.hpp"
#include "fixtures/analytic.hpp"
#include "record/metrics_file.hpp"
#include "stages/stages.hpp"

using namespace dkdm;
using Catch::Contains;
using record::MetricRecord;
namespace fs = std::filesystem;

namespace {

class Network final : public fixtures::CountingHost {
 public:
  TrainedModel load_model(const fs::path& folder, const std::string& which) override {
    fixtures::CountingHost::load_model(folder, which);
    return {std::make_shared<fixtures::ClosedForm>(), {"cosine", 100, ""}, {1, 4, 4}};
  }
};

MetricRecord metric(const std::string& name, std::int64_t step, double value) {
  return {name, value, name == "is", "", "protocol", "reference", 4, step, "ema"};
}

// A training of 8 steps, evaluated at 2, 4 and 6 and at its end.
struct Course {
  fixtures::ScratchFolder scratch;
  Network host;
  stages::StageContext context{fixtures::shipped_plugins(), host, nullptr};
  std::vector<MetricRecord> on_the_way, at_end;

  record::SelectionRecord select(const std::string& by) {
    for (const char* name : {"course", "end", "chosen"}) {
      fs::remove_all(scratch.path / name);
      fs::create_directories(scratch.path / name);
    }
    record::write_metrics(scratch.path / "course", on_the_way);
    record::write_metrics(scratch.path / "end", at_end);
    stages::Selecting selecting{by,
                                scratch.path / "trained",
                                scratch.path / "course",
                                scratch.path / "end",
                                {{}, "2", 4, 4, 7},
                                {{}, "", "ema", 8},
                                /*same_images=*/true};
    manifest = {};
    stages::select_step(context, selecting, folder(), manifest);
    return record::read_selection(folder());
  }
  fs::path folder() const { return scratch.path / "chosen"; }
  record::Manifest manifest;
};

}  // namespace

TEST_CASE("select: the best of the evaluated steps counts, whichever way is better",
          "[unit][run]") {
  Course course;
  course.on_the_way = {metric("fid", 2, 9),  metric("is", 2, 1.5), metric("fid", 4, 5),
                       metric("is", 4, 1.1), metric("fid", 6, 5),  metric("is", 6, 1.2)};
  course.at_end = {metric("fid", 8, 7), metric("is", 8, 1.4)};

  const auto by_fid = course.select("fid");
  CHECK(by_fid.rule == "best:fid");
  CHECK(by_fid.step == 4);  // of equals the earliest
  CHECK(by_fid.last_step == 8);
  CHECK(by_fid.candidates == 4);
  CHECK(by_fid.by.value == 5);
  CHECK(by_fid.by.sample_count == 4);
  // All of its values, and the picture of its images.
  const auto values = record::read_metrics(course.folder());
  REQUIRE(values.size() == 2);
  CHECK(values[0].value == 5);
  CHECK(values[1].value == 1.1);
  CHECK(course.host.loaded == course.scratch.path / "trained" / "step-4");
  CHECK(course.host.weights == "ema");
  CHECK(course.manifest.outputs ==
        std::vector<std::string>{"metrics.json", "selection.json", "grid.png"});
  CHECK(io::read_image(course.folder() / "grid.png", 1).numel() > 4 * 16);

  const auto by_is = course.select("is");
  CHECK(by_is.step == 2);
  CHECK(record::read_metrics(course.folder())[0].value == 9);
}

TEST_CASE("select: the last step may be the best, and has its picture elsewhere", "[unit][run]") {
  Course course;
  course.on_the_way = {metric("fid", 2, 9), metric("fid", 4, 8)};
  course.at_end = {metric("fid", 8, 7)};
  CHECK(course.select("fid").step == 8);
  CHECK(course.manifest.outputs == std::vector<std::string>{"metrics.json", "selection.json"});
  CHECK(record::read_metrics(course.folder())[0].value == 7);
}

TEST_CASE("select: what is not a number is no candidate's value", "[unit][run]") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  Course course;
  course.on_the_way = {metric("fid", 2, nan), metric("fid", 4, 8), metric("fid", 6, nan)};
  course.at_end = {metric("fid", 8, nan)};
  CHECK(course.select("fid").step == 4);
  course.on_the_way[1].value = nan;
  CHECK_THROWS_WITH(course.select("fid"),
                    Contains("\"best:fid\": no evaluated step has a finite fid"));
  CHECK_THROWS_WITH(course.select("kid"), Contains("finite kid; the evaluator gives fid"));
}
