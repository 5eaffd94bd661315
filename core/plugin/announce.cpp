#include "plugin/announce.hpp"

#include "dkdm/boundary.hpp"
#include "plugin/call.hpp"

namespace dkdm::plugin {

Announced announced(const Registry& registry, const PluginChoice& choice) {
  Announced said;
  const auto announce = registry.find(choice.kind, choice.name).table->announce;
  if (announce)
    call(choice.name, "announce", Care::process, [&] { announce(choice.params, said); });
  return said;
}

}  // namespace dkdm::plugin
