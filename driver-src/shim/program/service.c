/*
 * service.c: kernel services: `sc create`, `start`, `query`, `stop`, `delete`.
 *
 * The words and numbers are those of Windows' sc.exe as lab/wsklab/service.py reads them.
 */
#include <stdarg.h>
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

static void Append(char *text, size_t size, const char *format, va_list arguments) {
    size_t used = strlen(text);
    vsnprintf(text + used, size - used, format, arguments);
}

void OutputSay(OUTPUT *output, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    Append(output->Out, sizeof(output->Out), format, arguments);
    va_end(arguments);
}

void OutputComplain(OUTPUT *output, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    Append(output->Error, sizeof(output->Error), format, arguments);
    va_end(arguments);
}

static SERVICE *Find(const char *name) {
    for (ULONG i = 0; i < MAX_SERVICES; i++) {
        if (g_Services[i].Name[0] != '\0' && strcmp(g_Services[i].Name, name) == 0) {
            return &g_Services[i];
        }
    }
    return NULL;
}

static void Fail(OUTPUT *output, const char *function, DWORD win32) {
    OutputSay(output, "[SC] %s FAILED %u:\r\n", function, win32);
    output->Code = (int)win32;
}

/* A driver that waits for its handles goes as soon as they are closed. */
static void TryUnload(SERVICE *service, BOOLEAN force) {
    if (service->Driver != NULL && service->Stopping && NT_SUCCESS(ShimDriverUnload(service->Driver, force))) {
        service->Driver = NULL;
        service->Stopping = FALSE;
    }
}

static void State(OUTPUT *output, SERVICE *service) {
    TryUnload(service, FALSE);
    OutputSay(output, "SERVICE_NAME: %s\r\n        TYPE               : 1  KERNEL_DRIVER\r\n", service->Name);
    OutputSay(output, "        STATE              : %s\r\n        WIN32_EXIT_CODE    : 0  (0x0)\r\n",
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

static void Create(OUTPUT *output, const char *name, int count, char **arguments) {
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
        Fail(output, "CreateService", 1073);
    } else if (path == NULL || service == NULL || strlen(name) >= sizeof(service->Name) ||
               !DriveFile(path, service->File, sizeof(service->File))) {
        Fail(output, "CreateService", 87);
    } else {
        snprintf(service->Name, sizeof(service->Name), "%s", name);
        OutputSay(output, "[SC] CreateService SUCCESS\r\n");
    }
}

static void StartService(OUTPUT *output, SERVICE *service) {
    NTSTATUS status;

    if (service->Driver != NULL) {
        Fail(output, "StartService", 1056);
        return;
    }
    status = Start(service);
    if (!NT_SUCCESS(status)) {
        Fail(output, "StartService", RtlNtStatusToDosError(status));
        return;
    }
    State(output, service);
}

static void StopService(OUTPUT *output, SERVICE *service) {
    if (service->Driver == NULL) {
        Fail(output, "ControlService", 1062);
        return;
    }
    service->Stopping = TRUE;
    State(output, service);
}

static void Delete(OUTPUT *output, SERVICE *service) {
    if (service->Driver != NULL) {
        Fail(output, "DeleteService", 1072);
        return;
    }
    memset(service, 0, sizeof(*service));
    OutputSay(output, "[SC] DeleteService SUCCESS\r\n");
}

void ServiceControl(OUTPUT *output, int count, char **arguments) {
    const char *verb = count > 0 ? arguments[0] : "";
    const char *name = count > 1 ? arguments[1] : "";
    SERVICE *service;

    Lock();
    service = Find(name);
    if (count < 2) {
        OutputComplain(output, "usage: sc create|start|query|stop|delete NAME ...\r\n");
        output->Code = 1639;
    } else if (strcmp(verb, "create") == 0) {
        Create(output, name, count - 2, arguments + 2);
    } else if (service == NULL) {
        Fail(output, strcmp(verb, "query") == 0 ? "EnumQueryServicesStatus:OpenService" : "OpenService", 1060);
    } else if (strcmp(verb, "start") == 0) {
        StartService(output, service);
    } else if (strcmp(verb, "query") == 0) {
        State(output, service);
    } else if (strcmp(verb, "stop") == 0) {
        StopService(output, service);
    } else if (strcmp(verb, "delete") == 0) {
        Delete(output, service);
    } else {
        OutputComplain(output, "sc %s is not offered by a shim guest\r\n", verb);
        output->Code = 1639;
    }
    Unlock();
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
