#include "device/environment.hpp"

#include "device/choice.hpp"
#include "record/environment.hpp"

namespace dkdm::device {

record::EnvironmentRecord environment(at::Device device) {
  static const record::EnvironmentRecord kMachine = record::current_environment();
  record::EnvironmentRecord here = kMachine;
  here.device = device.str();
  if (device.is_cpu()) return here;  // whose operators all repeat
  const auto about = describe(device);
  if (!about.name.empty()) here.gpu = about.name;
  here.driver = about.driver;
  here.repeatable = is_repeatable();
  return here;
}

}  // namespace dkdm::device
