// Databases and archives that somebody made to harm: nothing in them runs, nothing of ours changes.
#include <archive.h>
#include <archive_entry.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <catch2/catch.hpp>

#include <functional>

#include "artifact_support.hpp"
#include "results/admin/check.hpp"
#include "results/admin/export.hpp"
#include "results/admin/info.hpp"
#include "results/admin/merge.hpp"
#include "results/query/query.hpp"
#include "results/query/runs.hpp"
#include "results/report/report_compare.hpp"

using namespace dkdm;
using namespace dkdm::results;
using namespace dkdm::results::testing;
using Catch::Contains;

namespace {

namespace fs = std::filesystem;

// A count that never ends.
const std::string kEndless =
    "(WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n)";

void change(const fs::path& file, const std::string& sql) {
  sqlite3* db = nullptr;
  REQUIRE(sqlite3_open(file.c_str(), &db) == SQLITE_OK);
  char* message = nullptr;
  const int code = sqlite3_exec(db, sql.c_str(), nullptr, nullptr, &message);
  INFO(sql << ": " << (message ? message : ""));
  REQUIRE(code == SQLITE_OK);
  sqlite3_close(db);
}

std::string value(const fs::path& file, const std::string& sql) {
  return query(file, sql).rows.at(0).at(0).text.value_or("NULL");
}

struct Home {
  TempFolder folder;
  fs::path root = folder.path(), database = root / "results.sqlite";

  // With one finished run of seed `seed`.
  explicit Home(std::int64_t seed) {
    Store store(database);
    add_made(store, root, "dynamic", seed, 9);
  }
};

// A file of an earlier schema in a folder of its own, changed by `sql`.
fs::path earlier(const TempFolder& folder, const std::string& version, const std::string& sql) {
  const auto copy = folder / ("v" + version + ".sqlite");
  fs::copy_file(fs::path(DKDM_SOURCE_DIR "/tests/fixtures/databases") / ("v" + version + ".sqlite"),
                copy);
  change(copy, sql);
  return copy;
}

struct Entry {
  std::string name, content;
  std::function<void(archive_entry*)> change = {};
};

fs::path tar(const TempFolder& folder, const std::vector<Entry>& entries, bool packed = false) {
  const auto file = folder / "x.tar";
  archive* out = archive_write_new();
  archive_write_set_format_pax(out);
  if (packed) archive_write_add_filter_gzip(out);
  archive_write_open_filename(out, file.c_str());
  for (const auto& entry : entries) {
    archive_entry* header = archive_entry_new();
    archive_entry_set_pathname(header, entry.name.c_str());
    archive_entry_set_size(header, static_cast<la_int64_t>(entry.content.size()));
    archive_entry_set_filetype(header, AE_IFREG);
    archive_entry_set_perm(header, 0644);
    if (entry.change) entry.change(header);
    archive_write_header(out, header);
    archive_write_data(out, entry.content.data(), entry.content.size());
    archive_entry_free(header);
  }
  archive_write_free(out);
  return file;
}

}  // namespace

TEST_CASE("foreign: names of an earlier file's tables, views and triggers never become statements",
          "[robustness][results]") {
  TempFolder folder;
  const auto made = (folder / "made.sqlite").string();
  const std::string attack =
      "a\"\" ; ATTACH '" + made + "' AS m; CREATE TABLE m.t (x); DELETE FROM main.runs; --";
  const std::string sql =
      GENERATE(std::string("CREATE TABLE a (x); CREATE TABLE \"{}\" (x)"),
               std::string("CREATE VIEW a AS SELECT 1; CREATE VIEW \"{}\" AS SELECT 1"),
               std::string("CREATE INDEX a ON runs (row); CREATE INDEX \"{}\" ON runs (row)"),
               std::string("CREATE TRIGGER a AFTER INSERT ON runs BEGIN SELECT 1; END; "
                           "CREATE TRIGGER \"{}\" AFTER INSERT ON runs BEGIN SELECT 1; END"));
  auto filled = sql;
  filled.replace(filled.find("{}"), 2, attack);
  const auto file = earlier(folder, "2", filled);

  INFO("merged into ours");
  Home ours(0);
  merge_database(ours.database, ours.root, file);
  CHECK(value(ours.database,
              "SELECT count(*) FROM runs WHERE experiment = (SELECT id FROM "
              "experiments WHERE name = 'desk')") == "1");
  CHECK(value(ours.database, "SELECT count(*) FROM runs") == "6");
  CHECK_FALSE(fs::exists(made));

  INFO("and as our own, migrated");
  if (sql.find("TRIGGER") == std::string::npos) {
    Store store(file);
    CHECK(value(file, "SELECT count(*) FROM runs") == "5");
    CHECK_NOTHROW(store_info(file));
  } else {
    CHECK_THROWS_WITH(Store(file), Contains("trigger 'a'") && Contains("drop it"));
  }
  CHECK_FALSE(fs::exists(made));
}

