/* sha256.h - SHA-256 (FIPS 180-4) of files, so that hello needs no bcrypt.dll. */
#ifndef WSKCTL_SHA256_H
#define WSKCTL_SHA256_H

#include <stddef.h>
#include <stdint.h>

typedef struct SHA256 {
    uint32_t state[8];
    uint64_t length;
    unsigned char block[64];
} SHA256;

void Sha256Start(SHA256 *hash);
void Sha256Update(SHA256 *hash, const void *bytes, size_t length);
void Sha256Finish(SHA256 *hash, unsigned char digest[32]);

#endif
