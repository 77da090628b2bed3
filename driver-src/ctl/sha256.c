/* sha256.c - see sha256.h; names of variables and constants are those of FIPS 180-4, section 6.2. */
#include "sha256.h"

#include <string.h>

static const uint32_t K[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static uint32_t Rotate(uint32_t x, int n)
{
    return (x >> n) | (x << (32 - n));
}

static void Compress(uint32_t H[8], const unsigned char *block)
{
    uint32_t W[64];
    uint32_t v[8];
    int t;

    for (t = 0; t < 16; t += 1) {
        W[t] = (uint32_t)block[t * 4] << 24 | (uint32_t)block[t * 4 + 1] << 16 |
               (uint32_t)block[t * 4 + 2] << 8 | (uint32_t)block[t * 4 + 3];
    }
    for (t = 16; t < 64; t += 1) {
        uint32_t s0 = Rotate(W[t - 15], 7) ^ Rotate(W[t - 15], 18) ^ (W[t - 15] >> 3);
        uint32_t s1 = Rotate(W[t - 2], 17) ^ Rotate(W[t - 2], 19) ^ (W[t - 2] >> 10);
        W[t] = W[t - 16] + s0 + W[t - 7] + s1;
    }
    memcpy(v, H, sizeof(v));
    /* a to h are v[0] to v[7] before the first round; each round renames them instead of moving them. */
    for (t = 0; t < 64; t += 1) {
        uint32_t a = v[-t & 7], b = v[(1 - t) & 7], c = v[(2 - t) & 7];
        uint32_t e = v[(4 - t) & 7], f = v[(5 - t) & 7], g = v[(6 - t) & 7];
        uint32_t S1 = Rotate(e, 6) ^ Rotate(e, 11) ^ Rotate(e, 25);
        uint32_t T1 = v[(7 - t) & 7] + S1 + ((e & f) ^ (~e & g)) + K[t] + W[t];
        uint32_t S0 = Rotate(a, 2) ^ Rotate(a, 13) ^ Rotate(a, 22);
        uint32_t T2 = S0 + ((a & b) ^ (a & c) ^ (b & c));
        v[(3 - t) & 7] += T1;
        v[(7 - t) & 7] = T1 + T2;
    }
    for (t = 0; t < 8; t += 1) {
        H[t] += v[t];
    }
}

void Sha256Start(SHA256 *hash)
{
    static const uint32_t initial[8] = {
        0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
    };

    memcpy(hash->state, initial, sizeof(initial));
    hash->length = 0;
}

void Sha256Update(SHA256 *hash, const void *bytes, size_t length)
{
    const unsigned char *from = bytes;

    while (length > 0) {
        size_t used = (size_t)(hash->length % 64);
        size_t step = 64 - used < length ? 64 - used : length;

        memcpy(hash->block + used, from, step);
        hash->length += step;
        from += step;
        length -= step;
        if (used + step == 64) {
            Compress(hash->state, hash->block);
        }
    }
}

void Sha256Finish(SHA256 *hash, unsigned char digest[32])
{
    uint64_t bits = hash->length * 8;
    unsigned char end[72] = {0x80};
    size_t used = (size_t)(hash->length % 64);
    size_t pad = used < 56 ? 56 - used : 120 - used;
    int index;

    for (index = 0; index < 8; index += 1) {
        end[pad + (size_t)index] = (unsigned char)(bits >> (56 - 8 * index));
    }
    Sha256Update(hash, end, pad + 8);
    for (index = 0; index < 32; index += 1) {
        digest[index] = (unsigned char)(hash->state[index / 4] >> (24 - 8 * (index % 4)));
    }
}
