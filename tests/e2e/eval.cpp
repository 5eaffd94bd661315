// dkdm eval and dkdm ref through the real program: npz, folders, datasets, statistics, runs of the
// store. Inception with seeded random weights on a handful of images.
#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "dkdm/files.hpp"
#include "dkdm/io.hpp"
#include "e2e/program.hpp"
#include "fixtures/inception.hpp"
#include "results/store/store.hpp"
#include "results_support.hpp"

namespace {

using Catch::Contains;
using e2e::Output;
using e2e::Program;
using nlohmann::json;
namespace fs = std::filesystem;
namespace io = dkdm::io;

// Seeded random weights, written once.
const fs::path& weights_file() {
  static const Program home;
  static const fs::path file = [] {
    const auto state = dkdm::fixtures::inception_state();
    io::save_tensors(home.home() / "weights.safetensors", {state.begin(), state.end()});
    return home.home() / "weights.safetensors";
  }();
  return file;
}

// A home with eight reference images as npz and as folder, two sets of samples.
struct Bench {
  Program dkdm;
  fs::path weights = weights_file(), reference = dkdm.home() / "reference.npz",
           folder = dkdm.home() / "reference", first = dkdm.home() / "first.npz",
           second = dkdm.home() / "second.npz";

  Bench() {
    const at::Tensor images = dkdm::fixtures::inception_images({18, 3, 16, 16});
    write(reference, images.slice(0, 0, 8));
    write(first, images.slice(0, 8, 13));
    write(second, images.slice(0, 13, 18));
    fs::create_directory(folder);
    for (int i = 0; i < 8; ++i)
      io::write_png(folder / ("image-" + std::to_string(i) + ".png"), images[i]);
  }

  static void write(const fs::path& file, const at::Tensor& images) {
    io::write_npz(file, {{"arr_0", images.permute({0, 2, 3, 1}).contiguous()}});
  }

  Output eval(std::vector<std::string> words) const {
    words.insert(words.begin(), "eval");
    words.insert(words.end(), {"--set", "weights=" + weights.string(), "--format", "json"});
    return dkdm.run(words);
  }

  std::map<std::string, double> values(const std::vector<std::string>& words) const {
    const Output said = eval(words);
    INFO(said.err);
    REQUIRE(said.exit_code == 0);
    std::map<std::string, double> found;
    for (const auto& row : json::parse(said.out)) found[row.at("metric")] = row.at("value");
    return found;
  }
};

}  // namespace

TEST_CASE("eval: the five metrics of an npz against an npz and against a folder of the same images",
          "[e2e][eval]") {
  const Bench bench;
  const Output said = bench.eval({bench.first.string(), bench.reference.string()});
  INFO(said.err);
  REQUIRE(said.exit_code == 0);
  CHECK_THAT(said.err, Contains("5 samples") && Contains("4096"));  // the bias is pointed out
  const json rows = json::parse(said.out);
  REQUIRE(rows.size() == 5);
  CHECK(rows[0].at("metric") == "fid@5");
  for (const auto& row : rows) {
    CHECK(row.at("sample_count") == 5);
    CHECK(row.at("reference_count") == 8);
    CHECK(row.at("seconds") > 0.0);
    CHECK_THAT(row.at("protocol").get<std::string>(), Catch::StartsWith("unpublished-"));
  }
  const auto folder = bench.values({bench.first.string(), bench.folder.string()});
  for (const auto& row : rows)
    CHECK(folder.at(row.at("metric")) == Approx(row.at("value").get<double>()).epsilon(1e-9));
}

