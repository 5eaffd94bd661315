// Content keys and the artifact store.
#include <unistd.h>

#include <array>
#include <catch2/catch.hpp>
#include <chrono>
#include <fstream>
#include <set>

#include "dkdm/files.hpp"
#include "dkdm/store_error.hpp"
#include "record/artifact_store.hpp"

namespace {

using namespace dkdm;
using namespace dkdm::record;
namespace fs = std::filesystem;

struct TemporaryFolder {
  TemporaryFolder() {
    std::string pattern = (fs::temp_directory_path() / "dkdm-store-XXXXXX").string();
    path = ::mkdtemp(pattern.data());
  }
  ~TemporaryFolder() { fs::remove_all(path); }
  fs::path path;
};

const Waiting kAlone = [](const std::string&) { FAIL("there is nobody to wait for"); };

// The regular files of `folder`, relative to it.
std::set<std::string> files_of(const fs::path& folder) {
  std::set<std::string> names;
  for (const auto& entry : fs::recursive_directory_iterator(folder))
    if (entry.is_regular_file()) names.insert(fs::relative(entry.path(), folder).string());
  return names;
}

Manifest make_one(ArtifactStore& store, int& calls) {
  return store.make(
      "train", "k1", Manifest{},
      [&](const fs::path& folder, Manifest& manifest) {
        ++calls;
        io::write_text(folder / "a.txt", "hello");
        manifest.steps = 7;
        manifest.device_peak_bytes = 3e9;
        manifest.graphs = "student recorded";
        manifest.outputs = {"a.txt"};
      },
      kAlone);
}

}  // namespace

TEST_CASE("content key: equal parts give equal keys, any change another", "[unit][run]") {
  const KeyParts parts{{"stage", "train"}, {"seed", "0"}};
  // SHA-256 of "stage 5 train\nseed 1 0\n", by coreutils' sha256sum.
  CHECK(content_key(parts) == "3a066b4c028694d05cf86f19");
  CHECK(content_key({{"stage", "train"}, {"seed", "1"}}) != content_key(parts));
  // Lengths keep two texts from running into each other.
  CHECK(content_key({{"a", "x\nb 1 y"}}) != content_key({{"a", "x"}, {"b", "y"}}));
}

TEST_CASE("derive_seed: uses and seeds are independent", "[unit][run]") {
  CHECK(derive_seed(0, "train") != derive_seed(0, "sample"));
  CHECK(derive_seed(0, "train") != derive_seed(1, "train"));
  CHECK(derive_seed(3, "sample") == derive_seed(3, "sample"));
}

TEST_CASE("artifact store: made once, found again with its manifest", "[unit][run]") {
  TemporaryFolder home;
  ArtifactStore store(home.path);
  CHECK_FALSE(store.find("train", "k1"));
  int calls = 0;
  make_one(store, calls);
  make_one(store, calls);
  CHECK(calls == 1);
  const auto found = ArtifactStore(home.path).find("train", "k1");
  REQUIRE(found);
  CHECK(found->steps == 7);
  CHECK(found->bytes == 5);
  CHECK(found->device_peak_bytes == 3e9);
  CHECK(found->graphs == "student recorded");
  CHECK_FALSE(found->held_bytes);
  CHECK(io::read_text(store.path("train", "k1") / "a.txt") == "hello");
}

TEST_CASE("artifact store: work that fails is kept for the next attempt", "[unit][run]") {
  TemporaryFolder home;
  ArtifactStore store(home.path);
  const auto fail = [](const fs::path& folder, Manifest&) {
    io::write_text(folder / "half.txt", "half");
    throw Error("stopped");
  };
  CHECK_THROWS_AS(store.make("pool", "k", Manifest{}, fail, kAlone), Error);
  CHECK_FALSE(store.find("pool", "k"));
  CHECK(store.has_partial_work("pool", "k"));
  bool continued = false;
  store.make(
      "pool", "k", Manifest{},
      [&](const fs::path& folder, Manifest&) { continued = fs::exists(folder / "half.txt"); },
      kAlone);
  CHECK(continued);
  CHECK_FALSE(store.has_partial_work("pool", "k"));
}

TEST_CASE("artifact store: a damaged artifact is set aside and made again", "[unit][run]") {
  TemporaryFolder home;
  ArtifactStore store(home.path);
  int calls = 0;
  make_one(store, calls);
  std::ofstream(store.path("train", "k1") / "a.txt") << "cut";
  CHECK_FALSE(store.find("train", "k1"));
  make_one(store, calls);
  CHECK(calls == 2);
  CHECK(fs::exists(store.path("train", "k1").string() + ".damaged"));
}

TEST_CASE("artifact store: without its manifest, or with an empty one, it is made again once",
          "[unit][run]") {
  TemporaryFolder home;
  ArtifactStore store(home.path);
  int calls = 0;
  make_one(store, calls);
  const auto manifest = store.path("train", "k1") / "manifest.json";
  const auto damage = GENERATE(as<std::string>{}, "deleted", "emptied", "of another artifact",
                               "a file is gone", "1e300 steps");
  INFO(damage);
  if (damage == "deleted") fs::remove(manifest);
  if (damage == "emptied") std::ofstream(manifest).flush();
  if (damage == "a file is gone") fs::remove(manifest.parent_path() / "a.txt");
  if (damage == "of another artifact") {
    auto text = io::read_text(manifest);
    text.replace(text.find("\"k1\""), 4, "\"k2\"");
    io::write_text(manifest, text);
  }
  if (damage == "1e300 steps") {
    auto text = io::read_text(manifest);
    const auto value = text.find("\"steps\": ") + 9;
    io::write_text(manifest, text.replace(value, text.find(',', value) - value, "1e300"));
  }
  CHECK_FALSE(store.find("train", "k1"));
  make_one(store, calls);
  make_one(store, calls);
  CHECK(calls == 2);
  CHECK(store.find("train", "k1"));
  CHECK(fs::exists(store.path("train", "k1").string() + ".damaged"));
}

