#include "dkdm/image_files.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <set>
#include <string_view>
#include <utility>

namespace dkdm::io {
namespace {

namespace fs = std::filesystem;

const std::set<std::string> kRead{".png", ".apng", ".jpg",  ".jpeg",
                                  ".jpe", ".jfif", ".webp", ".gif"};
// Images that others would read, and raw photographs.
const std::set<std::string> kNotRead{
    ".avif", ".avifs", ".bmp", ".cr2", ".cr3", ".dds", ".dib", ".dng", ".exr", ".heic", ".heif",
    ".j2c",  ".j2k",   ".jp2", ".jpc", ".jpf", ".jpx", ".jxl", ".nef", ".pbm", ".pcx",  ".pfm",
    ".pgm",  ".pnm",   ".ppm", ".psd", ".qoi", ".ras", ".sgi", ".tga", ".tif", ".tiff"};
// Kept by macOS's archiver, Synology's thumbnailer, ext4 and Windows.
const std::set<std::string> kForeignFolders{"__MACOSX", "@eaDir", "lost+found", "$RECYCLE.BIN",
                                            "System Volume Information"};

std::string lower(std::string text) {
  for (char& c : text)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return text;
}

// "12 .webp files", with the first of them by name.
struct Group {
  std::int64_t count = 0;
  std::string example;
  void add(const std::string& name) {
    if (count++ == 0 || name < example) example = name;
  }
  std::string text(const std::string& what) const {
    return std::to_string(count) + " " + what + (count == 1 ? "" : "s");
  }
};

bool begins_like_an_image(const fs::path& file) {
  char head[12] = {};
  // O_NONBLOCK: a pipe without a writer must not hold us.
  const int descriptor = ::open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor < 0) return false;
  const auto got = ::read(descriptor, head, sizeof head);
  ::close(descriptor);
  if (got < static_cast<ssize_t>(sizeof head)) return false;
  const std::string_view view(head, sizeof head);
  using namespace std::string_view_literals;
  for (const auto magic : {"\x89PNG\r\n\x1a\n"sv, "\xff\xd8\xff"sv, "GIF8"sv, "II*\0"sv, "MM\0*"sv})
    if (view.starts_with(magic)) return true;
  return view.starts_with("RIFF") && view.ends_with("WEBP");
}

class Walk {
 public:
  explicit Walk(const fs::path& root) : root_(root) {}

  ImageFiles run() {
    folder({});
    finish();
    return std::move(found_);
  }

 private:
  struct stat status_of(const fs::path& name, bool& there) const {
    struct stat status{};
    there = ::stat((root_ / name).c_str(), &status) == 0;
    return status;
  }

  void folder(const fs::path& name) {
    bool there = false;
    const auto status = status_of(name, there);
    const std::pair<dev_t, ino_t> identity{status.st_dev, status.st_ino};
    if (std::find(around_.begin(), around_.end(), identity) != around_.end())
      throw DataError((root_ / name).string(), "is a link to one of its parent folders");
    around_.push_back(identity);
    std::vector<std::string> names;
    std::error_code error;
    const fs::path path = name.empty() ? root_ : root_ / name;
    for (fs::directory_iterator entry(path, error), end; !error && entry != end;
         entry.increment(error))
      names.push_back(entry->path().filename().string());
    if (error) throw DataError(path.string(), "cannot list the folder: " + error.message());
    std::sort(names.begin(), names.end());
    for (const auto& entry : names) take(name / entry, entry);
    around_.pop_back();
    remark_twins(name, names);
  }

  void take(const fs::path& name, const std::string& last) {
    bool there = false;
    const auto status = status_of(name, there);
    const bool is_folder = there && S_ISDIR(status.st_mode);
    if (last.starts_with('.') || (is_folder && kForeignFolders.contains(last))) {
      hidden_.add(name.string() + (is_folder ? "/" : ""));
      return;
    }
    if (is_folder) return folder(name);
    const std::string ending = lower(fs::path(last).extension().string());
    if (kRead.contains(ending)) {
      if (!there || !S_ISREG(status.st_mode))
        throw DataError(
            (root_ / name).string(),
            there ? "is named like an image but is not a regular file" : "is a link to nothing");
      found_.files.push_back(name);
    } else if (kNotRead.contains(ending)) {
      not_read_[ending].add(name.string());
    } else if (there && S_ISREG(status.st_mode)) {
      others_.add(name.string());
      if (begins_like_an_image(root_ / name)) unnamed_.add(name.string());
    }
  }

  // a.png beside a.jpg: the same picture twice, or two pictures of one name.
  void remark_twins(const fs::path& folder, const std::vector<std::string>& names) {
    std::map<std::string, std::string> first;
    for (const auto& name : names) {
      const fs::path path(name);
      if (name.starts_with('.') || !kRead.contains(lower(path.extension().string()))) continue;
      const auto [known, fresh] = first.emplace(path.stem().string(), name);
      if (!fresh) twins_.add((folder / known->second).string() + " and " + name);
    }
  }

  void finish() {
    if (!not_read_.empty()) {
      std::string counts;
      for (const auto& [ending, group] : not_read_)
        counts += (counts.empty() ? "" : ", ") + group.text(ending + " file");
      throw DataError(
          root_.string(),
          counts + " (" + not_read_.begin()->second.example +
              ") would be left out: PNG, JPEG, WebP and GIF are read; convert them or move them "
              "out of the folder");
    }
    if (found_.files.empty()) {
      std::string instead;
      if (hidden_.count)
        instead += "; left out " + std::to_string(hidden_.count) + " hidden: " + hidden_.example;
      if (others_.count)
        instead += "; it has " + others_.text("other file") + ": " + others_.example;
      throw DataError(root_.string(),
                      "no .png, .jpg, .jpeg, .webp or .gif in it or below it" + instead);
    }
    auto& remarks = found_.remarks;
    if (hidden_.count)
      remarks.push_back("left out " + std::to_string(hidden_.count) +
                        " hidden: " + hidden_.example);
    if (unnamed_.count)
      remarks.push_back("left out " + unnamed_.text("file") +
                        " that hold images but do not end like one: " + unnamed_.example);
    if (twins_.count)
      remarks.push_back(
          twins_.text("name") +
          " with two endings, each counted as an image of its own: " + twins_.example);
  }

  const fs::path root_;
  ImageFiles found_;
  std::vector<std::pair<dev_t, ino_t>> around_;  // folders from the root to where we are
  std::map<std::string, Group> not_read_;        // by ending
  Group hidden_, others_, unnamed_, twins_;
};

}  // namespace

ImageFiles find_image_files(const fs::path& root) { return Walk(root).run(); }

}  // namespace dkdm::io
