// What the terminal behind stdout can do.
#pragma once

namespace dkdm::cli {

// Whether stdout shows colours to a person who has not refused them (NO_COLOR set to anything).
bool stdout_has_colour();

}  // namespace dkdm::cli