TEST_CASE(
    "eval: what an editor leaves in a folder is no sample; images that are not read are counted",
    "[e2e][eval]") {
  const Bench bench;
  fs::create_directory(bench.folder / ".ipynb_checkpoints");
  fs::copy_file(bench.folder / "image-0.png", bench.folder / ".ipynb_checkpoints" / "image-0.png");
  std::ofstream(bench.folder / "._image-1.png") << "of another system";
  const Output said =
      bench.eval({bench.folder.string(), bench.reference.string(), "--metrics", "fid"});
  INFO(said.err);
  REQUIRE(said.exit_code == 0);
  CHECK_THAT(said.err, Contains("left out 2 hidden: ._image-1.png"));
  const json row = json::parse(said.out).at(0);
  CHECK(row.at("metric") == "fid@8");
  CHECK(std::abs(row.at("value").get<double>()) < 1e-6);

  std::ofstream(bench.folder / "image-8.bmp") << "BM";
  for (const auto& words :
       {std::vector<std::string>{"eval", bench.folder.string(), bench.reference.string()},
        std::vector<std::string>{"ref", "make", bench.folder.string()}}) {
    const Output refused = bench.dkdm.run(words);
    CHECK(refused.exit_code == 3);
    CHECK_THAT(refused.err, Contains("1 .bmp file (image-8.bmp) would be left out"));
  }
}

TEST_CASE("eval: several sample sets give mean and deviation; --record keeps each", "[e2e][eval]") {
  const Bench bench;
  const Output said = bench.eval({bench.first.string(), bench.second.string(),
                                  bench.reference.string(), "--metrics", "fid", "--record"});
  INFO(said.err);
  REQUIRE(said.exit_code == 0);
  const json rows = json::parse(said.out);
  REQUIRE(rows.size() == 3);
  const double a = rows[0].at("value"), b = rows[1].at("value");
  CHECK(rows[2].at("samples") == "mean of 2");
  CHECK(rows[2].at("value").get<double>() == Approx((a + b) / 2));
  CHECK(rows[2].at("std").get<double>() == Approx(std::abs(a - b) / std::sqrt(2.0)));
  CHECK(rows[0].at("std").is_null());

  const Output kept = bench.dkdm.run(
      {"query",
       "SELECT r.row, m.name, m.value, m.sample_count, m.weights FROM metrics m JOIN runs r ON r.id = m.run "
       "ORDER BY m.id",
       "--format", "json"});
  INFO(kept.err);
  const json records = json::parse(kept.out);
  REQUIRE(records.size() == 2);
  CHECK(records[0].at("row") == bench.first.string());
  CHECK(records[0].at("value").get<double>() == Approx(a));
  CHECK(records[1].at("value").get<double>() == Approx(b));
  CHECK(records[0].at("weights") == "unlabelled");  // nobody says what drew them
  CHECK_THAT(bench.dkdm.run({"runs", "show", "1"}).out,
             Contains("dkdm eval " + bench.first.string()));
  const Output checked = bench.dkdm.run({"db", "check", "--format", "json"});
  INFO(checked.out);
  CHECK(checked.exit_code == 0);  // the reference that was prepared belongs to no run
  for (const auto& finding : json::parse(checked.out)) CHECK(finding.at("state") == "looked at");
}

TEST_CASE("eval: a run of the store is named by its number and gets the values", "[e2e][eval]") {
  const Bench bench;
  {
    dkdm::results::Store store(bench.dkdm.home() / "results.sqlite");
    auto run = dkdm::results::testing::a_run("dynamic");
    run.config = "[sample]\nweights = \"raw\"\n";
    const auto id = store.begin_run(run, dkdm::results::testing::an_environment(), {});
    dkdm::record::StageRecord train, sample;
    train.name = "train";
    train.steps = 700;
    sample.name = "sample";
    sample.artifact = "artifacts/sample/abc";
    store.record_stage(id, train);
    store.record_stage(id, sample);
    store.end_run(id, "done", "", "");
  }
  const Output none =
      bench.eval({"1", bench.reference.string()});  // no weights to draw from either
  CHECK(none.exit_code != 0);
  CHECK_THAT(none.err, Contains("run 1"));
  fs::create_directories(bench.dkdm.home() / "artifacts/sample/abc");
  fs::copy_file(bench.first, bench.dkdm.home() / "artifacts/sample/abc/samples.npz");
  const auto values =
      bench.values({"1", bench.reference.string(), "--metrics", "fid,sfid", "--record"});
  const Output kept = bench.dkdm.run(
      {"query", "SELECT run, name, value, step, weights FROM metrics", "--format", "json"});
  const json records = json::parse(kept.out);
  REQUIRE(records.size() == 2);
  CHECK(records[0].at("run") == 1);
  CHECK(records[0].at("value").get<double>() == Approx(values.at("fid@5")));
  CHECK(records[0].at("step") == 700);
  CHECK(records[0].at("weights") == "raw");
  CHECK(bench.eval({"2", bench.reference.string()}).exit_code != 0);  // no such run
}

