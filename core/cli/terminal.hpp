// What the terminal behind stdout can do.
#pragma once

namespace dkdm::cli {

// Whether stdout shows colours to a person who has not refused them (NO_COLOR set to anything).
bool stdout_has_colour();

// Whether stdout may get more than ASCII: files and pipes are UTF-8, a terminal says by its locale.
bool stdout_is_utf8();

// Width of the terminal that stdout is, in characters; 0 = it is none, or does not say.
int stdout_columns();

}  // namespace dkdm::cli
