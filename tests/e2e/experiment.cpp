// A whole table at the smallest scale, on real images, with the real program.
#include <catch2/catch.hpp>
#include <map>
#include <nlohmann/json.hpp>

#include "e2e/program.hpp"
#include "e2e/query.hpp"

namespace {

using e2e::number;
using e2e::Output;
using e2e::Program;
using e2e::query;
namespace fs = std::filesystem;

// One level of 32 channels learns in seconds what separates clothes from noise.
const char* const kExperiment = R"toml(
[experiment]
name = "tiny"
title = "Tiny table"
table = "table2"
published = "table2.cifar10"
[dataset]
plugin = "fashion-mnist"
[teacher]
plugin = "checkpoint"
[teacher.student]
plugin = "adm-unet"
[teacher.method]
plugin = "data-based"
[teacher.train]
steps = 160
[student]
plugin = "adm-unet"
model_channels = 32
num_res_blocks = 1
channel_mult = [1, 1]
attention_resolutions = []
num_head_channels = 16
dropout = 0.1
[train]
batch = 32
steps = 12
lr = 2e-3
ema = 0.99
ema_warmup = true
checkpoint_every = 4
log_every = 2
[sample]
count = 256
respacing = "8"
[synthetic]
count = 64
respacing = "4"
[evaluator]
plugin = "classifier"
epochs = 1
[[row]]
id = "teacher"
label = "Teacher"
teacher = true
[[row]]
id = "dynamic"
label = "Dynamic Iterative Distillation"
method = { plugin = "dynamic", respacing = "8", student_clip = true, lambda = 0.008 }
[[row]]
id = "data_free"
label = "Data-Free Training (0%)"
method = { plugin = "data-free" }
)toml";

std::string teacher_network() {
  // The teacher has the students' network, stated once.
  std::string text = kExperiment;
  const std::string marker = "[teacher.student]\nplugin = \"adm-unet\"\n";
  const auto start = text.find("model_channels"), end = text.find("[train]");
  return text.insert(text.find(marker) + marker.size(), text.substr(start, end - start));
}

}  // namespace

