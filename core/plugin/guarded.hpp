// Objects of plugins as the host holds them: each call of an interface crosses the boundary in the
// plugin's name (plugin/call.hpp), whoever makes it, so that one that dies or throws is always
// named.
#pragma once

#include <memory>
#include <string>

#include "dkdm/autoencoder.hpp"
#include "dkdm/dataset.hpp"
#include "dkdm/evaluator.hpp"
#include "dkdm/method.hpp"
#include "dkdm/teacher.hpp"

namespace dkdm::plugin {

// What it returns is checked: f32 of the shape that it says, where the input is, the input as it
// was; else PluginError. With its weights it is in evaluation mode, and none asks for a gradient.
std::shared_ptr<Autoencoder> guarded(std::shared_ptr<Autoencoder> made, const std::string& plugin);
std::shared_ptr<Dataset> guarded(std::shared_ptr<Dataset> made, const std::string& plugin);
std::shared_ptr<Evaluator> guarded(std::shared_ptr<Evaluator> made, const std::string& plugin);
std::shared_ptr<Method> guarded(std::shared_ptr<Method> made, const std::string& plugin);
// A teacher that states its weights (dkdm/weights_kind.hpp) still does.
std::shared_ptr<Teacher> guarded(std::shared_ptr<Teacher> made, const std::string& plugin);

}  // namespace dkdm::plugin
