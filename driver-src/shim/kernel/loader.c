/*
 * loader.c: drivers come and go.
 */
#include "internal.h"

#include <dlfcn.h>
#include <link.h>
#include <stdlib.h>

#define MAX_DRIVERS 8
/* Virtual time after which an unload routine will never return. */
#define UNLOAD_NS 600000000000ull

struct SHIM_DRIVER {
    DRIVER_OBJECT Object;
    char Name[64];
    void *Library;
    const void *Low;
    const void *High;
};

static pthread_mutex_t g_Lock = PTHREAD_MUTEX_INITIALIZER;
static SHIM_DRIVER *g_Drivers[MAX_DRIVERS];

static const SHIM_DRIVER *Find(const void *address) {
    for (ULONG i = 0; i < MAX_DRIVERS; i++) {
        const SHIM_DRIVER *driver = __atomic_load_n(&g_Drivers[i], __ATOMIC_ACQUIRE);
        if (driver != NULL && address >= driver->Low && address < driver->High) {
            return driver;
        }
    }
    return NULL;
}

BOOLEAN LoaderRange(const void *address, const void **low, const void **high, const char **name) {
    const SHIM_DRIVER *driver;

    pthread_mutex_lock(&g_Lock);
    driver = Find(address);
    if (driver != NULL) {
        *low = driver->Low;
        *high = driver->High;
        *name = driver->Name;
    }
    pthread_mutex_unlock(&g_Lock);
    return driver != NULL;
}

BOOLEAN LoaderIsDriverAddress(const void *address) {
    const void *low;
    const void *high;
    const char *name;
    return LoaderRange(address, &low, &high, &name);
}

static int FindImage(struct dl_phdr_info *info, size_t size, void *context) {
    SHIM_DRIVER *driver = context;
    const struct link_map *map = driver->Library;

    UNREFERENCED_PARAMETER(size);
    if (info->dlpi_addr != map->l_addr) {
        return 0;
    }
    driver->Low = (const void *)UINTPTR_MAX;
    driver->High = NULL;
    for (ElfW(Half) i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *segment = &info->dlpi_phdr[i];
        if (segment->p_type == PT_LOAD) {
            const char *begin = (const char *)info->dlpi_addr + segment->p_vaddr;
            driver->Low = begin < (const char *)driver->Low ? begin : driver->Low;
            driver->High = begin + segment->p_memsz > (const char *)driver->High ? begin + segment->p_memsz : driver->High;
        }
    }
    return 1;
}

/* What a major function does that the driver has not set. */
static NTSTATUS NTAPI InvalidRequest(PDEVICE_OBJECT DeviceObject, PIRP Irp) {
    UNREFERENCED_PARAMETER(DeviceObject);
    Irp->IoStatus.Status = STATUS_INVALID_DEVICE_REQUEST;
    Irp->IoStatus.Information = 0;
    IoCompleteRequest(Irp, IO_NO_INCREMENT);
    return STATUS_INVALID_DEVICE_REQUEST;
}

static void RequireNobodyInside(const SHIM_DRIVER *driver) {
    char text[4096];
    ULONG inside = 0;

    if (ThreadsOf(driver->Low, driver->High, text, sizeof(text)) > 0) {
        ShimAbort("leak-thread", "%s is unloaded while threads that it made run:%s", driver->Name, text);
    }
    SchedLock();
    for (PLIST_ENTRY entry = g_Threads.Flink; entry != &g_Threads; entry = entry->Flink) {
        const SHIM_THREAD *thread = CONTAINING_RECORD(entry, SHIM_THREAD, Link);
        if (thread->Callout != NULL && thread != ThreadSelf()) {
            ThreadDescribe(thread, text, sizeof(text));
            inside++;
        }
    }
    SchedUnlock();
    if (inside > 0) {
        ShimAbort("unload-running", "%s is unloaded while its code may run: %s", driver->Name, text);
    }
}

/* Nothing of the driver may be left. */
static void RequireGone(SHIM_DRIVER *driver) {
    RequireNobodyInside(driver);
    DevicesRequireNoneOf(&driver->Object, driver->Name);
    HandlesRequireNoneOf(driver->Low, driver->High, driver->Name);
    IrpRequireNoneOf(driver->Low, driver->High, driver->Name);
    TimersRequireNoneIn(driver->Low, (size_t)((const char *)driver->High - (const char *)driver->Low));
    MemoryRequireNoneOf(driver->Low, driver->High, driver->Name);
}