TEST_CASE("experiment: a table is made, recorded, and not made again", "[e2e]") {
  const Program program;
  const auto file = program.write("tiny.toml", teacher_network());
  const Output first = program.run({"run", file});
  INFO(first.err);
  REQUIRE(first.exit_code == 0);

  {
    INFO("the table shows every row, and the database holds the same figures");
    const auto report = program.run({"report", "tiny", "--format", "json"});
    REQUIRE(report.exit_code == 0);
    // The teacher is no competitor: only a student's value is the best of its column.
    const auto markdown = program.run({"report", "tiny", "--format", "markdown"});
    std::istringstream lines(markdown.out);
    for (std::string line; std::getline(lines, line);)
      if (line.find("| Teacher") == 0) CHECK(line.find("**") == std::string::npos);
    CHECK(markdown.out.find("**") != std::string::npos);
    for (const char* label : {"Teacher", "Dynamic Iterative Distillation", "Data-Free Training"})
      CHECK(first.out.find(label) != std::string::npos);
    const auto rows = query(program, "SELECT row, fid, protocol, sample_count FROM table2");
    REQUIRE(rows.size() == 3);
    for (const auto& row : rows) {
      CHECK(row.at("protocol").get<std::string>().find("classifier") == 0);
      CHECK(number(row.at("sample_count")) == 256);
      // Two decimals are what the table prints.
      char printed[32];
      std::snprintf(printed, sizeof printed, "%.2f", number(row.at("fid")));
      CHECK(first.out.find(printed) != std::string::npos);
    }
  }

  {
    INFO("a trained teacher stands far nearer to the data than an untrained one");
    const auto untrained =
        program.run({"run", file, "--rows", "teacher", "--set", "teacher.train.steps=1", "--set",
                     "experiment.name=untrained"});
    INFO(untrained.err);
    REQUIRE(untrained.exit_code == 0);
    const auto fid = [&](const std::string& experiment) {
      return number(
          query(program, "SELECT fid FROM table2 WHERE row = 'teacher' AND experiment = '" +
                             experiment + "'")[0]["fid"]);
    };
    CHECK(fid("tiny") < 0.75 * fid("untrained"));
  }

  {
    INFO("a second call recomputes nothing and prints the same");
    const auto before = fs::last_write_time(program.home() / "artifacts" / "train");
    const Output second = program.run({"run", file});
    CHECK(second.exit_code == 0);
    CHECK(second.out == first.out);
    CHECK(second.err.find("0 of ") != std::string::npos);
    CHECK(fs::last_write_time(program.home() / "artifacts" / "train") == before);
    CHECK(query(program, "SELECT count(*) AS n FROM attempts")[0]["n"] ==
          query(program, "SELECT count(*) AS n FROM runs")[0]["n"]);
  }

  {
    INFO("sample grids, page and a fresh sample exist");
    for (const char* row : {"teacher", "dynamic", "data_free"}) {
      const auto grid = program.home() / "grids" / "tiny" / (std::string(row) + ".png");
      CHECK(e2e::read_file(grid).substr(1, 3) == "PNG");
    }
    CHECK(e2e::read_file(program.home() / "reports" / "tiny.html").find("<table") !=
          std::string::npos);
    const auto npz = program.home() / "six.npz";
    const auto sampled = program.run({"sample", "1", "-n", "6", "--respacing", "4", "-o", npz});
    INFO(sampled.err);
    CHECK(sampled.exit_code == 0);
    CHECK(fs::file_size(npz) > 6 * 16 * 16);
  }

  {
    INFO(
        "FLOPs of every stage are those of one forward, which teacher and student share, times its uses");
    const auto costs = query(program,
                             "SELECT stage, flops, steps, teacher_evaluations FROM costs "
                             "WHERE experiment = 'tiny' AND row = 'dynamic'");
    std::map<std::string, nlohmann::json> of;
    for (const auto& cost : costs) of[cost["stage"].get<std::string>()] = cost;
    const double forward = number(of.at("sample")["flops"]) / (256 * 8);
    CHECK(forward > 1e6);
    CHECK(number(of.at("train")["flops"]) ==
          Approx(forward * (3 * 12 * 32 + number(of.at("train")["teacher_evaluations"]))));
    CHECK(number(of.at("pool")["flops"]) ==
          Approx(forward * number(of.at("pool")["teacher_evaluations"])));
    CHECK(number(of.at("teacher")["flops"]) == Approx(forward * 3 * 160 * 32));
  }

  {
    INFO("what the method held is its batch set, and the teacher's time is part of the training's");
    const auto train =
        query(program,
              "SELECT s.held_bytes, s.teacher_s, s.elapsed_s, s.peak_bytes FROM stages s "
              "JOIN run_status r USING (run) WHERE r.row = 'dynamic' AND s.name = 'train'");
    REQUIRE(train.size() == 1);
    // Three batches (0.4 of 8 steps, rounded) of 32 rows: an image, its state, end and restarts.
    CHECK(number(train[0]["held_bytes"]) == 3 * 32 * (16 * 16 * 4 + 3 * 8));
    CHECK(number(train[0]["teacher_s"]) > 0);
    CHECK(number(train[0]["teacher_s"]) < number(train[0]["elapsed_s"]));
    CHECK(number(train[0]["peak_bytes"]) > 5e7);
  }

  {
    INFO("plan names what differs when a setting changes");
    const auto plan = program.run({"plan", file, "--set", "row.dynamic.train.lr=5e-4"});
    CHECK(plan.exit_code == 0);
    CHECK(plan.out.find("lr = 5e-04 (was 0.002)") != std::string::npos);
  }

  const auto run = query(program,
                         "SELECT run, key, fid FROM table2 JOIN runs ON id = run WHERE "
                         "table2.experiment = 'tiny' AND table2.row = 'dynamic'")[0];
  const auto id = std::to_string(run["run"].get<int>());
  {
    INFO("the record of a run is an experiment file that plans the very same stages");
    const auto config = program.run({"runs", "show", id, "--config"});
    REQUIRE(config.exit_code == 0);
    const auto again = program.write("again.toml", config.out);
    const auto plan =
        program.run({"plan", again, "--rows", "dynamic", "--seeds", "0", "--format", "json"});
    INFO(plan.err);
    REQUIRE(plan.exit_code == 0);
    const auto stages = nlohmann::json::parse(plan.out);
    CHECK(stages.size() >= 5);
    for (const auto& stage : stages) CHECK(stage["state"] != "to run");
    CHECK(stages.back()["key"] == run["key"]);
    CHECK(
        program.run({"runs", "show", id}).out.find("dkdm run run-" + id + ".toml --rows dynamic") !=
        std::string::npos);
  }

  {
    INFO("database and artifacts agree, to the byte");
    const auto check = program.run({"db", "check", "--hash"});
    INFO(check.out << check.err);
    CHECK(check.exit_code == 0);
    CHECK(program.run({"db", "gc", "--dry-run"}).err.find("0 folders") != std::string::npos);
  }

  {
    INFO("another home takes the run from its archive, and can sample from it");
    const auto archive = program.home() / "run.tar";
    REQUIRE(program.run({"runs", "export", id, "-o", archive}).exit_code == 0);
    const Program elsewhere;
    CHECK(elsewhere.run({"db", "merge", archive}).exit_code == 0);
    CHECK(query(elsewhere, "SELECT fid FROM table2")[0]["fid"] == run["fid"]);
    const auto twice = elsewhere.run({"db", "merge", archive, "--format", "csv"});
    CHECK(twice.out.find("nothing: all is here") != std::string::npos);
    const auto png = elsewhere.home() / "two.png";
    CHECK(elsewhere.run({"sample", "1", "-n", "2", "--respacing", "2", "-o", png}).exit_code == 0);
  }

  {
    INFO("every run's curves and metrics go to TensorBoard");
    const auto events = program.run({"runs", "export", "--tensorboard", program.home() / "events"});
    CHECK(events.exit_code == 0);
    CHECK(e2e::read_file(program.home() / "events" / "tiny" / ("dynamic-seed0-run" + id) /
                         "events.out.tfevents.dkdm")
              .find("loss") != std::string::npos);
  }

  {
    INFO("a run whose samples were not kept is evaluated by its number: they are drawn again");
    const auto again = program.run({"eval", id, "fashion-mnist", "--evaluator", "classifier",
                                    "--set", "epochs=1", "--metrics", "fid", "--format", "json"});
    INFO(again.err);
    REQUIRE(again.exit_code == 0);
    CHECK(again.err.find("samples were not kept; redrawing 256") != std::string::npos);
    CHECK(nlohmann::json::parse(again.out)[0].at("value") == run["fid"]);
  }

  {
    INFO(
        "samples went straight into the evaluator; asked for, they are kept, with the same values");
    const std::vector<std::string> again{"run", file, "--rows", "dynamic"};
    CHECK_FALSE(fs::exists(program.home() / "artifacts" / "sample"));
    auto saving = again;
    saving.emplace_back("--save-samples");
    const auto saved = program.run(saving);
    INFO(saved.err);
    REQUIRE(saved.exit_code == 0);
    const auto kept = query(program,
                            "SELECT artifact FROM stages WHERE name = 'sample' AND "
                            "artifact <> ''");
    REQUIRE(kept.size() == 1);
    const auto npz = kept[0]["artifact"].get<std::string>() + "/samples.npz";
    CHECK(fs::file_size(program.home() / npz) > 256 * 16 * 16);
    CHECK(saved.out.find(npz) != std::string::npos);
    CHECK(program.run(saving).err.find("0 of ") != std::string::npos);
    // Evaluated again: from the set on disk this time.
    fs::remove_all(program.home() / "artifacts" / "evaluate" / run["key"].get<std::string>());
    REQUIRE(program.run(again).exit_code == 0);
    const auto values = query(program,
                              "SELECT r.id, m.value FROM runs r JOIN metrics m ON m.run = r.id "
                              "WHERE m.name = 'fid' AND r.key = '" +
                                  run["key"].get<std::string>() + "'");
    CHECK(values.size() == 3);
    for (const auto& value : values) CHECK(value["value"] == run["fid"]);
  }
}

