// Which files of a folder are samples.
#include "dkdm/image_files.hpp"

#include <sys/stat.h>

#include <catch2/catch.hpp>

#include "dkdm/files.hpp"
#include "fixtures/analytic.hpp"

using namespace dkdm;
using Catch::Matchers::Contains;
using fixtures::ScratchFolder;
namespace fs = std::filesystem;

namespace {

struct Folder {
  ScratchFolder scratch;
  const fs::path& root = scratch.path;

  void add(const std::string& name, const std::string& content = "x") const {
    fs::create_directories((root / name).parent_path());
    io::write_text(root / name, content);
  }
  std::vector<std::string> files() const {
    std::vector<std::string> names;
    for (const auto& file : io::find_image_files(root).files) names.push_back(file.string());
    return names;
  }
  std::string remarks() const {
    std::string text;
    for (const auto& remark : io::find_image_files(root).remarks) text += remark + "\n";
    return text;
  }
};

const std::string kPng = "\x89PNG\r\n\x1a\n and more";

}  // namespace

TEST_CASE("image files: sorted within each folder, endings in any case, links followed",
          "[unit][io]") {
  const Folder folder;
  for (const char* name :
       {"b.PNG", "a.jpeg", "c/z.JPG", "c/a.webp", "d.jfif", "B/x.png", "g.GIF", "notes.txt"})
    folder.add(name);
  fs::create_symlink(folder.root / "c", folder.root / "e");
  fs::create_symlink("a.jpeg", folder.root / "f.jpg");
  // Upper case first, as Python sorts names.
  CHECK(folder.files() == std::vector<std::string>{"B/x.png", "a.jpeg", "b.PNG", "c/a.webp",
                                                   "c/z.JPG", "d.jfif", "e/a.webp", "e/z.JPG",
                                                   "f.jpg", "g.GIF"});
  CHECK(folder.remarks() == "");
}

TEST_CASE("image files: what editors and archivers leave behind is no sample, and is named",
          "[unit][io]") {
  const Folder folder;
  folder.add("0.png");
  folder.add(".ipynb_checkpoints/0-checkpoint.png");
  folder.add("._0.png");
  folder.add("__MACOSX/._0.png");
  folder.add("deep/@eaDir/0.png/SYNOPHOTO_THUMB_M.jpg");
  folder.add("deep/1.png");
  folder.add("Thumbs.db");
  CHECK(folder.files() == std::vector<std::string>{"0.png", "deep/1.png"});
  CHECK_THAT(folder.remarks(), Contains("left out 4 hidden: ._0.png"));
}

TEST_CASE("image files: a hidden root is asked for, so it counts", "[unit][io]") {
  const Folder folder;
  folder.add(".cache/a.png");
  CHECK(io::find_image_files(folder.root / ".cache").files.size() == 1);
}

TEST_CASE("image files: images of kinds that are not read are an error with their numbers",
          "[unit][io]") {
  const Folder folder;
  folder.add("0.png");
  folder.add("1.bmp");
  folder.add("2.BMP");
  folder.add("x/3.tiff");
  CHECK_THROWS_WITH(folder.files(), Contains("2 .bmp files, 1 .tiff file") && Contains("1.bmp") &&
                                        Contains("would be left out"));
  // Out of sight, they are no samples either.
  fs::create_directory(folder.root / ".old");
  for (const char* name : {"1.bmp", "2.BMP", "x/3.tiff"})
    fs::rename(folder.root / name, folder.root / ".old" / fs::path(name).filename());
  CHECK(folder.files() == std::vector<std::string>{"0.png"});
}

TEST_CASE("image files: images under other names and names with two endings are remarked",
          "[unit][io]") {
  const Folder folder;
  folder.add("0.png", kPng);
  folder.add("0.jpg", kPng);
  folder.add("1.png~", kPng);
  folder.add("2", kPng);
  folder.add("labels.json", "{}");
  CHECK(folder.files() == std::vector<std::string>{"0.jpg", "0.png"});
  CHECK_THAT(
      folder.remarks(),
      Contains("left out 2 files that hold images but do not end like one: 1.png~") &&
          Contains(
              "1 name with two endings, each counted as an image of its own: 0.jpg and 0.png"));
}

TEST_CASE("image files: what can be no sample where one is promised is refused", "[unit][io]") {
  const Folder folder;
  CHECK_THROWS_WITH(folder.files(),
                    Contains("no .png, .jpg, .jpeg, .webp or .gif in it or below it"));
  folder.add("notes.txt");
  CHECK_THROWS_WITH(folder.files(), Contains("it has 1 other file: notes.txt"));
  folder.add("0.png");
  fs::create_symlink("gone.png", folder.root / "1.png");
  CHECK_THROWS_WITH(folder.files(), Contains("1.png") && Contains("a link to nothing"));
  fs::remove(folder.root / "1.png");
  REQUIRE(::mkfifo((folder.root / "2.png").c_str(), 0600) == 0);
  CHECK_THROWS_WITH(folder.files(), Contains("2.png") && Contains("not a regular file"));
  fs::remove(folder.root / "2.png");
  fs::create_directory(folder.root / "a");
  fs::create_symlink("..", folder.root / "a" / "up");
  CHECK_THROWS_WITH(folder.files(),
                    Contains("a/up") && Contains("a link to one of its parent folders"));
  CHECK_THROWS_WITH(io::find_image_files(folder.root / "none"),
                    Contains("none: cannot list the folder: No such file or directory"));
}