TEST_CASE("foreign: triggers, views and indexes of a merged file are not looked at",
          "[robustness][results]") {
  Home ours(0), theirs(1);
  change(theirs.database,
         "CREATE TRIGGER x AFTER INSERT ON runs BEGIN DELETE FROM runs; END;"
         "DROP VIEW run_status; CREATE VIEW run_status AS SELECT " +
             kEndless +
             " AS run;"
             "CREATE VIEW other AS SELECT " +
             kEndless);
  const auto report = merge_database(ours.database, ours.root, theirs.root);
  CHECK(report.damaged.empty());
  CHECK(value(ours.database, "SELECT count(*) FROM runs") == "2");
  CHECK(value(ours.database, "SELECT count(*) FROM sqlite_schema WHERE name IN ('x', 'other')") ==
        "0");
  CHECK(value(ours.database, "SELECT count(*) FROM run_status") == "2");

  INFO("nor when it is compared with");
  CHECK(compare_reports(ours.database, {}, {}, theirs.database, {}).compared == 1);
}

TEST_CASE("foreign: a table that is not what it is called is refused before anything changes",
          "[robustness][results]") {
  const auto [sql, reason] = GENERATE(table<std::string, std::string>({
      {"DROP TABLE curves; CREATE VIEW curves AS SELECT 'k' AS stage_key, 'loss' AS name, 1 AS step, " +
           kEndless + " AS value",
       "it has no table curves"},
      {"DROP TABLE curves; CREATE TABLE curves (stage_key, name, step, value AS (hex(zeroblob(1000))))",
       "column value of table curves is computed"},
      {"DROP TABLE curves; CREATE TABLE curves (stage_key, name, step)",
       "table curves has no column value"},
      {"DROP TABLE curves", "it has no table curves"},
      {"UPDATE stages SET artifact = '../../../etc' WHERE name = 'train'",
       "leads out of the artifact store"},
      {"UPDATE stages SET artifact = '/etc' WHERE name = 'train'",
       "leads out of the artifact store"},
      {"UPDATE stages SET key = '..' WHERE name = 'train'", "leads out of the artifact store"},
      {"PRAGMA foreign_keys = OFF; DELETE FROM experiments", "that is not there"},
      {"DROP TABLE published; CREATE TABLE published (section, row, metric, value); "
       "INSERT INTO published VALUES ('a', 'b', 'c', 'no number')",
       "cannot store TEXT value in REAL column"},
      {"PRAGMA user_version = 99", "schema version 99"},
      {"PRAGMA application_id = 7", "another program"},
  }));
  INFO(sql);
  Home ours(0), theirs(1);
  change(theirs.database, sql);
  const auto before = read_file(ours.database);
  CHECK_THROWS_WITH(merge_database(ours.database, ours.root, theirs.root), Contains(reason));
  CHECK(value(ours.database, "SELECT count(*) FROM runs") == "1");
  CHECK_FALSE(fs::exists(ours.root / "artifacts/train/traindynamic1"));
  CHECK(fs::is_empty(ours.root / "work"));
}

