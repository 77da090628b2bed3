/*
 * base.h - the little that wskctl needs of a C library, made of kernel32 alone.
 *
 * wskctl imports no C runtime: it starts faster (every DLL costs under an emulated processor) and has
 * one list of imports on every Windows and under Wine. memory.c gives the functions that the compiler
 * itself may call.
 *
 * The conversation (stdio.c, answer.c, json.c, lines.c, text.c, sha256.c) is compiled on Linux too, by the kernel shim,
 * whose base_linux.h has the few names that it uses of Windows.
 */
#ifndef WSKCTL_BASE_H
#define WSKCTL_BASE_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef _WIN32
#define WIN32_LEAN_AND_MEAN
#include <windows.h>
#include <winternl.h>

/* A lock that may be held across a write. */
typedef SRWLOCK LOCK;
#define LockInitialize(lock) InitializeSRWLock(lock)
#define LockAcquire(lock) AcquireSRWLockExclusive(lock)
#define LockRelease(lock) ReleaseSRWLockExclusive(lock)
#else
#include "base_linux.h"
#endif

#define WSKCTL_VERSION "0.1.0"
/* Version of the conversation of `wskctl stdio`; lab/wsklab/channel/device.py refuses another one. */
#define WSKCTL_PROTOCOL 1
/* Longest line in either direction, newline included. */
#define WSKCTL_LINE_LIMIT (1u << 20)
/* Most bytes that one ioctl takes in or gives out: twice as many hexadecimal digits fit a line. */
#define WSKCTL_DATA_LIMIT 512000u

/* Exit codes of every verb. */
#define EXIT_OK 0
#define EXIT_FAILED 1
#define EXIT_USAGE 2

/* Memory from the process heap, zeroed; NULL when there is none. */
void *Allocate(size_t size);
void Free(void *memory);

/* UTF-8 to UTF-16 with terminator, to be freed; NULL when malformed, with a zero inside, or out of memory. */
WCHAR *Utf16FromUtf8(const char *text, size_t length);
/* UTF-16 (terminated) to UTF-8, to be freed; NULL when out of memory. */
char *Utf8FromUtf16(const WCHAR *text);

/* Unsigned number in base 10, or 16 after "0x"; 0 when it is none or larger than maximum. */
int ParseNumber(const char *text, uint64_t maximum, uint64_t *value);
int SameText(const char *left, const char *right);

#endif
