// Files, folders and disks that cannot be used: each gives one clear StoreError, and what was
// recorded before stays.
#include <sched.h>
#include <signal.h>
#include <sqlite3.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <catch2/catch.hpp>

#include <chrono>
#include <functional>
#include <thread>

#include "dkdm/store_error.hpp"
#include "results/query/query.hpp"
#include "results/query/runs.hpp"
#include "results/store/database.hpp"
#include "results_support.hpp"

using namespace dkdm;
using namespace dkdm::results;
using namespace dkdm::results::testing;

namespace {

void execute(const std::filesystem::path& file, const std::string& sql) {
  sqlite3* db = nullptr;
  REQUIRE(sqlite3_open(file.c_str(), &db) == SQLITE_OK);
  REQUIRE(sqlite3_exec(db, sql.c_str(), nullptr, nullptr, nullptr) == SQLITE_OK);
  sqlite3_close(db);
}

// "CODE MESSAGE" of the StoreError that f ends with; "none" without one.
std::string failure(const std::function<void()>& f) {
  try {
    f();
  } catch (const StoreError& error) {
    return std::to_string(error.sqlite_code() & 0xff) + " " + error.what();
  }
  return "none";
}

// Runs f in a child process, where limits and identity may be changed, and returns its text.
std::string in_child(const std::function<std::string()>& f) {
  int ends[2];
  REQUIRE(pipe(ends) == 0);
  const pid_t child = fork();
  if (child == 0) {
    std::string text;
    try {
      text = f();
    } catch (const std::exception& error) {
      text = std::string("unexpected: ") + error.what();
    }
    const bool sent = write(ends[1], text.data(), text.size()) >= 0;
    _exit(sent ? 0 : 1);
  }
  close(ends[1]);
  std::string text(8192, '\0');
  text.resize(std::max<ssize_t>(0, read(ends[0], text.data(), text.size())));
  close(ends[0]);
  int status = 0;
  waitpid(child, &status, 0);
  CHECK(status == 0);
  return text;
}

// Records runs until it fails, at most a thousand.
std::string fill_until_failure(Store& store) {
  return failure([&] {
    for (int i = 0; i < 1000; ++i) {
      auto run = a_run("row" + std::to_string(i));
      run.config = std::string(4000, 'x');
      add_finished(store, run, {a_metric("fid", i)});
    }
  });
}

// Root may write anywhere, so permissions are tried as the user nobody.
bool become_plain_user() { return getuid() != 0 || (setgid(65534) == 0 && setuid(65534) == 0); }

std::string integrity(const std::filesystem::path& file) {
  sqlite3* db = nullptr;
  sqlite3_open(file.c_str(), &db);
  std::string answer;
  sqlite3_exec(
      db, "PRAGMA integrity_check",
      [](void* out, int, char** values, char**) {
        *static_cast<std::string*>(out) += values[0];
        return 0;
      },
      &answer, nullptr);
  sqlite3_close(db);
  return answer;
}

}  // namespace

TEST_CASE("store: a database of a newer version is refused, named and left alone",
          "[robustness][results]") {
  TempFolder folder;
  const auto file = folder / "r.sqlite";
  {
    Store store(file);
  }
  const auto next = std::to_string(kSchemaVersion + 1);
  execute(file, ("PRAGMA user_version = " + next).c_str());
  const auto before = read_file(file);
  for (const auto& message :
       {failure([&] { Store store(file); }), failure([&] { query(file, "SELECT 1"); })}) {
    INFO(message);
    CHECK(contains(message, file.string()));
    CHECK(contains(message, "version " + next));
    CHECK(contains(message, "this dkdm knows version " + std::to_string(kSchemaVersion)));
    CHECK(contains(message, "update dkdm"));
  }
  CHECK(read_file(file) == before);
}

TEST_CASE("store: another program's database is refused and left alone", "[robustness][results]") {
  TempFolder folder;
  const auto file = folder / "r.sqlite";
  execute(file, "CREATE TABLE bookmarks (url)");
  const auto before = read_file(file);
  CHECK(contains(failure([&] { Store store(file); }), "another program"));
  CHECK(read_file(file) == before);
}

TEST_CASE("store: a file that is no database, a folder, a missing file are named",
          "[robustness][results]") {
  TempFolder folder;
  const auto file = folder / "notes.txt";
  write_file(file, std::string(5000, 'n'));
  const auto message = failure([&] { Store store(file); });
  CHECK(contains(message, "26 " + file.string() + ": not a SQLite database"));  // SQLITE_NOTADB
  CHECK(read_file(file) == std::string(5000, 'n'));
  CHECK(contains(failure([&] { Store store(folder.path()); }), "is a folder"));
  CHECK(contains(failure([&] { runs_list(folder / "absent.sqlite"); }), "no such file"));
  CHECK_FALSE(std::filesystem::exists(folder / "absent.sqlite"));
  write_file(folder / "plain", "");
  CHECK(contains(failure([&] { Store store(folder / "plain/sub/r.sqlite"); }),
                 "folder cannot be made"));
}

TEST_CASE("store: damaged pages are reported as damage", "[robustness][results]") {
  TempFolder folder;
  const auto file = folder / "r.sqlite";
  {
    Store store(file);
    add_finished(store, a_run("dynamic"), {a_metric("fid", 1)});
  }
  auto bytes = read_file(file);
  for (std::size_t i = 4096; i < bytes.size(); ++i) bytes[i] = '\x5a';  // all but the first page
  write_file(file, bytes);
  const auto message = failure([&] { Store store(file); });
  CHECK(contains(message, "11 " + file.string() + ": damaged"));  // SQLITE_CORRUPT
}

