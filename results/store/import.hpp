// A database that anybody may have made, as one that is ours. Internal to results/.
#pragma once

#include <filesystem>

namespace dkdm::results {

// Whether the file begins as a SQLite database. Throws DataError when it cannot be read.
bool is_database(const std::filesystem::path& file);

// Writes the facts of `file`, of the present or an earlier schema, to a new database `copy` of the
// present one. `file` is opened for reading alone. Of it the known columns of the known tables are
// read, by fixed names; its views, triggers, indexes, constraints and computed columns are never
// used, and nothing else of it is looked at. `unpacked_from`: the archive that it was in, by which
// errors name it; nobody else has such a file open, and what lies beside it (a log, a journal) is
// not looked at either. Paths to artifacts must lie in the store. Throws StoreError, DataError;
// `copy` is then gone.
void import_database(const std::filesystem::path& file, const std::filesystem::path& copy,
                     const std::filesystem::path& unpacked_from = {});

}  // namespace dkdm::results
