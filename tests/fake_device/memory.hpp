// The fake device's memory: one file in memory, mapped twice. What tensors say is their data is in
// the mapping without access; kernels go through the other one, a constant away.
#pragma once

#include <c10/core/Allocator.h>
#include <c10/core/Storage.h>

#include <cstddef>

namespace fake_device {

// The readable address of device memory; of null, null.
void* readable(const void* device_address);

c10::Allocator* device_allocator();

// Gives `storage` (of the device) `bytes`, keeping the content that fits.
void resize_storage(c10::StorageImpl& storage, std::size_t bytes);

c10::Allocator* pinned_allocator();
bool is_pinned(const void* host_address);

}  // namespace fake_device
