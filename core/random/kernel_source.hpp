// plain_fill.cpp as CUDA C++, compiled where it runs. A thread makes one Philox block. Every
// operation rounds for itself (__fmul_rn, __fadd_rn: no compiler contracts them).
#pragma once

namespace dkdm::random {

inline constexpr const char* kKernelSource = R"cuda(
typedef unsigned int Word;
typedef long long Index;

constexpr int kLanes = 16;

struct Block {
  Word c0, c1, c2, c3;
};

__device__ inline Block philox(Block c, Word key0, Word key1) {
  for (int round = 0; round < 10; ++round) {
    const Word high0 = __umulhi(0xD2511F53u, c.c0), low0 = 0xD2511F53u * c.c0;
    const Word high1 = __umulhi(0xCD9E8D57u, c.c2), low1 = 0xCD9E8D57u * c.c2;
    c = Block{high1 ^ c.c1 ^ key0, low1, high0 ^ c.c3 ^ key1, low0};
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  return c;
}

__device__ inline float times(float a, float b) { return __fmul_rn(a, b); }
__device__ inline float plus(float a, float b) { return __fadd_rn(a, b); }
// sum * x + coefficient
__device__ inline float horner(float sum, float x, float coefficient) {
  return plus(times(sum, x), coefficient);
}

__device__ inline float radius(Word word) {
  const float u = times(plus(__int2float_rn((int)(word >> 1)), 0.5f), 0x1p-31f);
  const int bits = __float_as_int(u);
  const int exponent = (bits - 0x3f3504f3) >> 23;
  const float f = plus(__int_as_float(bits - exponent * 0x800000), -1.0f);
  const float e = __int2float_rn(exponent);
  const float z = times(f, f);
  float p = 7.0376836292e-2f;
  p = horner(p, f, -1.1514610310e-1f);
  p = horner(p, f, 1.1676998740e-1f);
  p = horner(p, f, -1.2420140846e-1f);
  p = horner(p, f, 1.4249322787e-1f);
  p = horner(p, f, -1.6668057665e-1f);
  p = horner(p, f, 2.0000714765e-1f);
  p = horner(p, f, -2.4999993993e-1f);
  p = horner(p, f, 3.3333331174e-1f);
  float y = times(times(p, f), z);
  y = plus(y, times(e, -2.12194440e-4f));
  y = plus(y, -times(0.5f, z));
  const float log_u = plus(plus(f, y), times(e, 0.693359375f));
  const float square = times(-2.0f, log_u);
  return __fsqrt_rn(square > 0.0f ? square : 0.0f);
}

__device__ inline void direction(Word word, float& cosine, float& sine) {
  const int offset = (int)(word & 0x3fffffffu) - 0x20000000;
  const float x = times(__int2float_rn(offset), 0.78539816339744831f * 0x1p-29f);
  const float z = times(x, x);
  float s = horner(-1.9515295891e-4f, z, 8.3321608736e-3f);
  s = horner(s, z, -1.6666654611e-1f);
  s = plus(times(times(s, z), x), x);
  float c = horner(2.443315711809948e-5f, z, -1.388731625493765e-3f);
  c = horner(c, z, 4.166664568298827e-2f);
  c = plus(plus(times(times(c, z), z), -times(0.5f, z)), 1.0f);
  const bool odd = (word >> 30) & 1u;
  const Word cosine_sign = (word ^ (word << 1)) & 0x80000000u, sine_sign = word & 0x80000000u;
  cosine = __int_as_float((int)((Word)__float_as_int(odd ? s : c) ^ cosine_sign));
  sine = __int_as_float((int)((Word)__float_as_int(odd ? c : s) ^ sine_sign));
}

// The block of this thread: of which row, and which of its `blocks`.
struct Place {
  Index row, block;
};

__device__ inline Place place(Index blocks) {
  const Index thread = (Index)blockIdx.x * blockDim.x + threadIdx.x;
  return Place{thread / blocks, thread % blocks};
}

// Writes what a block gives of a row: elements first, first + kLanes, … as far as the row goes.
struct Row {
  float* out;
  Index length;
};

__device__ inline void write(Row row, Index element, float value) {
  if (element < row.length) row.out[element] = value;
}

extern "C" __global__ void dkdm_normal(Word key0, Word key1, Word step, const Index* step_at,
                                       const Index* samples, Index rows, Index length, Index blocks,
                                       float* out) {
  const Place at = place(blocks);
  if (at.row >= rows) return;
  const Index sample = samples[at.row];
  const Block w = philox(Block{(Word)at.block, step_at ? (Word)*step_at : step, (Word)sample,
                               (Word)((unsigned long long)sample >> 32)},
                         key0, key1);
  const float r0 = radius(w.c0), r1 = radius(w.c2);
  float cos0, sin0, cos1, sin1;
  direction(w.c1, cos0, sin0);
  direction(w.c3, cos1, sin1);
  const Row row{out + at.row * length, length};
  const Index first = at.block / kLanes * (4 * kLanes) + at.block % kLanes;
  write(row, first, times(r0, cos0));
  write(row, first + kLanes, times(r0, sin0));
  write(row, first + 2 * kLanes, times(r1, cos1));
  write(row, first + 3 * kLanes, times(r1, sin1));
}

// A thread makes one number: 53 bits of the block that single draws have.
extern "C" __global__ void dkdm_uniform(Word key0, Word key1, Word step, const Index* step_at,
                                        Index first_sample, Index rows, Word block, double* out) {
  const Place at = place(1);
  if (at.row >= rows) return;
  const Index sample = first_sample + at.row;
  const Block w = philox(Block{block, step_at ? (Word)*step_at : step, (Word)sample,
                               (Word)((unsigned long long)sample >> 32)},
                         key0, key1);
  out[at.row] = (double)(((Index)w.c0 << 21) | (Index)(w.c1 >> 11)) * 0x1p-53;
}

extern "C" __global__ void dkdm_mask(Word key0, Word key1, Word step, const Index* step_at,
                                     Word layer, Index first_sample, Index rows, Index length,
                                     Index blocks, Word threshold, float scale, float* out) {
  const Place at = place(blocks);
  if (at.row >= rows) return;
  const Block w = philox(Block{(Word)at.block, step_at ? (Word)*step_at : step,
                               (Word)(first_sample + at.row), layer},
                         key0, key1);
  const Word words[4] = {w.c0, w.c1, w.c2, w.c3};
  const Row row{out + at.row * length, length};
  const Index first = at.block / kLanes * (8 * kLanes) + at.block % kLanes;
  for (int word = 0; word < 4; ++word) {
    write(row, first + 2 * word * kLanes, (words[word] & 0xffffu) < threshold ? 0.0f : scale);
    write(row, first + (2 * word + 1) * kLanes, (words[word] >> 16) < threshold ? 0.0f : scale);
  }
}
)cuda";

}  // namespace dkdm::random
