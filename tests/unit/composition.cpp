// Experiments made of other files and of sweeps: what lies over what, where each value comes from,
// and errors.
#include <catch2/catch.hpp>

#include <fstream>

#include "config/experiment.hpp"
#include "fixtures/analytic.hpp"
#include "fixtures/experiments.hpp"

using namespace dkdm;
using Catch::Matchers::Contains;
using Catch::Matchers::StartsWith;
using config::Experiment;
namespace fs = std::filesystem;

namespace {

const char* const kBase = R"([dataset]
plugin = "fixture-images"
[teacher]
plugin = "guided-diffusion"
path = "weights/teacher.pt"
[student]
plugin = "fixture-student"
width = 4
dropout = 0.5
[train]
steps = 5
[sample]
count = 10
[evaluator]
plugin = "fixture-metric"
)";

const char* const kTop = R"(base = "bases/base.toml"
[experiment]
name = "top"
[student]
width = 6
[[row]]
id = "first"
method = { plugin = "dynamic", rho = 0.5 }
)";

// Experiment files that lie in one folder.
struct Files {
  fixtures::ScratchFolder folder;

  Files() { write("bases/base.toml", kBase); }

  fs::path write(const std::string& name, const std::string& text) const {
    const fs::path file = folder.path / name;
    fs::create_directories(file.parent_path());
    std::ofstream(file) << text;
    return file;
  }
  Experiment load(const std::string& text, const std::vector<std::string>& overrides = {}) const {
    return config::load_experiment({write("top.toml", text), overrides, folder.path / "shipped"},
                                   fixtures::all_plugins());
  }
  std::string error(const std::string& text, const std::vector<std::string>& overrides = {}) const {
    return fixtures::config_error([&] { load(text, overrides); });
  }
  std::string place(const std::string& file, int line, int column) const {
    return (folder.path / file).string() + ":" + std::to_string(line) + ":" +
           std::to_string(column);
  }
};

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const auto at = text.find(from);
  REQUIRE(at != std::string::npos);
  return text.replace(at, from.size(), to);
}

std::vector<std::string> ids(const Experiment& experiment) {
  std::vector<std::string> ids;
  for (const auto& row : experiment.rows) ids.push_back(row.id);
  return ids;
}

using Ids = std::vector<std::string>;

const char* const kSweep = R"(
[[row]]
id = "rho"
label = "Dynamic"
method = { plugin = "dynamic" }
sweep = { method.rho = [0.05, 1], student.width = [2, 3] }
)";

const char* const kTwoTeachers = R"(base = "bases/base.toml"
[experiment]
name = "two"
[teacher.cnn]
plugin = "checkpoint"
student = { plugin = "fixture-student", width = 16 }
method = { plugin = "data-based" }
[teacher.vit]
plugin = "checkpoint"
student = { plugin = "fixture-student", width = 32 }
method = { plugin = "data-based" }
[[row]]
id = "teacher_vit"
teacher = "vit"
[[row]]
id = "from_cnn"
teacher = "cnn"
method = { plugin = "dynamic" }
[[row]]
id = "from_data"
method = { plugin = "data-based" }
)";

// kTwoTeachers over a base without a teacher of its own.
struct TwoTeachers : Files {
  TwoTeachers() {
    const std::string base = kBase;
    write("bases/base.toml",
          base.substr(0, base.find("[teacher]")) + base.substr(base.find("[student]")));
  }
};

}  // namespace

TEST_CASE("composition: a file lies over its base, section by section", "[unit][config]") {
  const Files files;
  const Experiment e = files.load(kTop);
  REQUIRE(ids(e) == Ids{"first"});
  const auto& student = e.rows[0].training->student.params;
  CHECK(student.integer("width") == 6);
  CHECK(student.real("dropout") == 0.5);
  CHECK(e.rows[0].training->train.integer("steps") == 5);
  // A path belongs to the file that says it.
  CHECK(e.rows[0].teacher->plugin.params.text("path") ==
        files.folder.path / "bases/weights/teacher.pt");
  // Another plugin takes the place of the base's section whole, its sub-sections included.
  const Experiment other =
      files.load(replaced(kTop, "width = 6", "plugin = \"fixture-throwing\"\nhow = \"data\""));
  CHECK(other.rows[0].training->student.name == "fixture-throwing");
  CHECK(files.load(kTop, {"train.steps=9"}).rows[0].training->train.integer("steps") == 9);
}