TEST_CASE("artifact store: what cannot be published is said before the work", "[unit][run]") {
  TemporaryFolder home;
  ArtifactStore store(home.path);
  // A file stands where the folder would be set aside to and from.
  fs::create_directories(home.path / "artifacts");
  std::ofstream(home.path / "artifacts/train") << "not a folder";
  int calls = 0;
  CHECK_THROWS_AS(make_one(store, calls), StoreError);
  CHECK(calls == 0);
}

TEST_CASE("artifact store: exactly the declared files are published", "[unit][run]") {
  TemporaryFolder home;
  ArtifactStore store(home.path);
  const auto working = home.path / "work/train/k";
  fs::create_directories(working / "step-1");
  // What a killed process left, and what somebody else did.
  for (const char* name :
       {".a.txt.380-0.tmp", "step-1/.b.txt.380-1.tmp", "core", "part-0.safetensors"})
    std::ofstream(working / name) << "left";
  const auto work = [](const fs::path& folder, Manifest& manifest) {
    CHECK_FALSE(fs::exists(folder / ".a.txt.380-0.tmp"));
    io::write_text(folder / "a.txt", "a");
    io::write_text(folder / "step-1/b.txt", "b");
    manifest.outputs = {"a.txt", "step-1/b.txt"};
  };
  const auto made = store.make("train", "k", Manifest{}, work, kAlone);
  CHECK(made.bytes == 2);
  CHECK(files_of(store.path("train", "k")) ==
        std::set<std::string>{"a.txt", "manifest.json", "step-1/b.txt"});

  // Nothing is declared where a plugin makes it: all but temporary files.
  const auto plugin = [](const fs::path& folder, Manifest&) {
    io::write_text(folder / "weights.bin", "w");
    std::ofstream(folder / ".weights.bin.7-0.tmp") << "half";
  };
  store.make("evaluator", "k", Manifest{}, plugin, kAlone);
  CHECK(files_of(store.path("evaluator", "k")) ==
        std::set<std::string>{"manifest.json", "weights.bin"});
}

TEST_CASE("artifact store: a stage that did not make what it declares has failed", "[unit][run]") {
  TemporaryFolder home;
  ArtifactStore store(home.path);
  const auto work = [](const fs::path&, Manifest& manifest) {
    manifest.outputs = {"raw.safetensors"};
  };
  CHECK_THROWS_WITH(store.make("train", "k", Manifest{}, work, kAlone),
                    Catch::Contains("made no raw.safetensors"));
  CHECK_FALSE(store.find("train", "k"));
}

TEST_CASE("check_contents: an altered byte is an error that names file and remedy", "[unit][run]") {
  TemporaryFolder home;
  ArtifactStore store(home.path);
  int calls = 0;
  make_one(store, calls);
  const auto folder = store.path("train", "k1");
  check_contents(folder);
  std::ofstream(folder / "a.txt") << "hellp";  // the size of "hello"
  // Later than what was read before, however coarse the clock of the file system is.
  fs::last_write_time(folder / "a.txt", fs::file_time_type::clock::now() + std::chrono::seconds(2));
  CHECK(store.find("train", "k1"));
  CHECK_THROWS_WITH(check_contents(folder, {"a.txt"}),
                    Catch::Contains((folder / "a.txt").string()) &&
                        Catch::Contains("remove the folder " + folder.string()));
  CHECK_THROWS_AS(check_contents(folder), DataError);  // and again
  check_contents(folder, {"another.txt"});             // which was not asked for
  check_contents(home.path);  // a folder of its own has nothing to compare with
}

TEST_CASE("work lock: who waits is told for whom", "[unit][run]") {
  TemporaryFolder home;
  const auto file = home.path / "k.lock";
  const WorkLock held(file, kAlone);
  std::string said;
  struct Enough {};
  const auto once = [&](const std::string& holder) {
    said = holder;
    throw Enough();
  };
  CHECK_THROWS_AS(WorkLock(file, once), Enough);
  std::array<char, 256> host{};
  ::gethostname(host.data(), host.size() - 1);
  CHECK(said.starts_with("process " + std::to_string(::getpid()) + " on " + host.data() +
                         ", since "));
}

TEST_CASE("artifact store: retiring keeps the earlier result", "[unit][run]") {
  TemporaryFolder home;
  ArtifactStore store(home.path);
  int calls = 0;
  make_one(store, calls);
  store.retire("train", "k1");
  CHECK_FALSE(store.find("train", "k1"));
  CHECK(fs::exists(store.path("train", "k1").string() + ".earlier-1"));
}

TEST_CASE("artifact store: a folder that cannot be made is one clear error", "[unit][run]") {
  TemporaryFolder home;
  std::ofstream(home.path / "file") << "not a folder";
  CHECK_THROWS_WITH(ArtifactStore(home.path / "file"), Catch::Contains("DKDM_HOME"));
}
