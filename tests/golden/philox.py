"""Our counter-based random numbers in numpy: core/random/random.cpp and fill.hpp, to the same bits."""
import numpy as np

STREAMS = {"initialise": 1, "minibatch": 2, "timestep": 3, "train_noise": 4, "augment": 6,
           "sample_start": 7, "sample_noise": 8, "pool_start": 9, "pool_noise": 10,
           "pool_state": 11, "pool_choice": 12}
TRAINING_NOISE = 1 << 40  # dkdm::kTrainingNoise
UNIFORM, INTEGER, CHOICE = 0xfffffff0, 0xfffffff1, 0xfffffff2
MASK32, MASK64 = (1 << 32) - 1, (1 << 64) - 1
F32 = np.float32


def splitmix64(x):
    x = (x + 0x9E3779B97F4A7C15) & MASK64
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK64
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK64
    return x ^ (x >> 31)


def philox(c0, c1, c2, c3, key0, key1):
    """Philox4x32-10; counters are uint64 arrays of 32-bit values."""
    for _ in range(10):
        p0, p1 = np.uint64(0xD2511F53) * c0, np.uint64(0xCD9E8D57) * c2
        low, high = np.uint64(MASK32), np.uint64(32)
        c0, c1, c2, c3 = ((p1 >> high) ^ c1 ^ np.uint64(key0), p1 & low,
                          (p0 >> high) ^ c3 ^ np.uint64(key1), p0 & low)
        key0, key1 = (key0 + 0x9E3779B9) & MASK32, (key1 + 0xBB67AE85) & MASK32
    return c0, c1, c2, c3


def radius(word):
    u = ((word >> np.uint64(1)).astype(np.int32).astype(F32) + F32(0.5)) * F32(2.0 ** -31)
    bits = u.view(np.int32)
    exponent = (bits - np.int32(0x3f3504f3)) >> np.int32(23)
    f = (bits - exponent * np.int32(0x800000)).view(F32) - F32(1)
    e, z = exponent.astype(F32), f * f
    p = np.full_like(f, 7.0376836292e-2)
    for c in (-1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1,
              -1.6668057665e-1, 2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1):
        p = p * f + F32(c)
    y = p * f * z
    y = y + e * F32(-2.12194440e-4)
    y = y - F32(0.5) * z
    square = F32(-2) * (f + y + e * F32(0.693359375))
    return np.sqrt(np.maximum(square, F32(0)))


def direction(word):
    offset = (word & np.uint64(0x3fffffff)).astype(np.int32) - np.int32(0x20000000)
    x = offset.astype(F32) * (F32(0.78539816339744831) * F32(2.0 ** -29))
    z = x * x
    s = ((F32(-1.9515295891e-4) * z + F32(8.3321608736e-3)) * z - F32(1.6666654611e-1)) * z * x + x
    tail = ((F32(2.443315711809948e-5) * z - F32(1.388731625493765e-3)) * z
            + F32(4.166664568298827e-2))
    c = tail * z * z - F32(0.5) * z + F32(1)
    odd = (word >> np.uint64(30)) & np.uint64(1) == 1
    sine_sign = (word >> np.uint64(31)) & np.uint64(1) == 1
    cosine_sign = sine_sign ^ odd
    cosine, sine = np.where(odd, s, c), np.where(odd, c, s)
    return np.where(cosine_sign, -cosine, cosine), np.where(sine_sign, -sine, sine)


class Random:
    def __init__(self, seed, stream):
        key = splitmix64(splitmix64(seed) ^ STREAMS[stream])
        self.key = key & MASK32, key >> 32

    def word64(self, step, sample, block):
        words = philox(*(np.array([c], np.uint64) for c in
                         (block, step, sample & MASK32, sample >> 32)), *self.key)
        return (int(words[0][0]) << 32) | int(words[1][0])

    def normal(self, step, index, shape):
        """f32 [n, shape...], row r that of sample index[r]."""
        length = int(np.prod(shape))
        groups = (length + 63) // 64
        block = np.arange(16 * groups, dtype=np.uint64)
        rows = []
        for sample in index:
            constant = [np.full_like(block, c) for c in (step, sample & MASK32, sample >> 32)]
            w = philox(block, *constant, *self.key)
            r0, r1 = radius(w[0]), radius(w[2])
            (cos0, sin0), (cos1, sin1) = direction(w[1]), direction(w[3])
            parts = [(r * d).reshape(groups, 16) for r, d in
                     ((r0, cos0), (r0, sin0), (r1, cos1), (r1, sin1))]
            rows.append(np.concatenate(parts, axis=1).reshape(-1)[:length])
        return np.stack(rows).reshape(len(rows), *shape)

    def uniform(self, step, first, count):
        return np.array([(self.word64(step, first + i, UNIFORM) >> 11) * 2.0 ** -53
                         for i in range(count)])

    def integers(self, step, first, count, bound):
        return [self.word64(step, first + i, INTEGER) * bound >> 64 for i in range(count)]

    def choice(self, step, n, count):
        order = list(range(n))
        for i in range(count):
            j = i + (self.word64(step, i, CHOICE) * (n - i) >> 64)
            order[i], order[j] = order[j], order[i]
        return order[:count]
