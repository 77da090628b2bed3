/*
 * service.c: kernel services: `sc create`, `start`, `query`, `stop`, `delete`.
 *
 * The words and numbers are those of Windows' sc.exe as lab/wsklab/service.py reads them.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base_linux.h"
#include "program.h"

#define MAX_SERVICES 16

typedef struct SERVICE {
    char Name[64];
    char File[512];
    SHIM_DRIVER *Driver;
    BOOLEAN Stopping; /* handles are open: unloaded when they are closed */
} SERVICE;

static SERVICE g_Services[MAX_SERVICES];
static KEVENT g_Lock;
static BOOLEAN g_HasLock;
static char g_LastFile[512];

static void Lock(void) {
    if (!g_HasLock) {
        g_HasLock = TRUE; /* the first command is the program's own */
        KeInitializeEvent(&g_Lock, SynchronizationEvent, TRUE);
    }
    KeWaitForSingleObject(&g_Lock, Executive, KernelMode, FALSE, NULL);
}

static void Unlock(void) {
    KeSetEvent(&g_Lock, IO_NO_INCREMENT, FALSE);
}

static SERVICE *Find(const char *name) {
    for (ULONG i = 0; i < MAX_SERVICES; i++) {
        if (g_Services[i].Name[0] != '\0' && strcmp(g_Services[i].Name, name) == 0) {
            return &g_Services[i];
        }
    }
    return NULL;
}

static void Fail(LOGIN *login, const char *function, DWORD win32) {
    Say(login, "[SC] %s FAILED %u:\r\n", function, win32);
    login->Code = (int)win32;
}

/* A driver that waits for its handles goes as soon as they are closed. */
static void TryUnload(SERVICE *service, BOOLEAN force) {
    if (service->Driver != NULL && service->Stopping && NT_SUCCESS(ShimDriverUnload(service->Driver, force))) {
        service->Driver = NULL;
        service->Stopping = FALSE;
    }
}

static void State(LOGIN *login, SERVICE *service) {
    TryUnload(service, FALSE);
    Say(login, "SERVICE_NAME: %s\r\n        TYPE               : 1  KERNEL_DRIVER\r\n", service->Name);
    Say(login, "        STATE              : %s\r\n        WIN32_EXIT_CODE    : 0  (0x0)\r\n",
              service->Driver == NULL ? "1  STOPPED" : service->Stopping ? "3  STOP_PENDING" : "4  RUNNING");
}

static NTSTATUS Start(SERVICE *service) {
    NTSTATUS status = ShimDriverLoad(service->File, service->Name, &service->Driver);
    if (NT_SUCCESS(status)) {
        service->Stopping = FALSE;
        snprintf(g_LastFile, sizeof(g_LastFile), "%s", service->File);
    }
    return status;
}

static void Create(LOGIN *login, const char *name, int count, char **arguments) {
    SERVICE *service = NULL;
    const char *path = NULL;

    for (int i = 0; i + 1 < count; i++) {
        if (strcasecmp(arguments[i], "binPath=") == 0) {
            path = arguments[i + 1];
        }
    }
    for (ULONG i = 0; i < MAX_SERVICES && service == NULL; i++) {
        service = g_Services[i].Name[0] == '\0' ? &g_Services[i] : NULL;
    }
    if (Find(name) != NULL) {
        Fail(login, "CreateService", 1073);
    } else if (path == NULL || service == NULL || strlen(name) >= sizeof(service->Name) ||
               !DriveFile(path, service->File, sizeof(service->File))) {
        Fail(login, "CreateService", 87);
    } else {
        snprintf(service->Name, sizeof(service->Name), "%s", name);
        Say(login, "[SC] CreateService SUCCESS\r\n");
    }
}

static void StartService(LOGIN *login, SERVICE *service) {
    NTSTATUS status;

    if (service->Driver != NULL) {
        Fail(login, "StartService", 1056);
        return;
    }
    status = Start(service);
    if (!NT_SUCCESS(status)) {
        Fail(login, "StartService", RtlNtStatusToDosError(status));
        return;
    }
    State(login, service);
}