TEST_CASE("ref: statistics are made once, written as ADM reads them, and stand for their images",
          "[e2e][eval]") {
  const Bench bench;
  const fs::path file = bench.dkdm.home() / "statistics.npz";
  const std::string weights = "weights=" + bench.weights.string();
  const Output made = bench.dkdm.run(
      {"ref", "make", bench.reference.string(), "-o", file.string(), "--set", weights});
  INFO(made.err);
  REQUIRE(made.exit_code == 0);
  CHECK(made.out == file.string() + "\n");
  CHECK(io::read_npz(file, "mu").sizes() == at::IntArrayRef{2048});
  CHECK(io::read_npz(file, "sigma_s").sizes() == at::IntArrayRef({2023, 2023}));

  const Output seen = bench.dkdm.run({"ref", "inspect", file.string(), "--format", "json"});
  INFO(seen.err);
  REQUIRE(seen.exit_code == 0);
  std::map<std::string, std::string> fields;
  for (const auto& row : json::parse(seen.out)) fields[row.at("field")] = row.at("value");
  CHECK(fields.at("images") == "8");
  CHECK(fields.at("recipe") == "npz reference.npz");
  CHECK(fields.at("fingerprint") == io::sha256_file(bench.reference));
  CHECK(fields.at("statistics") == "computed");
  CHECK_THAT(fields.at("protocol"), Catch::StartsWith("unpublished-"));

  const Output listed = bench.dkdm.run({"ref", "inspect", "--format", "json"});
  const json cached = json::parse(listed.out);
  REQUIRE(cached.size() == 1);
  CHECK(cached[0].at("images") == 8);
  const std::string key = cached[0].at("key");
  CHECK_THAT(bench.dkdm.run({"ref", "inspect", key.substr(0, 6)}).out,
             Contains("npz reference.npz"));
  // The evaluation finds the reference that was made.
  const auto direct = bench.values({bench.first.string(), bench.reference.string()});
  CHECK(json::parse(bench.dkdm.run({"ref", "inspect", "--format", "json"}).out).size() == 1);
  const auto by_file = bench.values({bench.first.string(), file.string()});
  CHECK(by_file.at("fid@5") == Approx(direct.at("fid@5")).epsilon(1e-9));
  CHECK(by_file.at("sfid@5") == Approx(direct.at("sfid@5")).epsilon(1e-9));
  CHECK(by_file.count("precision@5") == 0);  // no images in it
}

TEST_CASE("eval: a dataset plugin on either side, in the classifier's features", "[e2e][eval]") {
  const Program dkdm;
  const at::Tensor labels = at::arange(300, at::kLong).remainder(2);
  const at::Tensor images = at::div(dkdm::fixtures::inception_images({300, 3, 8, 8}), 2, "floor") +
                            (labels * 100).view({-1, 1, 1, 1}).to(at::kByte);
  const fs::path file = dkdm.home() / "labelled.npz";
  io::write_npz(file, {{"arr_0", images.permute({0, 2, 3, 1}).contiguous()}, {"arr_1", labels}});
  const std::string dataset = "npz:file=" + file.string();
  const Output said =
      dkdm.run({"eval", dataset, dataset, "--evaluator", "classifier", "--metrics", "fid", "--set",
                "width=8", "--set", "features=8", "--format", "json"});
  INFO(said.err);
  REQUIRE(said.exit_code == 0);
  const json rows = json::parse(said.out);
  REQUIRE(rows.size() == 1);
  CHECK(std::abs(rows[0].at("value").get<double>()) < 1e-6);
  CHECK_THAT(rows[0].at("protocol").get<std::string>(), Catch::StartsWith("classifier-2-trained-"));
  // A file by its name has its labels, too.
  const Output plain = dkdm.run({"eval", file.string(), file.string(), "--evaluator", "classifier",
                                 "--metrics", "fid", "--set", "width=8", "--set", "features=8"});
  INFO(plain.err);
  CHECK(plain.exit_code == 0);
}
