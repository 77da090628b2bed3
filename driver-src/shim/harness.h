/*
 * harness.h: what stands above the drivers: the loader and the I/O manager's side of a handle.
 *
 * A driver is a shared object with DriverEntry; its kernel functions come from the program. Loading maps it anew and
 * unloading unmaps it, so that its globals start from nothing and code that still runs crashes, as on Windows.
 */
#ifndef WSKLAB_SHIM_HARNESS_H
#define WSKLAB_SHIM_HARNESS_H

#include "shim.h"

typedef struct SHIM_DRIVER SHIM_DRIVER;
typedef struct SHIM_HANDLE SHIM_HANDLE;

/* A user process, administrator or not; released with ShimProcessRelease. */
PEPROCESS ShimProcessCreate(const char *name, ULONG id, BOOLEAN administrator);
void ShimProcessRelease(PEPROCESS process);
/* The calling thread acts for a user of another process from now on (NULL: for itself). */
void ShimImpersonate(PEPROCESS process);

/* Map the file and call its DriverEntry; *driver is NULL on failure, and everything that it had made is gone (checked). */
NTSTATUS ShimDriverLoad(const char *file, const char *name, SHIM_DRIVER **driver);
/*
 * Call its Unload and unmap it. Windows calls Unload only when no handle is open: STATUS_DEVICE_BUSY otherwise. With
 * `force` it is called anyway, as Wine does. Afterwards nothing of the driver may be alive (rules leak-*).
 */
NTSTATUS ShimDriverUnload(SHIM_DRIVER *driver, BOOLEAN force);
/* File objects on its devices: open handles, and those that its requests still hold. */
ULONG ShimDriverHandles(const SHIM_DRIVER *driver);

/* CreateFile on "\\\\.\\name" for the calling thread's process. */
NTSTATUS ShimOpen(const char *path, SHIM_HANDLE **handle);
/* CloseHandle: IRP_MJ_CLEANUP now; IRP_MJ_CLOSE when the last reference to the file object has gone. */
void ShimClose(SHIM_HANDLE *handle);

/* The answer to an I/O control. `information` bytes of `output` are valid, and no more than its size. */
typedef struct SHIM_IOCTL SHIM_IOCTL;
typedef void (*SHIM_IOCTL_DONE)(SHIM_IOCTL *ioctl, void *context);
struct SHIM_IOCTL {
    void *Output; /* output_size bytes */
    ULONG OutputSize;
    NTSTATUS Status;
    ULONG_PTR Information;
    /* The shim's own; zero before the start. */
    BOOLEAN Complete;
    BOOLEAN CancelWanted;
    SHIM_HANDLE *Handle;
    PIRP Irp;
    KEVENT Event;
    SHIM_IOCTL_DONE Done;
    void *Context;
    LIST_ENTRY Link;
};

/*
 * DeviceIoControl, overlapped. Returns what the driver's dispatch routine returned. `done` is called once, when it is
 * complete, in the thread that completed it at IRQL <= DISPATCH_LEVEL, possibly before this returns; may be NULL.
 */
NTSTATUS ShimIoctlStart(SHIM_HANDLE *handle, ULONG code, const void *input, ULONG inputSize, SHIM_IOCTL *ioctl,
                        SHIM_IOCTL_DONE done, void *context);
/* Wait for one that was started; STATUS_TIMEOUT, or its status. */
NTSTATUS ShimIoctlWait(SHIM_IOCTL *ioctl, LONGLONG timeoutMs);
/* CancelIoEx of one request; FALSE when it is complete already. */
BOOLEAN ShimIoctlCancel(SHIM_IOCTL *ioctl);
/* Both in one: start and wait without limit. */
NTSTATUS ShimIoctl(SHIM_HANDLE *handle, ULONG code, const void *input, ULONG inputSize, void *output, ULONG outputSize,
                   ULONG_PTR *information);

/* Modes, before ShimStart. */
typedef struct SHIM_OPTIONS {
    BOOLEAN Deterministic;
    ULONG64 Seed;
    BOOLEAN RandomChoices; /* plain mode: ShimChoose draws */
    BOOLEAN Impatient;     /* deterministic mode: the clock jumps on at once, and waits for the host only after many jumps */
    BOOLEAN LikeWine;      /* ntoskrnl has the export that only Wine's has */
    ULONG OsBuild;         /* 0: the newest that the shim knows */
} SHIM_OPTIONS;
void ShimStart(const SHIM_OPTIONS *options);
/* Between two drivers: another seed, personality or build. The mode stays what it was. */
void ShimSetOptions(const SHIM_OPTIONS *options);
/* A digest of all choices of the schedule since the seed was set: equal digests, equal runs. */
ULONG64 ShimTrace(void);
/* Whether devices open to everybody, whatever their access lists say: the driver's own check comes to its turn. */
void ShimIgnoreAccessLists(BOOLEAN ignore);
/* What is going on: printed when the shim breaks off. */
void ShimNote(const char *format, ...) __attribute__((format(printf, 1, 2)));
const char *ShimNoted(void);
/* Everything must be gone: the provider is stopped, and what is left is an abort (rules leak-*). */
void ShimStop(void);

/*
 * The failure sweep: the n-th allocation (pool, IRP, MDL, work item, thread, timer, completion routine, device, link,
 * handle, ShimAllocate, ShimShouldFail) from now on fails, n from 1; 0: none. Returns how many there have been since the
 * last call. `everyFrom`: it and all that follow.
 */
ULONG ShimFailAt(ULONG n, BOOLEAN everyFrom);
/*
 * Sites that only runs reach in which something else failed, so that no sweep has failed them. ShimFailNever: whether site
 * `index` (of ShimFailSites) is one; the note (ShimNote) of the first (run 0) or the last run (1) that came there, and which
 * allocation had failed in it. ShimFailAlso, after ShimFailAt: the site fails as well, the first time that it is reached.
 */
ULONG ShimFailSites(void);
BOOLEAN ShimFailNever(ULONG index, ULONG run, const char **note, ULONG *failed);
void ShimFailAlso(ULONG index);
/* One line per site on `file`: count, failures, where (module+offset of up to four callers). */
void ShimFailReport(int file);

#endif