static void StopService(LOGIN *login, SERVICE *service) {
    if (service->Driver == NULL) {
        Fail(login, "ControlService", 1062);
        return;
    }
    service->Stopping = TRUE;
    State(login, service);
}

static void Delete(LOGIN *login, SERVICE *service) {
    if (service->Driver != NULL) {
        Fail(login, "DeleteService", 1072);
        return;
    }
    memset(service, 0, sizeof(*service));
    Say(login, "[SC] DeleteService SUCCESS\r\n");
}

void ServiceControl(LOGIN *login, int count, char **arguments) {
    const char *verb = count > 0 ? arguments[0] : "";
    const char *name = count > 1 ? arguments[1] : "";
    SERVICE *service;

    Lock();
    service = Find(name);
    if (count < 2) {
        ComplainTo(login, "usage: sc create|start|query|stop|delete NAME ...\r\n");
        login->Code = 1639;
    } else if (strcmp(verb, "create") == 0) {
        Create(login, name, count - 2, arguments + 2);
    } else if (service == NULL) {
        Fail(login, strcmp(verb, "query") == 0 ? "EnumQueryServicesStatus:OpenService" : "OpenService", 1060);
    } else if (strcmp(verb, "start") == 0) {
        StartService(login, service);
    } else if (strcmp(verb, "query") == 0) {
        State(login, service);
    } else if (strcmp(verb, "stop") == 0) {
        StopService(login, service);
    } else if (strcmp(verb, "delete") == 0) {
        Delete(login, service);
    } else {
        ComplainTo(login, "sc %s is not offered by a shim guest\r\n", verb);
        login->Code = 1639;
    }
    Unlock();
}

/* With the lock, which is let go meanwhile. A handle that was closed a moment ago lives until its last IRP is through. */
static BOOLEAN HandlesGo(SERVICE *service) {
    LARGE_INTEGER pause = {.QuadPart = -5 * 10000ll};

    for (ULONG tries = 0; tries < 400 && service->Driver != NULL && ShimDriverHandles(service->Driver) > 0; tries++) {
        Unlock();
        KeDelayExecutionThread(KernelMode, FALSE, &pause);
        Lock();
    }
    return service->Driver != NULL && ShimDriverHandles(service->Driver) == 0;
}

BOOLEAN ServiceReload(LOGIN *login, const char *name) {
    ULONG64 began = ShimNow();
    ULONG64 stopped = began;
    const char *failed = "stop";
    DWORD win32 = 1060;
    SERVICE *service;

    Lock();
    service = Find(name);
    if (service != NULL && service->Driver != NULL) {
        win32 = ERROR_BUSY; /* somebody has a handle: it goes on running */
        if (HandlesGo(service)) {
            service->Stopping = TRUE;
            TryUnload(service, FALSE);
            stopped = ShimNow();
            win32 = RtlNtStatusToDosError(Start(service));
            failed = win32 == 0 ? "" : "start";
        }
    }
    Unlock();
    Say(login, "{\"number\":1,\"stop_ms\":%u,\"start_ms\":%u,\"failed\":\"%s\",\"win32\":%u}\n",
        (ULONG)((stopped - began) / 1000000u), (ULONG)((ShimNow() - stopped) / 1000000u), failed, win32);
    return win32 == 0;
}

BOOLEAN ServiceRun(const char *name, const char *file) {
    SERVICE *service = &g_Services[0];
    NTSTATUS status;

    Lock();
    snprintf(service->Name, sizeof(service->Name), "%s", name);
    snprintf(service->File, sizeof(service->File), "%s", file);
    status = Start(service);
    Unlock();
    if (!NT_SUCCESS(status)) {
        fprintf(stderr, "wsklab-shim: the driver %s did not start: %08x\n", file, status);
    }
    return NT_SUCCESS(status);
}

void ServicesEnd(void) {
    Lock();
    for (ULONG i = 0; i < MAX_SERVICES; i++) {
        g_Services[i].Stopping = g_Services[i].Driver != NULL;
        TryUnload(&g_Services[i], TRUE);
    }
    Unlock();
}

const char *ServiceLastFile(void) {
    return g_LastFile;
}
