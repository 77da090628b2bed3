/*
 * identity.c: who answers. See ctl/verbs.h.
 */
#include <pthread.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "../../ctl/sha256.h"
#include "../../ctl/verbs.h"
#include "program.h"

/* 100 ns from 1601 to 1970. */
#define UNIX_EPOCH 116444736000000000ull

static ULONG64 g_BootTime;
static ULONG64 g_Started;
static pthread_once_t g_HashedProgram = PTHREAD_ONCE_INIT;
static char g_Program[65];
static int g_HasProgram;

static ULONG64 Clock(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (ULONG64)now.tv_sec * 1000000000u + (ULONG64)now.tv_nsec;
}

void IdentityStart(void) {
    g_BootTime = Clock(CLOCK_REALTIME) / 100 + UNIX_EPOCH;
    g_Started = Clock(CLOCK_MONOTONIC);
}

/* Writes 64 digits and returns 1, or returns 0 when the file cannot be read. */
static int HashFile(const char *path, char digits[65]) {
    FILE *file = fopen(path, "rb");
    unsigned char digest[32];
    unsigned char block[4096];
    SHA256 hash;
    size_t got;

    if (file == NULL) {
        return 0;
    }
    Sha256Start(&hash);
    while ((got = fread(block, 1, sizeof(block), file)) > 0) {
        Sha256Update(&hash, block, got);
    }
    fclose(file);
    Sha256Finish(&hash, digest);
    for (size_t i = 0; i < sizeof(digest); i++) {
        snprintf(digits + 2 * i, 3, "%02x", digest[i]);
    }
    return 1;
}

/* The program does not change while it runs, and every hello asks. */
static void HashProgram(void) {
    g_HasProgram = HashFile("/proc/self/exe", g_Program);
}

void IdentityMembers(TEXT *line, const char *driver) {
    char file[512];
    char digits[65];

    if (driver == NULL || !DriveFile(driver, file, sizeof(file))) {
        snprintf(file, sizeof(file), "%s", driver == NULL ? ServiceLastFile() : "");
    }
    TextMemberUnsigned(line, "protocol", WSKCTL_PROTOCOL);
    TextMemberString(line, "version", WSKCTL_VERSION);
    pthread_once(&g_HashedProgram, HashProgram);
    TextMemberString(line, "sha256", g_HasProgram ? g_Program : NULL);
    TextMemberString(line, "driver_sha256", HashFile(file, digits) ? digits : NULL);
    TextMemberUnsigned(line, "pid", (uint64_t)getpid());
    TextMemberUnsigned(line, "os_major", 10);
    TextMemberUnsigned(line, "os_minor", 0);
    TextMemberUnsigned(line, "os_build", ShimOsBuild());
    TextMemberUnsigned(line, "os_revision", 0);
    TextMemberString(line, "wine", NULL);
    TextMemberString(line, "architecture", "amd64");
    TextMemberUnsigned(line, "boot_time", g_BootTime);
    TextMemberUnsigned(line, "uptime_ms", (Clock(CLOCK_MONOTONIC) - g_Started) / 1000000u);
}