TEST_CASE("foreign: keys of an earlier file that name each other again and again come to an end",
          "[robustness][results]") {
  TempFolder folder;
  // 40 parts at each of 8 levels: 40^8 texts, were each followed.
  const auto file = earlier(
      folder, "3",
      "WITH RECURSIVE level(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM level WHERE i < 8), "
      "part(j) AS (SELECT 0 UNION ALL SELECT j + 1 FROM part WHERE j < 39) "
      "INSERT INTO determinants SELECT 'k' || i, 'part' || j, j, 'k' || (i + 1) FROM level, part;"
      "UPDATE stages SET key = 'k0' WHERE name = 'sample'");
  Home ours(0);
  merge_database(ours.database, ours.root, file);
  CHECK(value(ours.database, "SELECT count(*) FROM runs") == "7");
}

TEST_CASE("foreign: a pipe in the place of a database or archive is refused",
          "[robustness][results]") {
  Home ours(0);
  for (const char* name : {"x.sqlite", "x.tar"}) {
    const auto pipe = ours.root / name;
    REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
    CHECK_THROWS_WITH(merge_database(ours.database, ours.root, pipe), Contains("is a pipe"));
    CHECK_THROWS_WITH(compare_reports(ours.database, {}, {}, pipe, {}), Contains("is a pipe"));
    CHECK_THROWS_WITH(runs_list(pipe), Contains("is not a regular file"));
  }
}

TEST_CASE("own: views that are not the schema's are not read, and made anew by what writes",
          "[robustness][results]") {
  Home home(0);
  change(home.database, "DROP VIEW run_status; CREATE VIEW run_status AS SELECT " + kEndless +
                            " AS run;"
                            "CREATE VIEW mine AS SELECT count(*) AS n FROM runs");
  CHECK_THROWS_WITH(runs_list(home.database), Contains("db migrate"));
  {
    Store store(home.database);
  }
  CHECK(runs_list(home.database).rows.size() == 1);
  CHECK(value(home.database, "SELECT n FROM mine") == "1");  // the person's own stays

  change(home.database, "CREATE TRIGGER gone AFTER INSERT ON attempts BEGIN DELETE FROM runs; END");
  CHECK_THROWS_WITH(Store(home.database), Contains("trigger 'gone'"));
  CHECK_THROWS_WITH(runs_list(home.database), Contains("trigger 'gone'"));
}

TEST_CASE("query: one without end is stopped by time, by a signal, and by the size of its answer",
          "[robustness][results]") {
  Home home(0);
  CHECK_THROWS_WITH(query(home.database, "SELECT " + kEndless, {.seconds = 0.05}),
                    Contains("stopped after 0.05 s") && Contains("--time-limit"));
  const std::atomic<bool> stop{true};
  CHECK_THROWS_AS(query(home.database, "SELECT " + kEndless, {.seconds = 0, .stop = &stop}),
                  Interrupted);
  CHECK_THROWS_WITH(
      query(home.database,
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n",
            {.bytes = 1 << 20}),
      Contains("more than 1 MiB"));
  CHECK(value(home.database, "SELECT 1") == "1");
}

TEST_CASE("query: what is sorted or joined is limited too, and leaves no files",
          "[robustness][results]") {
  Home home(0);
  const std::string rows =
      "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300000) ";
  CHECK_THROWS_WITH(query(home.database,
                          rows + "SELECT max(i) FROM (SELECT i, printf('%0500d', i) AS t FROM n "
                                 "ORDER BY t DESC LIMIT 200000) WHERE t <> ''",
                          {.bytes = 8 << 20}),
                    Contains("sorting or joining takes more than 8 MiB"));
  CHECK(value(home.database, rows + "SELECT count(DISTINCT i) FROM n") == "300000");
}