TEST_CASE("experiment: students are evaluated as they train, which changes no bit of the training",
          "[e2e]") {
  const Program program;
  const auto file = program.write("tiny.toml", teacher_network());
  const auto run = [&](const std::string& name, std::vector<std::string> more) {
    std::vector<std::string> args{"run",    file,
                                  "--rows", "dynamic",
                                  "--set",  "teacher.train.steps=3",
                                  "--set",  "sample.respacing=2",
                                  "--set",  "experiment.table=figure4a",
                                  "--set",  "experiment.name=" + name};
    for (const auto& setting : more) args.insert(args.end(), {"--set", setting});
    const auto output = program.run(args);
    INFO(output.err);
    REQUIRE(output.exit_code == 0);
    CHECK(program.run(args).err.find("0 of ") != std::string::npos);
  };
  run("whole", {});
  run("course", {"evaluate.every=4"});
  run("smaller", {"evaluate.every=4", "evaluate.count=240"});
  run("shorter", {"train.steps=4"});
  const auto points = [&](const std::string& name) {
    return query(program,
                 "SELECT step, fid, sample_count, teacher_evaluations FROM figure4a WHERE "
                 "experiment = '" +
                     name + "' ORDER BY sample_count, step");
  };
  const auto whole = points("whole"), course = points("course"), smaller = points("smaller"),
             shorter = points("shorter");
  REQUIRE(whole.size() == 1);
  REQUIRE(course.size() == 3);
  for (std::size_t i = 0; i < 3; ++i) CHECK(number(course[i]["step"]) == 4. * double(i + 1));
  CHECK(course[2]["fid"] == whole[0]["fid"]);
  // The weights of step 4 are those of a training that ends there.
  REQUIRE(shorter.size() == 1);
  CHECK(course[0]["fid"] == shorter[0]["fid"]);
  CHECK(course[0]["teacher_evaluations"] == shorter[0]["teacher_evaluations"]);
  // With other counts the last step has a point of each.
  REQUIRE(smaller.size() == 4);
  for (std::size_t i = 0; i < 3; ++i) CHECK(number(smaller[i]["sample_count"]) == 240);
  CHECK(smaller[3]["fid"] == whole[0]["fid"]);

  const auto folders = query(program,
                             "SELECT DISTINCT artifact FROM costs c JOIN stages s USING (key) "
                             "WHERE c.stage = 'train' AND experiment IN ('whole', 'course')");
  REQUIRE(folders.size() == 2);
  const auto weights = [&](std::size_t i) {
    return e2e::read_file(program.home() / folders[i]["artifact"].get<std::string>() /
                          "ema.safetensors");
  };
  CHECK(weights(0) == weights(1));
  CHECK(program.run({"db", "check", "--hash"}).exit_code == 0);
}

