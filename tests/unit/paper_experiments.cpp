// The paper's own experiments: every published cell that they are for has a row, with the settings
// of the authors' configuration files and code.
#include <catch2/catch.hpp>

#include <algorithm>
#include <set>

#include "config/experiment.hpp"
#include "fixtures/analytic.hpp"
#include "results/store/published.hpp"

using namespace dkdm;
namespace fs = std::filesystem;

namespace {

const fs::path kExperiments = fs::path(DKDM_SOURCE_DIR) / "experiments";

config::Experiment load(const std::string& name) {
  return config::load_experiment({kExperiments / "paper" / (name + ".toml"), {}, kExperiments},
                                 fixtures::shipped_plugins());
}

const config::Row& row(const config::Experiment& experiment, const std::string& id) {
  const auto found = std::find_if(experiment.rows.begin(), experiment.rows.end(),
                                  [&](const config::Row& row) { return row.id == id; });
  if (found == experiment.rows.end()) FAIL(experiment.name << " has no row " << id);
  return *found;
}

// What a dataset's cells share (the specification's table).
struct Setting {
  std::string dataset;
  std::int64_t batch, steps;   // training
  std::int64_t images;         // of the synthetic set
  std::string respacing;       // of its sampler
  std::int64_t teacher_batch;  // in the preparation of the batch set
};

const Setting kCifar10{"cifar10", 128, 200000, 50000, "1000", 3072};
const Setting kCelebA64{"celeba64", 256, 500000, 202599, "100", 256};
const Setting kImageNet32{"imagenet32", 512, 500000, 1281167, "100", 3072};

// What all cells share, of a network that is trained here.
void check_training(const Params& train, std::int64_t batch, std::int64_t steps) {
  CHECK(train.integer("batch") == batch);
  CHECK(train.integer("steps") == steps);
  CHECK(train.real("lr") == 1e-4);
  CHECK(train.integer("warmup_steps") == 0);
  CHECK(train.text("lr_decay") == "none");
  CHECK(train.real("weight_decay") == 0);
  CHECK(train.real("beta1") == 0.9);
  CHECK(train.real("beta2") == 0.999);
  CHECK(train.real("adam_eps") == 1e-8);
  CHECK(train.real("ema") == 0.9999);
  CHECK_FALSE(train.flag("ema_warmup"));
  CHECK(train.real("grad_clip") == 0);
}

void check_row(const config::Row& row, const Setting& setting) {
  INFO(row.id);
  CHECK(row.dataset->name == setting.dataset);
  if (setting.dataset != "celeba64") CHECK(row.dataset->params.text("split") == "train");
  CHECK(row.diffusion == DiffusionConfig{"cosine", 1000, ""});
  CHECK(row.evaluator.name == "inception");
  CHECK(row.evaluator.params.text("protocol") == "adm");
  CHECK(row.evaluate.integer("every") == 10000);
  CHECK(row.sample.integer("count") == 50000);
  CHECK(row.sample.text("respacing") == "50");
  CHECK(row.sample.text("sampler") == "ancestral");
  CHECK(row.sample.flag("clip_denoised"));
  CHECK(row.sample.text("weights") == "ema");
  CHECK(row.synthetic.integer("count") == setting.images);
  CHECK(row.synthetic.text("respacing") == setting.respacing);
  CHECK(row.synthetic.text("sampler") == "ancestral");
  CHECK(row.synthetic.flag("clip_denoised"));
  if (!row.training) return;
  check_training(row.training->train, setting.batch, setting.steps);
  const auto& method = row.training->method;
  if (method.kind == "baseline") {
    CHECK(method.params.flag("flip"));
    CHECK(method.params.text("t0_term") == "decoder");
    CHECK(method.params.real("vb_weight") == 1);
  } else {
    CHECK(method.params.text("respacing").empty());
    CHECK(method.params.real("lambda") == 1);
    CHECK_FALSE(method.params.flag("student_clip"));
    CHECK(method.params.text("teacher_clip") == "both");
    CHECK(method.params.text("t0_term") == "kl");
    if (method.name == "iterative") return;
    CHECK(method.params.text("prepare") == "upfront");
    CHECK(method.params.text("first_states") == "inner");
    CHECK(method.params.integer("teacher_batch") == setting.teacher_batch);
  }
}

// `select`: which of the evaluated steps the cells are of; figures show the whole course.
config::Experiment checked(const std::string& name, const std::string& select,
                           const Setting& setting = kCifar10) {
  INFO(name);
  const auto experiment = load(name);
  CHECK(experiment.scale == "paper");
  CHECK(experiment.samples == 50000);
  for (const auto& row : experiment.rows) {
    check_row(row, setting);
    if (row.training) CHECK(row.training->train.text("select") == select);
    CHECK(row.evaluate.text("samples") == "same");
  }
  return experiment;
}

// Every published row of the experiment's section is one of its rows.
void check_cells(const config::Experiment& experiment) {
  std::set<std::string> rows;
  for (const auto& row : experiment.rows) rows.insert(row.published);
  int cells = 0;
  for (const auto& value : results::published_figures()) {
    if (value.section != experiment.published) continue;
    INFO(value.section << " " << value.row);
    CHECK(rows.count(value.row) == 1);
    ++cells;
  }
  CHECK(cells >= 8);
}

std::string student(const config::Row& row) { return row.training->student.params.text("preset"); }

}  // namespace

