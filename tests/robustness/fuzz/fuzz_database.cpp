// Another machine's database, merged into one of ours: it is refused and ours is as it was, or
// merged and ours is sound.
#include "fuzz_target.hpp"
#include "results/admin/check.hpp"
#include "results/admin/merge.hpp"
#include "results/store/store.hpp"

DKDM_FUZZ_TARGET(database) {
  namespace fs = std::filesystem;
  static const dkdm::fuzz::Folder folder;
  static const fs::path pristine = [] {
    const auto file = folder.path() / "pristine.sqlite";
    {
      const dkdm::results::Store store(file);
    }
    return file;
  }();
  const auto ours = folder.path() / "ours.sqlite";
  for (const char* log : {"-wal", "-shm", "-journal"}) fs::remove(ours.string() + log);
  fs::copy_file(pristine, ours, fs::copy_options::overwrite_existing);
  const auto theirs = folder.write("theirs/results.sqlite", input);
  for (const char* log : {"-wal", "-shm", "-journal"}) fs::remove(theirs.string() + log);
  dkdm::fuzz::accepted(
      [&] { dkdm::results::merge_database(ours, folder.path() / "root", theirs); });
}
