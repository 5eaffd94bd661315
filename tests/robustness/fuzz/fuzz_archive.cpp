// Archives of runs: what is unpacked lies in its folder, and is files and folders alone.
#include "fuzz_target.hpp"
#include "results/admin/archive.hpp"

DKDM_FUZZ_TARGET(archive) {
  namespace fs = std::filesystem;
  const dkdm::fuzz::Folder folder;
  const auto file = folder.write("input.tar", input);
  const auto target = folder.path() / "a" / "b" / "target";
  fs::create_directories(target);
  dkdm::fuzz::accepted([&] { dkdm::results::unpack_archive(file, target); });
  for (const auto& entry : fs::recursive_directory_iterator(folder.path())) {
    const auto status = entry.symlink_status();
    dkdm::fuzz::require(fs::is_regular_file(status) || fs::is_directory(status),
                        "a link or a device");
    const auto name = entry.path().lexically_relative(folder.path());
    const bool inside = name.string().starts_with("a/b/target/");
    const bool ours = name == "input.tar" || name == "a" || name == "a/b" || name == "a/b/target";
    dkdm::fuzz::require(inside || ours, "a file outside the folder");
  }
}