TEST_CASE("composition: bases have bases, and of several the later counts", "[unit][config]") {
  const Files files;
  files.write("bases/a.toml", "base = \"base.toml\"\n[train]\nsteps = 6\nlr = 0.1\n");
  files.write("b.toml", "[train]\nsteps = 7\n");
  const auto top = [&](const std::string& bases) {
    return files.load(replaced(kTop, "\"bases/base.toml\"", bases)).rows[0].training->train;
  };
  CHECK(top("[\"bases/a.toml\", \"b.toml\"]").integer("steps") == 7);
  CHECK(top("[\"b.toml\", \"bases/a.toml\"]").integer("steps") == 6);
  CHECK(top("[\"b.toml\", \"bases/a.toml\"]").real("lr") == 0.1);
  // What lies beside the file comes before what is shipped.
  files.write("shipped/desk/c.toml", "base = \"../../bases/base.toml\"\n[train]\nsteps = 8\n");
  CHECK(top("\"desk/c.toml\"").integer("steps") == 8);
  files.write("desk/c.toml", "base = \"../bases/base.toml\"\n[train]\nsteps = 9\n");
  CHECK(top("\"desk/c.toml\"").integer("steps") == 9);
}

TEST_CASE(
    "composition: rows lie over the base's of the same id, others follow, [experiment] rows chooses",
    "[unit][config]") {
  const Files files;
  files.write("rows.toml", replaced(kTop, "name = \"top\"", "name = \"rows\"\ntitle = \"Rows\"") +
                               "[[row]]\nid = \"second\"\nmethod = { plugin = \"shuffled\" }\n");
  const std::string text =
      "base = \"rows.toml\"\n[experiment]\nname = \"top\"\n[[row]]\nid = \"third\"\nmethod = { plugin = "
      "\"iterative\" }\n[[row]]\nid = \"first\"\nmethod = { respacing = \"10\" }\n";
  const Experiment e = files.load(text);
  CHECK(ids(e) == Ids{"first", "second", "third"});
  CHECK(e.title == "Rows");
  CHECK(e.rows[0].training->method.params.real("rho") == 0.5);
  CHECK(e.rows[0].training->method.params.text("respacing") == "10");
  CHECK(ids(files.load(text, {"experiment.rows=[\"third\",\"first\"]"})) == Ids{"third", "first"});
  CHECK_THAT(files.error(replaced(text, "name = \"top\"", "name = \"top\"\nrows = [\"thrid\"]")),
             StartsWith(files.place("top.toml", 4, 8)) && Contains("did you mean \"third\"?"));
}

TEST_CASE("composition: a sweep makes a row of every combination, the last list varying fastest",
          "[unit][config]") {
  const Files files;
  const std::string text = std::string(kTop) + kSweep;
  const Experiment e = files.load(text);
  REQUIRE(ids(e) == Ids{"first", "rho-0_05-2", "rho-0_05-3", "rho-1_0-2", "rho-1_0-3"});
  CHECK(e.rows[2].label == "Dynamic, rho = 0.05, width = 3");
  CHECK(e.rows[2].training->method.params.real("rho") == 0.05);
  CHECK(e.rows[2].training->student.params.integer("width") == 3);
  CHECK(e.rows[3].training->method.params.real("rho") == 1);
  CHECK(e.rows[3].training->student.params.real("dropout") == 0.5);
  // An expanded row is a row: overrides and rows find it.
  CHECK(
      files.load(text, {"row.rho-1_0-3.train.steps=9"}).rows[4].training->train.integer("steps") ==
      9);

  const Experiment named = files.load(
      replaced(replaced(text, "id = \"rho\"",
                        "id = [\"a\", \"b\", \"c\", \"d\"]\npublished = [\"p\", \"\", \"\", \"\"]"),
               "\"Dynamic\"", "\"ρ = {method.rho}, {student.width} wide\""));
  CHECK(ids(named) == Ids{"first", "a", "b", "c", "d"});
  CHECK(named.rows[1].published == "p");
  CHECK(named.rows[2].published == "b");
  CHECK(named.rows[4].label == "ρ = 1.0, 3 wide");
}