static void Unmap(SHIM_DRIVER *driver) {
    pthread_mutex_lock(&g_Lock);
    for (ULONG i = 0; i < MAX_DRIVERS; i++) {
        if (g_Drivers[i] == driver) {
            __atomic_store_n(&g_Drivers[i], NULL, __ATOMIC_RELEASE);
        }
    }
    pthread_mutex_unlock(&g_Lock);
    dlclose(driver->Library);
    free(driver);
}

static NTSTATUS Map(const char *file, const char *name, SHIM_DRIVER **out) {
    SHIM_DRIVER *driver = calloc(1, sizeof(*driver));
    BOOLEAN placed = FALSE;

    driver->Library = dlopen(file, RTLD_NOW | RTLD_LOCAL);
    if (driver->Library == NULL) {
        fprintf(stderr, "wsklab-shim: %s\n", dlerror());
        free(driver);
        return STATUS_OBJECT_NAME_NOT_FOUND;
    }
    snprintf(driver->Name, sizeof(driver->Name), "%s", name);
    dl_iterate_phdr(FindImage, driver);
    pthread_mutex_lock(&g_Lock);
    for (ULONG i = 0; i < MAX_DRIVERS && !placed; i++) {
        if (g_Drivers[i] == NULL) {
            __atomic_store_n(&g_Drivers[i], driver, __ATOMIC_RELEASE);
            placed = TRUE;
        }
    }
    pthread_mutex_unlock(&g_Lock);
    if (!placed) {
        dlclose(driver->Library);
        free(driver);
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    *out = driver;
    return STATUS_SUCCESS;
}

NTSTATUS ShimDriverLoad(const char *file, const char *name, SHIM_DRIVER **out) {
    UNICODE_STRING registryPath = RTL_CONSTANT_STRING(L"\\Registry\\Machine\\System\\CurrentControlSet\\Services\\driver");
    SHIM_DRIVER *driver = NULL;
    PDRIVER_INITIALIZE entry;
    SHIM_CALLOUT callout;
    NTSTATUS status = Map(file, name, &driver);

    *out = NULL;
    if (!NT_SUCCESS(status)) {
        return status;
    }
    entry = (PDRIVER_INITIALIZE)(uintptr_t)dlsym(driver->Library, "DriverEntry");
    if (entry == NULL) {
        Unmap(driver);
        return STATUS_PROCEDURE_NOT_FOUND;
    }
    driver->Object = (DRIVER_OBJECT){.Type = IO_TYPE_DRIVER,
                                     .Size = sizeof(DRIVER_OBJECT),
                                     .DriverStart = (PVOID)(ULONG_PTR)driver->Low,
                                     .DriverSize = (ULONG)((const char *)driver->High - (const char *)driver->Low),
                                     .DriverInit = entry};
    for (ULONG i = 0; i <= IRP_MJ_MAXIMUM_FUNCTION; i++) {
        driver->Object.MajorFunction[i] = InvalidRequest;
    }
    ShimCalloutBegin(&callout, "DriverEntry", PASSIVE_LEVEL, TRUE);
    status = entry(&driver->Object, &registryPath);
    ShimCalloutEnd(&callout);
    if (!NT_SUCCESS(status)) {
        RequireGone(driver);
        Unmap(driver);
        return status;
    }
    for (PDEVICE_OBJECT device = driver->Object.DeviceObject; device != NULL; device = device->NextDevice) {
        device->Flags &= ~DO_DEVICE_INITIALIZING;
    }
    *out = driver;
    return STATUS_SUCCESS;
}

ULONG ShimDriverHandles(const SHIM_DRIVER *driver) {
    return FilesOf(&driver->Object);
}

NTSTATUS ShimDriverUnload(SHIM_DRIVER *driver, BOOLEAN force) {
    SHIM_CALLOUT callout;

    if (driver->Object.DriverUnload == NULL) {
        return STATUS_INVALID_DEVICE_REQUEST;
    }
    driver->Object.Flags |= DRVO_UNLOAD_INVOKED; /* its devices cannot be opened any more */
    if (!force && FilesOf(&driver->Object) > 0) {
        return STATUS_DEVICE_BUSY;
    }
    SchedLimit(UNLOAD_NS);
    ShimCalloutBegin(&callout, "DriverUnload", PASSIVE_LEVEL, TRUE);
    driver->Object.DriverUnload(&driver->Object);
    ShimCalloutEnd(&callout);
    SchedLimit(0);
    FilesOrphan(&driver->Object);
    RequireGone(driver);
    Unmap(driver);
    return STATUS_SUCCESS;
}