TEST_CASE("experiment: a killed evaluation continues to the same values", "[e2e]") {
  const Program whole, killed;
  const auto command = [](const fs::path& file) {
    return std::vector<std::string>{"run",    file,
                                    "--rows", "teacher",
                                    "--set",  "teacher.train.steps=3",
                                    "--set",  "sample.count=20000",
                                    "--set",  "sample.respacing=2"};
  };
  const Output uninterrupted = whole.run(command(whole.write("tiny.toml", teacher_network())));
  INFO(uninterrupted.err);
  REQUIRE(uninterrupted.exit_code == 0);
  const auto half_way = [&] {
    std::error_code absent;
    for (const auto& entry : fs::directory_iterator(killed.home() / "work" / "evaluate", absent))
      if (fs::exists(entry.path() / "unfinished.safetensors")) return true;
    return false;
  };
  const auto file = killed.write("tiny.toml", teacher_network());
  const Output stopped = killed.run_until(command(file), half_way, SIGKILL);
  REQUIRE(stopped.exit_code == 128 + SIGKILL);
  const Output continued = killed.run(command(file));
  INFO(continued.err);
  REQUIRE(continued.exit_code == 0);
  CHECK(continued.err.find("continuing from image") != std::string::npos);
  const auto values = "SELECT name, value FROM metrics ORDER BY name";
  CHECK(query(whole, values) == query(killed, values));
  CHECK(query(whole, values).size() >= 3);
}