TEST_CASE("composition: sweeps of texts, booleans, lists and sections", "[unit][config]") {
  const Files files;
  const auto rows = [&](const std::string& sweep) {
    return files.load(replaced(kTop + std::string(kSweep),
                               "{ method.rho = [0.05, 1], student.width = [2, 3] }", sweep));
  };
  CHECK(ids(rows("{ method.respacing = [\"10\", \"5,5\"] }")) == Ids{"first", "rho-10", "rho-5_5"});
  CHECK(rows("{ method.student_clip = [true, false] }")
            .rows[1]
            .training->method.params.flag("student_clip"));
  CHECK(rows("{ diffusion = [{ steps = 100 }, { steps = 200, schedule = \"linear\" }] }")
            .rows[2]
            .diffusion == DiffusionConfig{"linear", 200, ""});
  const Experiment students =
      rows("{ student = [{ width = 3 }, { plugin = \"fixture-throwing\", how = \"data\" }] }");
  CHECK(students.rows[1].training->student.params.integer("width") == 3);
  CHECK(students.rows[2].training->student.name == "fixture-throwing");
  CHECK(students.rows[2].id == "rho-fixture-throwing");
}

TEST_CASE("composition: a row may override any section", "[unit][config]") {
  const Files files;
  const Experiment e = files.load(std::string(kTop) + R"([[row]]
id = "other"
dataset = { size = 8 }
diffusion = { steps = 100 }
teacher = { path = "other.pt" }
student = { width = 3 }
method = { plugin = "data-free" }
train = { steps = 2 }
sample = { count = 4 }
synthetic = { count = 3 }
evaluator = { plugin = "classifier" }
evaluate = { every = 1 }
)");
  const auto &first = e.rows[0], &other = e.rows[1];
  CHECK(first.dataset->params.integer("size") == 16);
  CHECK(other.dataset->params.integer("size") == 8);
  CHECK(first.diffusion.steps == 1000);
  CHECK(other.diffusion.steps == 100);
  CHECK(other.teacher->plugin.name == "guided-diffusion");
  CHECK(other.teacher->plugin.params.text("path") == files.folder.path / "other.pt");
  CHECK(first.teacher->plugin.params.text("path") ==
        files.folder.path / "bases/weights/teacher.pt");
  CHECK(other.training->student.params.integer("width") == 3);
  CHECK(other.training->train.integer("steps") == 2);
  CHECK(other.sample.integer("count") == 4);
  CHECK(other.synthetic.integer("count") == 3);
  CHECK(first.synthetic.integer("count") == 0);
  CHECK(other.evaluator.name == "classifier");
  CHECK(other.evaluate.integer("every") == 1);
  // The chain that a row's respacing is of is the row's.
  CHECK_THAT(files.error(std::string(kTop) + "diffusion = { steps = 20 }\n"), Contains("50"));
}