// Of a table's only row, whose text is long, seven more with the same text: pages that are linked
// to often.
void multiply_long_row(const fs::path& file, const std::string& table) {
  const auto root =
      std::stoul(value(file, "SELECT rootpage FROM sqlite_schema WHERE name = '" + table + "'"));
  auto bytes = read_file(file);
  constexpr std::size_t kPage = 4096, kLocal = 489, kCell = 3 + 1 + kLocal + 4;
  REQUIRE(bytes.substr(16, 2) == std::string("\x10\0", 2));  // the page size, in the file's header
  auto* const page = reinterpret_cast<unsigned char*>(bytes.data()) + (root - 1) * kPage;
  REQUIRE(page[0] == 0x0d);  // a leaf
  REQUIRE((page[3] << 8 | page[4]) == 1);
  const std::string cell(reinterpret_cast<char*>(page) + (page[8] << 8 | page[9]), kCell);
  constexpr int kCopies = 8;
  for (int i = 0; i < kCopies; ++i) {
    const auto at = kPage - kCell * static_cast<std::size_t>(i + 1);
    std::copy(cell.begin(), cell.end(), page + at);
    page[at + 3] =
        static_cast<unsigned char>(kCopies - i);  // its rowid; cells are in the order of them
    const auto slot = 8 + 2 * static_cast<std::size_t>(kCopies - 1 - i);
    page[slot] = static_cast<unsigned char>(at >> 8);
    page[slot + 1] = static_cast<unsigned char>(at & 0xff);
    page[5] = page[slot];  // where cells begin
    page[6] = page[slot + 1];
  }
  page[4] = kCopies;
  write_file(file, bytes);
}

TEST_CASE("foreign: a file whose rows share their pages is refused where it gives more than it has",
          "[robustness][results]") {
  Home theirs(1);
  // A record of 489 + 250 * 4092 bytes, of which a page holds 489
  // (https://sqlite.org/fileformat2.html, 1.6).
  change(theirs.database,
         "PRAGMA journal_mode = DELETE; INSERT INTO pins VALUES (1, "
         "replace(hex(zeroblob(511737)), '0', 'n'), 1.5, '')");
  multiply_long_row(theirs.database, "pins");
  REQUIRE(fs::file_size(theirs.database) < 4'000'000);
  Home ours(0);
  CHECK_THROWS_WITH(merge_database(ours.database, ours.root, theirs.database),
                    Contains("damaged: table pins holds more than the file has bytes for"));
  CHECK(value(ours.database, "SELECT count(*) FROM runs") == "1");
}

TEST_CASE("archive: what `runs export` would not write is refused", "[robustness][results]") {
  const auto link = [](archive_entry* entry) {
    archive_entry_set_filetype(entry, AE_IFLNK);
    archive_entry_set_symlink(entry, "/etc");
  };
  const auto hard = [](archive_entry* entry) { archive_entry_set_hardlink(entry, "/etc/passwd"); };
  const auto device = [](archive_entry* entry) { archive_entry_set_filetype(entry, AE_IFCHR); };
  const auto pipe = [](archive_entry* entry) { archive_entry_set_filetype(entry, AE_IFIFO); };
  const auto holes = [](archive_entry* entry) {
    archive_entry_set_size(entry, la_int64_t{1} << 50);
    archive_entry_sparse_add_entry(entry, 0, 1);
  };
  const std::vector<std::pair<std::vector<Entry>, std::string>> cases = {
      {{{"../x", "1"}}, "leads out"},
      {{{"artifacts/train/k/../../../../x", "1"}}, "leads out"},
      {{{"/tmp/dkdm-x", "1"}}, "leads out"},
      {{{"artifacts/train/k/w", "", link}}, "is a link"},
      {{{"artifacts/train/k/w", "", hard}}, "is a link"},
      {{{"artifacts/train/k/w", "", device}}, "is a link or leads out"},
      {{{"artifacts/train/k/w", "", pipe}}, "is a link or leads out"},
      {{{"results.sqlite-wal", "1"}}, "is not known"},
      {{{"artifacts/x.so", "1"}}, "is not known"},
      {{{"artifacts/train/k/a\nb", "1"}}, "impossible name"},
      {{{"config.toml", "1"}, {"./config.toml", "2"}}, "is there twice"},
      {{{"results.sqlite", "1", holes}}, "promises more bytes"},
      {{{"config.toml", "1"}}, "results.sqlite"}};  // holds none
  for (const auto& [entries, reason] : cases) {
    INFO(entries.front().name << ": " << reason);
    Home ours(0);
    CHECK_THROWS_WITH(merge_database(ours.database, ours.root, tar(ours.folder, entries)),
                      Contains(reason));
    CHECK(value(ours.database, "SELECT count(*) FROM runs") == "1");
    CHECK(fs::is_empty(ours.root / "work"));
    CHECK_FALSE(fs::exists("/tmp/dkdm-x"));
  }
  Home ours(0);
  CHECK_THROWS_WITH(
      merge_database(ours.database, ours.root, tar(ours.folder, {{"config.toml", "1"}}, true)),
      Contains("uncompressed tar"));
}