TEST_CASE("experiment: a killed run continues to the same weights", "[e2e]") {
  // Streaming makes the batch set part of what a checkpoint must hold.
  const std::vector<std::string> settings{
      "--rows", "dynamic",          "--set", "teacher.train.steps=3",
      "--set",  "train.steps=60",   "--set", "row.dynamic.method.prepare=streaming",
      "--set",  "sample.count=256", "--set", "sample.respacing=2"};
  const auto command = [&](const fs::path& file) {
    std::vector<std::string> args{"run", file};
    args.insert(args.end(), settings.begin(), settings.end());
    return args;
  };
  const Program whole, killed;
  const auto whole_file = whole.write("tiny.toml", teacher_network());
  const auto killed_file = killed.write("tiny.toml", teacher_network());

  const Output uninterrupted = whole.run(command(whole_file));
  INFO(uninterrupted.err);
  REQUIRE(uninterrupted.exit_code == 0);

  // Once a checkpoint beyond the first steps of the student exists, the process is killed outright.
  const auto student_checkpoint = [&] {
    std::error_code absent;
    if (!fs::exists(killed.home() / "artifacts" / "train", absent)) return false;
    for (const auto& entry : fs::directory_iterator(killed.home() / "work" / "train", absent))
      if (fs::exists(entry.path() / "checkpoint.safetensors")) return true;
    return false;
  };
  const Output stopped = killed.run_until(command(killed_file), student_checkpoint, SIGKILL);
  REQUIRE(stopped.exit_code == 128 + SIGKILL);
  const Output continued = killed.run(command(killed_file));
  INFO(continued.err);
  REQUIRE(continued.exit_code == 0);
  CHECK(continued.err.find("continuing from step") != std::string::npos);

  const auto student_weights = [](const Program& program) {
    const auto key = query(program, "SELECT key FROM stages WHERE name = 'train'")[0]["key"];
    return program.home() / "artifacts" / "train" / key.get<std::string>();
  };
  for (const char* weights : {"raw.safetensors", "ema.safetensors"})
    CHECK(e2e::read_file(student_weights(whole) / weights) ==
          e2e::read_file(student_weights(killed) / weights));
  const auto statuses = query(killed, "SELECT status FROM attempts ORDER BY id");
  REQUIRE(statuses.size() == 2);
  CHECK(statuses[0]["status"] == "crashed");
  CHECK(statuses[1]["status"] == "done");
}

TEST_CASE("experiment: Ctrl-C is exit code 130 and loses nothing", "[e2e]") {
  const Program program;
  const auto file = program.write("tiny.toml", teacher_network());
  const std::vector<std::string> command{"run",     file,    "--rows",
                                         "teacher", "--set", "teacher.train.steps=100000"};
  const auto training = [&] {
    std::error_code absent;
    for (const auto& entry : fs::directory_iterator(program.home() / "work" / "train", absent))
      if (fs::exists(entry.path() / "checkpoint.safetensors")) return true;
    return false;
  };
  const Output stopped = program.run_until(command, training, SIGINT);
  CHECK(stopped.exit_code == 130);
  CHECK(stopped.err.find("interrupted") != std::string::npos);
  CHECK(query(program, "SELECT status FROM run_status")[0]["status"] == "interrupted");
}

TEST_CASE("experiment: too few samples at paper scale are refused before anything is made",
          "[e2e]") {
  const Program program;
  const auto file = program.write("tiny.toml", teacher_network());
  const Output output = program.run({"run", file, "--set", "sample.count=100", "--set",
                                     "experiment.scale=paper", "--set", "experiment.samples=100"});
  INFO(output.err);
  CHECK(output.exit_code == 2);
  CHECK(output.err.find("needs at least 128 samples") != std::string::npos);
  CHECK_FALSE(fs::exists(program.home() / "artifacts" / "train"));
}

TEST_CASE("experiment: a failing row is recorded and the others are made", "[e2e]") {
  const Program program;
  const auto file = program.write("tiny.toml", teacher_network());
  // Each step multiplies the weights by 1 - lr * weight_decay, about -1e6: the loss overflows
  // within a few.
  const Output output =
      program.run({"run", file, "--rows", "teacher,data_free", "--set", "teacher.train.steps=2",
                   "--set", "sample.respacing=2", "--set", "row.data_free.train.lr=1000", "--set",
                   "row.data_free.train.weight_decay=1000", "--set",
                   "row.data_free.train.checkpoint_every=100"});
  INFO(output.err);
  CHECK(output.exit_code == 1);
  CHECK(output.err.find("not finite at step") != std::string::npos);
  CHECK(output.err.find("no checkpoint was made yet") != std::string::npos);
  CHECK(output.err.find("student_clip") == std::string::npos);  // a baseline has none
  const auto failures = query(program, "SELECT row, stage, message FROM failures");
  REQUIRE(failures.size() == 1);
  CHECK(failures[0]["row"] == "data_free");
  CHECK(failures[0]["stage"] == "train");
  CHECK(query(program, "SELECT row FROM run_status WHERE status = 'done'")[0]["row"] == "teacher");
}