TEST_CASE("composition: rows name their teacher, or are one", "[unit][config]") {
  const TwoTeachers files;
  const Experiment e = files.load(kTwoTeachers);
  REQUIRE(ids(e) == Ids{"teacher_vit", "from_cnn", "from_data"});
  CHECK_FALSE(e.rows[0].training);
  CHECK(e.rows[0].teacher->name == "vit");
  CHECK(e.rows[0].teacher->training->student.params.integer("width") == 32);
  CHECK(e.rows[1].teacher->name == "cnn");
  CHECK(e.rows[1].teacher->training->student.params.integer("width") == 16);
  CHECK_FALSE(e.rows[2].teacher);
  const std::string text = kTwoTeachers;
  const auto vit = [&](const std::string& to) {
    return files.error(replaced(text, "teacher = \"vit\"", to));
  };
  CHECK(vit("teacher = \"vti\"") ==
        files.place("top.toml", 14, 11) +
            ": row \"teacher_vit\": teacher \"vti\" is not there, did you mean \"vit\"?");
  CHECK_THAT(vit("teacher = true"), Contains("there are several, expected one of cnn, vit"));
  CHECK_THAT(vit("teacher = false"),
             Contains("expected true, the name of a teacher, or a section"));
  CHECK_THAT(vit("teacher = { path = \"x\" }"), Contains("expected one of cnn, vit"));
  CHECK_THAT(vit(""), Contains("expected method"));
  CHECK_THAT(vit("teacher = \"vit\"\ntrain = { steps = 3 }"),
             Contains("has a train and no method"));
  CHECK_THAT(files.error(replaced(text, "[teacher.vit]", "[teacher.cnn]")),
             Contains("cnn") && Contains("top.toml:8:"));
  CHECK_THAT(files.error(replaced(text, "[teacher.vit]", "[teacher.student]")),
             Contains("[teacher] has named teachers and \"student\" beside them"));
  CHECK_THAT(files.error(replaced(text, "[teacher.vit]", "[teacher.\"Vi T\"]")),
             Contains("a teacher's name"));
}

TEST_CASE("composition: the resolved text loads to an equal experiment, whatever it was made of",
          "[unit][config]") {
  const Files files;
  const TwoTeachers two;
  const std::string own =
      std::string(kTop) +
      "[[row]]\nid = \"teacher\"\nteacher = { path = \"x.pt\" }\ndataset = { size = 8 }\n";
  for (const auto& first :
       {files.load(std::string(kTop) + kSweep), files.load(own), two.load(kTwoTeachers)}) {
    const Experiment again = files.load(first.resolved);
    CHECK(again.resolved == first.resolved);
    CHECK(ids(again) == ids(first));
    CHECK(files.load(first.annotated).resolved == first.resolved);
  }
}

TEST_CASE("composition: every value says where it comes from", "[unit][config]") {
  const Files files;
  const std::string text = files.load(kTop, {"row.first.train.lr=0.25"}).annotated;
  const auto origin = [&](const std::string& section, const std::string& value) {
    const auto at = text.find(value + ' ', text.find(section));
    REQUIRE(at != std::string::npos);
    const auto comment = text.find("# ", at);
    return text.substr(comment + 2, text.find('\n', at) - comment - 2);
  };
  CHECK(origin("[experiment]", "name = \"top\"") == files.place("top.toml", 3, 8));
  CHECK(origin("[dataset]", "plugin = \"fixture-images\"") ==
        files.place("bases/base.toml", 2, 10));
  CHECK(origin("[dataset]", "size = 16") == "default");
  CHECK(origin("[row.student]", "width = 6") == files.place("top.toml", 5, 9));
  CHECK(origin("[row.student]", "dropout = 0.5") == files.place("bases/base.toml", 9, 11));
  CHECK(origin("[row.train]", "lr = 0.25") == "--set row.first.train.lr");
}

TEST_CASE(
    "composition: a base that is missing, loops or is wrong is named with the files that lead to it",
    "[unit][config]") {
  const Files files;
  const std::string missing = files.error(replaced(kTop, "base.toml", "bsae.toml"));
  CHECK(missing == files.place("top.toml", 1, 8) +
                       ": base: no such file \"bases/bsae.toml\"; looked for " +
                       (files.folder.path / "bases/bsae.toml").string() + " and " +
                       (files.folder.path / "shipped/bases/bsae.toml").string());
  CHECK_THAT(files.error(replaced(kTop, "\"bases/base.toml\"", "3")),
             Contains("base: expected the path"));

  files.write("bases/loop.toml", "base = \"../top.toml\"\n");
  const std::string loop = files.error(replaced(kTop, "base.toml", "loop.toml"));
  CHECK_THAT(loop, StartsWith(files.place("bases/loop.toml", 1, 8) +
                              ": base \"../top.toml\" leads back to itself: " +
                              (files.folder.path / "top.toml").string() + " -> ") &&
                       Contains("this file is the base of " + files.place("top.toml", 1, 8)));

  files.write("bases/middle.toml", "base = \"base.toml\"\n");
  files.write("bases/base.toml", replaced(kBase, "width = 4", "widht = 4"));
  CHECK(
      files.error(replaced(kTop, "base.toml", "middle.toml")) ==
      files.place("bases/base.toml", 8, 1) +
          ": unknown key \"widht\" in row \"first\" student (fixture-student), did you mean \"width\"? (this file is "
          "the base of " +
          files.place("bases/middle.toml", 1, 8) + ")");
  files.write("bases/base.toml", "[train\n");
  CHECK_THAT(files.error(kTop), StartsWith(files.place("bases/base.toml", 1, 7)) &&
                                    Contains("the base of " + files.place("top.toml", 1, 8)));
}