TEST_CASE(
    "foreign: an artifact whose manifest names other places, or is no document, is not copied",
    "[robustness][results]") {
  Home theirs(1);
  const auto manifest = theirs.root / "artifacts/train/traindynamic1/manifest.json";
  const auto text = read_file(manifest);
  const auto replaced = [&](const std::string& from, const std::string& to) {
    auto other = text;
    other.replace(other.find(from), from.size(), to);
    return other;
  };
  write_file(theirs.root / "secret", "w");
  for (const auto& content :
       {replaced("deep/data.bin", "../../../secret"), replaced("deep/data.bin", "/etc/passwd"),
        std::string(1'000'000, '['), replaced("\"files\"", "\"a\": " + std::string(1000, '['))}) {
    write_file(manifest, content);
    Home ours(0);
    const auto report = merge_database(ours.database, ours.root, theirs.root);
    REQUIRE(report.damaged.size() == 1);
    CHECK_THAT(report.damaged[0], Contains("traindynamic1") && Contains("manifest cannot be read"));
    CHECK_FALSE(fs::exists(ours.root / "artifacts/train/traindynamic1"));
  }
  fs::remove(manifest);
  REQUIRE(::mkfifo(manifest.c_str(), 0600) == 0);  // nobody would ever write into it
  Home ours(0);
  CHECK(merge_database(ours.database, ours.root, theirs.root).damaged.size() == 1);
  CHECK_FALSE(check_database(theirs.database, theirs.root, {.hash = true}).sound());
}

TEST_CASE("foreign: what a run's record says becomes no command, no markup and no terminal's",
          "[robustness][results]") {
  TempFolder folder;
  const auto file = folder / "r.sqlite";
  Store store(file);
  auto run = a_run("x; touch /tmp/owned #");
  run.label = "\x1b]0;owned\x07<script>alert(1)</script>";
  run.config = "# \x1b[2J\n[train]\nsteps = 1\n";
  const auto id = add_finished(store, run, {a_metric("fid", 1)});
  const auto detail = run_detail(file, id);
  CHECK_THAT(detail.repeat, Contains("--rows 'x; touch /tmp/owned #' --seeds 0"));
  const auto shown = detail.render(Format::text, /*colour=*/false, 0);
  CHECK(shown.find('\x1b') == std::string::npos);
  CHECK(shown.find('\x07') == std::string::npos);

  auto evaluated = a_run("samples");
  evaluated.config =
      "[evaluation]\ncommand = \"dkdm eval a.npz $(touch /tmp/owned) 'b c'; rm -rf ~\"\n";
  const auto second = add_finished(store, evaluated, {a_metric("fid", 1)});
  CHECK(run_detail(file, second).repeat ==
        "dkdm eval a.npz '$(touch' '/tmp/owned)' 'b c;' rm -rf '~'\n");
  auto other = a_run("samples", 1);
  other.config = "[evaluation]\ncommand = \"rm -rf /\"\n";
  CHECK_THAT(run_detail(file, add_finished(store, other, {a_metric("fid", 1)})).repeat,
             Contains("dkdm runs show") && !Contains("rm -rf"));
}
