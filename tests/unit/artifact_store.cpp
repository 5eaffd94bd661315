// Content keys and the artifact store.
#include <catch2/catch.hpp>
#include <fstream>

#include "dkdm/io.hpp"
#include "run/artifact_store.hpp"

namespace {

using namespace dkdm;
using namespace dkdm::run;
namespace fs = std::filesystem;

struct TemporaryFolder {
  TemporaryFolder() {
    std::string pattern = (fs::temp_directory_path() / "dkdm-store-XXXXXX").string();
    path = ::mkdtemp(pattern.data());
  }
  ~TemporaryFolder() { fs::remove_all(path); }
  fs::path path;
};

Manifest make_one(ArtifactStore& store, int& calls) {
  return store.make(
      "train", "k1", Manifest{},
      [&](const fs::path& folder, Manifest& manifest) {
        ++calls;
        io::write_text(folder / "a.txt", "hello");
        manifest.steps = 7;
      },
      [] {});
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
  CHECK(io::read_text(store.path("train", "k1") / "a.txt") == "hello");
}

TEST_CASE("artifact store: work that fails is kept for the next attempt", "[unit][run]") {
  TemporaryFolder home;
  ArtifactStore store(home.path);
  const auto fail = [](const fs::path& folder, Manifest&) {
    io::write_text(folder / "half.txt", "half");
    throw Error("stopped");
  };
  CHECK_THROWS_AS(store.make("pool", "k", Manifest{}, fail, [] {}), Error);
  CHECK_FALSE(store.find("pool", "k"));
  CHECK(store.has_partial_work("pool", "k"));
  bool continued = false;
  store.make(
      "pool", "k", Manifest{},
      [&](const fs::path& folder, Manifest&) { continued = fs::exists(folder / "half.txt"); },
      [] {});
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
