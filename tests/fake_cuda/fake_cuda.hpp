// What a test tells libfake-cuda.so: NVRTC and the CUDA driver as core/cuda uses them, for machines
// without a GPU. The compiler that built the tests compiles a kernel, and a launch runs its threads
// one after another.
#pragma once

extern "C" {

// Turns a device address that a kernel was given into one that the host can use; null = it is one.
using FakeCudaReadable = void* (*)(const void* device_address);

enum class FakeCudaFault {
  none,
  rounds_otherwise,    // a product has another last bit now and then
  refuses_code,        // the driver does
  refuses_to_compile,  // NVRTC does
};

// By dlsym, under these names.
void fake_cuda_serve(FakeCudaReadable readable, FakeCudaFault fault);
int fake_cuda_launches();  // so far
}
