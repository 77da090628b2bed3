/*
 * base_linux.h: the few names of Windows that the shared part of wskctl uses, on Linux. Handles are descriptors.
 */
#ifndef WSKLAB_SHIM_BASE_LINUX_H
#define WSKLAB_SHIM_BASE_LINUX_H

#include "ntddk.h"

/* A lock that may be held across a write: an event that one thread at a time finds set. */
typedef KEVENT LOCK;
#define LockInitialize(lock) KeInitializeEvent((lock), SynchronizationEvent, TRUE)
#define LockAcquire(lock) KeWaitForSingleObject((lock), Executive, KernelMode, FALSE, NULL)
#define LockRelease(lock) KeSetEvent((lock), IO_NO_INCREMENT, FALSE)

#define STD_INPUT_HANDLE 0
#define STD_OUTPUT_HANDLE 1
#define GetStdHandle(number) ((HANDLE)(uintptr_t)(number))
#define DescriptorOf(handle) ((int)(uint32_t)(uintptr_t)(handle))

/*
 * A login's connection carries several streams outwards, so what is written to such a handle goes in frames: one byte
 * that names the stream, four bytes of length (little-endian), the bytes. Inwards there is standard input only.
 */
enum { FRAME_STDOUT = 1, FRAME_STDERR = 2, FRAME_EXIT = 3 };
#define FramedHandle(descriptor, stream) ((HANDLE)((uintptr_t)(stream) << 32 | (uint32_t)(descriptor)))
#define FrameOf(handle) ((unsigned char)((uintptr_t)(handle) >> 32))

/* Win32 codes that the conversation names. */
#define ERROR_INVALID_FUNCTION 1u
#define ERROR_FILE_NOT_FOUND 2u
#define ERROR_TOO_MANY_OPEN_FILES 4u
#define ERROR_ACCESS_DENIED 5u
#define ERROR_INVALID_HANDLE 6u
#define ERROR_NOT_ENOUGH_MEMORY 8u
#define ERROR_INVALID_DATA 13u
#define ERROR_INVALID_PARAMETER 87u
#define ERROR_INVALID_NAME 123u
#define ERROR_BUSY 170u
#define WAIT_TIMEOUT 258u

DWORD RtlNtStatusToDosError(NTSTATUS status);

#endif
