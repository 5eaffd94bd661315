// What the terminal behind stdout can do.
#pragma once

#include <filesystem>
#include <string>

namespace dkdm::cli {

// Whether stdout shows colours to a person who has not refused them (NO_COLOR set to anything).
bool stdout_has_colour();

// Whether stdout may get more than ASCII: files and pipes are UTF-8, a terminal says by its locale.
bool stdout_is_utf8();

// Prints text that a file holds, as it is; to a terminal without what would move its cursor.
void print_exactly(const std::string& text);

// Says where a command's result was written; nothing where that was a device or an open file, whose
// content it would become part of.
void print_written(const std::filesystem::path& file);

// How wide text on stdout may be, in characters: what COLUMNS in the environment says, else the
// terminal's width (80 where it does not say). 0 = without limit: a file or a pipe, where other
// programs read whole lines.
int stdout_columns();

// Lines of the terminal that stdout is; 24 where it does not say.
int stdout_rows();

}  // namespace dkdm::cli