TEST_CASE("store: a lock that another process keeps is reported after the timeout",
          "[robustness][results]") {
  TempFolder folder;
  const auto file = folder / "r.sqlite";
  Store store(file, 50);
  sqlite3* other = nullptr;
  REQUIRE(sqlite3_open(file.c_str(), &other) == SQLITE_OK);
  REQUIRE(sqlite3_exec(other, "BEGIN IMMEDIATE", nullptr, nullptr, nullptr) == SQLITE_OK);
  const auto message = failure([&] { store.begin_run(a_run("dynamic"), an_environment(), {}); });
  CHECK(contains(message, "5 " + file.string() + ": locked by another process"));  // SQLITE_BUSY
  CHECK(contains(failure([&] { Store second(file, 50); }), "locked"));
  CHECK(runs_list(file).rows.empty());  // readers do not wait
  sqlite3_close(other);
  CHECK(failure([&] { store.begin_run(a_run("dynamic"), an_environment(), {}); }) == "none");
}

TEST_CASE("store: a lock that is given back in time is waited for", "[robustness][results]") {
  TempFolder folder;
  const auto file = folder / "r.sqlite";
  Store store(file, 20'000);
  sqlite3* other = nullptr;
  REQUIRE(sqlite3_open(file.c_str(), &other) == SQLITE_OK);
  REQUIRE(sqlite3_exec(other, "BEGIN EXCLUSIVE", nullptr, nullptr, nullptr) == SQLITE_OK);
  std::thread holder([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
    sqlite3_exec(other, "COMMIT", nullptr, nullptr, nullptr);
  });
  const auto begun = std::chrono::steady_clock::now();
  CHECK(failure([&] { add_finished(store, a_run("dynamic"), {a_metric("fid", 1)}); }) == "none");
  CHECK(std::chrono::steady_clock::now() - begun > std::chrono::milliseconds(200));
  holder.join();
  sqlite3_close(other);
  CHECK(runs_list(file).rows.size() == 1);
}

TEST_CASE("store: a folder that cannot be written refuses the writer and serves the reader",
          "[robustness][results]") {
  TempFolder folder;
  const auto file = folder / "r?%.sqlite";  // characters that a URI would swallow
  {
    Store store(file);
    add_finished(store, a_run("dynamic"), {a_metric("fid", 1)});
  }
  chmod(file.c_str(), 0444);
  chmod(folder.path().c_str(), 0555);
  const auto text = in_child([&] {
    if (!become_plain_user()) return std::string("cannot drop privileges");
    return failure([&] { Store store(file); }) + "\n" +
           failure([&] { Store store(folder / "new.sqlite"); }) + "\n" +
           failure([&] { Store store(folder / "sub/new.sqlite"); }) + "\n" +
           runs_list(file).render(Format::csv);
  });
  chmod(folder.path().c_str(), 0755);
  INFO(text);
  CHECK(contains(text, "8 " + file.string() + ": cannot be written"));  // SQLITE_READONLY
  CHECK(contains(text, "new.sqlite: cannot be opened: Permission denied"));
  CHECK(contains(text, "sub/new.sqlite: its folder cannot be made: Permission denied"));
  CHECK(contains(text, "1,desk,dynamic,0,done,"));
}

TEST_CASE("store: a full disk is said, and all that was recorded is there",
          "[robustness][results]") {
  TempFolder folder;
  const auto text = in_child([&]() -> std::string {
    // A disk of one MiB that only this process sees.
    if (unshare(getuid() == 0 ? CLONE_NEWNS : CLONE_NEWUSER | CLONE_NEWNS) != 0 ||
        mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        mount("none", folder.path().c_str(), "tmpfs", 0, "size=1m") != 0) {
      return "cannot mount";
    }
    const auto file = folder / "r.sqlite";
    Store store(file);
    const auto message = fill_until_failure(store);
    const auto done = query(file, "SELECT count(*) FROM run_status WHERE status = 'done'");
    const auto whole = query(file, "SELECT count(DISTINCT run) FROM metrics");
    return message + "\n" + *done.rows[0][0].text + " done, " + *whole.rows[0][0].text +
           " with metrics, " + integrity(file);
  });
  INFO(text);
  if (text == "cannot mount") {
    WARN("skipped: this system does not let a test mount a small disk");
    return;
  }
  CHECK(contains(text, "13 "));  // SQLITE_FULL
  CHECK(contains(text, "the disk is full"));
  CHECK_FALSE(contains(text, "\n0 done"));
  CHECK(contains(text, "ok"));
}

TEST_CASE("store: a file size limit is said, and all that was recorded is there",
          "[robustness][results]") {
  TempFolder folder;
  const auto file = folder / "r.sqlite";
  const auto text = in_child([&] {
    signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{1024 * 1024, 1024 * 1024};
    setrlimit(RLIMIT_FSIZE, &limit);
    Store store(file);
    return fill_until_failure(store);
  });
  INFO(text);
  CHECK(contains(text, "10 " + file.string()));  // SQLITE_IOERR
  CHECK(contains(text, "a file size limit"));
  CHECK(integrity(file) == "ok");
  Store again(file);
  CHECK(runs_list(file).rows.size() > 5);
  CHECK(failure([&] { add_finished(again, a_run("after"), {}); }) == "none");
}
