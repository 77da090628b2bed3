/*
 * main.c: the driver comes and goes. Order here, the reverse in Unload.
 */
#include "client.h"
#include "device.h"
#include "ioctl.h"
#include "keeper.h"
#include "ledger.h"
#include "threads.h"
#include "wsklab_build.h"

/* WSK's completion routines (the published sample's, and all of them on Wine) may still be a few instructions from
 * their end when the last operation has become final. */
#define TAIL_100NS 500000ll

/* A table, not assignments: its pointers are what the loader relocates, and an image without relocations is suspect. */
static const struct {
    UCHAR Major;
    PDRIVER_DISPATCH Routine;
} g_Dispatch[] = {{IRP_MJ_CREATE, DeviceDispatchCreate},
                  {IRP_MJ_CLEANUP, DeviceDispatchCleanup},
                  {IRP_MJ_CLOSE, DeviceDispatchClose},
                  {IRP_MJ_DEVICE_CONTROL, IoctlDispatch}};

static VOID NTAPI Unload(PDRIVER_OBJECT Driver) {
    LARGE_INTEGER tail = {.QuadPart = -TAIL_100NS};

    UNREFERENCED_PARAMETER(Driver);
    DeviceHide();
    ClientsDetachAll();
    KeeperWaitForClients();
    DeviceDelete();
    KeeperStop();
    KeDelayExecutionThread(KernelMode, FALSE, &tail);
    LogLine("unloaded\n");
}

NTSTATUS NTAPI DriverEntry(PDRIVER_OBJECT Driver, PUNICODE_STRING RegistryPath);

NTSTATUS NTAPI DriverEntry(PDRIVER_OBJECT Driver, PUNICODE_STRING RegistryPath) {
    NTSTATUS status;

    UNREFERENCED_PARAMETER(RegistryPath);
    PlatformInitialize();
    LedgerInitialize();
    ClientsInitialize();
    ThreadsInitialize();
    for (ULONG i = 0; i < sizeof(g_Dispatch) / sizeof(g_Dispatch[0]); i++) {
        Driver->MajorFunction[g_Dispatch[i].Major] = g_Dispatch[i].Routine;
    }

    status = KeeperStart();
    if (!NT_SUCCESS(status)) {
        return status;
    }
    status = DeviceCreate(Driver);
    if (!NT_SUCCESS(status)) {
        goto stopKeeper;
    }
    /* Nothing of WSK here: a provider that is not ready must not hold up the start of the system. */
    Driver->DriverUnload = Unload;
    LogLine("loaded, %s\n", WSKLAB_BUILD_LABEL);
    return STATUS_SUCCESS;

stopKeeper:
    KeeperStop();
    return status;
}