TEST_CASE("composition: a section and a value of one name do not lie over each other",
          "[unit][config]") {
  const Files files;
  CHECK(files.error(replaced(kTop, "[experiment]", "train = 5\n[experiment]")) ==
        files.place("top.toml", 2, 1) + ": \"train\" is a value here and a section at " +
            files.place("bases/base.toml", 10, 2) + "; expected a section");
  CHECK_THAT(files.error(replaced(kTop, "width = 6", "width = { of = 3 }")),
             Contains("\"width\" is a section here and a value at " +
                      files.place("bases/base.toml", 8, 1)));
  CHECK_THAT(files.error(kTop, {"train=5"}), Contains("--set train: \"train\" is a value here"));
  CHECK_THAT(files.error(kTop, {"row=5"}),
             Contains("--set row: \"row\" is a value here and a list of sections"));
}

TEST_CASE("composition: a sweep that makes no sense is refused where it stands", "[unit][config]") {
  const Files files;
  const std::string text = std::string(kTop) + kSweep;
  const auto sweep = [&](const std::string& to) {
    return files.error(replaced(text, "{ method.rho = [0.05, 1], student.width = [2, 3] }", to));
  };
  CHECK(sweep("{ method.roh = [0.1] }") ==
        files.place("top.toml", 14, 18) +
            ": unknown key \"roh\" in row \"rho-0_1\" method (dynamic), did you mean \"rho\"?");
  CHECK_THAT(sweep("{ rho = [0.1] }"), Contains("unknown key \"rho\" in [[row]]"));
  CHECK_THAT(sweep("{ method.rho = [0.1, \"a\"] }"),
             Contains(files.place("top.toml", 14, 30) +
                      ": sweep of method.rho: expected values of one type, got text after real"));
  CHECK_THAT(sweep("{ method.rho = 0.1 }"),
             Contains("sweep of method.rho: expected a list, got 0.1"));
  CHECK_THAT(sweep("{ method.rho = [] }"), Contains("the list is empty"));
  CHECK_THAT(sweep("{ }"), Contains("expected at least one list"));
  CHECK_THAT(sweep("[1, 2]"), Contains("sweep: expected a section of lists"));
  CHECK_THAT(sweep("{ id = [\"a\", \"b\"] }"), Contains("id is swept by no list"));
  CHECK_THAT(sweep("{ method.rho = [0.1, 0.1] }"), Contains("row id \"rho-0_1\" is used twice"));
  CHECK_THAT(sweep("{ method.rho.x = [0.1] }"),
             Contains("\"rho\" is") || Contains("got a section"));
  CHECK_THAT(files.error(replaced(text, "id = \"rho\"", "id = [\"a\", \"b\"]")),
             Contains("id: expected one for each of the 4 rows of the sweep, got 2"));
  CHECK_THAT(
      files.error(replaced(text, "\"Dynamic\"", "\"{method.roh}\"")),
      Contains("the row has no value \"method.roh\"; its sweep is of method.rho, student.width"));
  CHECK_THAT(files.error(replaced(text, "\"Dynamic\"", "\"{method.rho\"")),
             Contains("expected {KEY}"));
  std::string many = "[0";
  for (int i = 1; i < 1001; ++i) many += "," + std::to_string(i);
  CHECK_THAT(sweep("{ student.width = " + many + "] }"), Contains("more than 1000 rows"));
}