TEST_CASE("paper: Table 2", "[unit][config]") {
  struct Part {
    std::string name;
    Setting setting;
    std::string student;
  };
  for (const auto& [name, setting, preset] : {Part{"table2_cifar10", kCifar10, "14M-CNN"},
                                              Part{"table2_celeba64", kCelebA64, "57M-CNN-CelebA"},
                                              Part{"table2_imagenet32", kImageNet32, "14M-CNN"}}) {
    INFO(name);
    const auto table = checked(name, "best:fid", setting);
    check_cells(table);
    CHECK(table.table == "table2");
    CHECK(table.rows.size() == 8);
    for (const auto& row : table.rows) {
      CHECK(row.teacher->plugin.name == "guided-diffusion");
      if (row.training) CHECK(student(row) == preset);
    }
    CHECK_FALSE(row(table, "teacher").training);
    for (const auto& [id, fraction] : {std::pair("data_limited_20", 0.2),
                                       {"data_limited_15", 0.15},
                                       {"data_limited_10", 0.1},
                                       {"data_limited_5", 0.05}})
      CHECK(row(table, id).training->method.params.real("fraction") == fraction);
    CHECK(row(table, "data_based").training->method.name == "data-based");
    CHECK(row(table, "data_free").training->method.name == "data-free");
    CHECK(row(table, "dynamic").training->method.params.real("rho") == 0.4);
  }
}

// Table 3, and what Table 4 and Section 10 have in latent space, are not there yet.
TEST_CASE("paper: every published section in pixel space belongs to an experiment",
          "[unit][config]") {
  std::set<std::string> sections;
  for (const auto& file : fs::directory_iterator(kExperiments / "paper"))
    if (file.path().extension() == ".toml")
      sections.insert(load(file.path().stem().string()).published);
  for (const auto& value : results::published_figures()) {
    if (value.section.starts_with("table2") || value.section == "table5") {
      INFO(value.section);
      CHECK(sections.count(value.section) == 1);
    }
  }
}

TEST_CASE("paper: Table 5, and the students that it may mean", "[unit][config]") {
  const auto table = checked("table5", "best:fid");
  check_cells(table);
  CHECK(table.rows.size() == 10);
  for (const std::string teacher : {"cnn", "vit"}) {
    const auto& own = row(table, "teacher_" + teacher);
    CHECK_FALSE(own.training);
    CHECK(own.teacher->name == teacher);
    for (const std::string to : {"cnn", "vit"})
      for (const auto& [id, method] :
           {std::pair("data_free", "data-free"), {"dynamic", "dynamic"}}) {
        const auto& cell = row(table, teacher + "_" + to + "_" + id);
        INFO(cell.id);
        CHECK(cell.teacher->name == teacher);
        CHECK(cell.training->method.name == method);
        CHECK(cell.training->student.name == (to == "cnn" ? "adm-unet" : "dit"));
        CHECK(student(cell) == (to == "cnn" ? "57M-CNN" : "DiT-S"));
        if (to == "vit") CHECK(cell.training->student.params.integer("patch_size") == 2);
      }
  }
  const auto& vit = row(table, "teacher_vit").teacher;
  CHECK(row(table, "teacher_cnn").teacher->plugin.name == "guided-diffusion");
  REQUIRE(vit->training);
  CHECK(vit->training->student.params.text("preset") == "DiT-S");
  CHECK(vit->training->method.name == "data-based");
  check_training(vit->training->train, 128, 500000);

  const auto sizes = checked("table5_sizes", "best:fid");
  std::multiset<std::string> students;
  for (const auto& row : sizes.rows) students.insert(student(row));
  CHECK(students == std::multiset<std::string>{"14M-CNN", "14M-CNN", "24M-CNN", "24M-CNN",
                                               "32M-CNN", "32M-CNN", "44M-CNN", "44M-CNN",
                                               "57M-CNN", "57M-CNN"});
}

TEST_CASE("paper: Figures 4a and 4b", "[unit][config]") {
  const auto methods = checked("figure4a", "last"), sizes = checked("figure4b", "last");
  CHECK(methods.table == "figure4a");
  CHECK(sizes.table == "figure4b");
  CHECK(methods.published.empty());
  std::vector<std::string> names;
  for (const auto& row : methods.rows) names.push_back(row.training->method.name);
  CHECK(names ==
        std::vector<std::string>{"data-based", "data-free", "iterative", "shuffled", "dynamic"});
  std::vector<double> rho;
  for (const auto& row : sizes.rows) {
    rho.push_back(row.training->method.params.real("rho"));
    CHECK(row.training->method.params.real("prepared_rho") == 0.4);
    CHECK(row.label == "ρ = " + to_text(Value(rho.back())));
  }
  CHECK(rho == std::vector<double>{0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.3, 0.4});
  for (const auto* figure : {&methods, &sizes})
    for (const auto& row : figure->rows) CHECK(student(row) == "57M-CNN");
}

TEST_CASE("paper: Section 10 measures every method, and every size of the batch set",
          "[unit][config]") {
  const auto costs = load("section10");
  CHECK(costs.table == "section10");
  CHECK(costs.published.empty());
  std::vector<std::string> names;
  std::vector<double> rho;
  for (const auto& row : costs.rows) {
    INFO(row.id);
    CHECK(row.isolate);
    const auto& train = row.training->train;
    CHECK(train.integer("steps") == 1200);  // 200 to warm up, 1,000 to measure
    CHECK(train.integer("batch") == 128);
    CHECK(200 % train.integer("log_every") == 0);
    CHECK(row.evaluate.integer("every") == 0);
    CHECK(student(row) == "14M-CNN");
    const auto& method = row.training->method;
    if (method.name == "dynamic") rho.push_back(method.params.real("rho"));
    else names.push_back(method.name);
  }
  CHECK(names == std::vector<std::string>{"data-based", "data-free", "iterative", "shuffled"});
  CHECK(rho == std::vector<double>{0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.3, 0.4});
}
