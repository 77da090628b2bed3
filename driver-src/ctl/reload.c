/* reload.c - `wskctl reload`: unload a driver's service and load it again, some times; one line of JSON per time. */
#include "client.h"
#include "verbs.h"

#include <winsvc.h>

/* How long one step may take, and how often its state is looked at. */
#define STEP_MS 10000u
#define LOOK_MS 5u
#define MAX_TIMES 1000u

static const char Usage[] = "usage: wskctl reload SERVICE TIMES   (our own driver is quiesced first)\n";

/* advapi32 is loaded only here: every DLL costs each start of wskctl under an emulated processor. */
typedef struct MANAGER {
    SC_HANDLE(WINAPI *OpenManager)(LPCWSTR, LPCWSTR, DWORD);
    SC_HANDLE(WINAPI *OpenService)(SC_HANDLE, LPCWSTR, DWORD);
    BOOL(WINAPI *Control)(SC_HANDLE, DWORD, LPSERVICE_STATUS);
    BOOL(WINAPI *Query)(SC_HANDLE, LPSERVICE_STATUS);
    BOOL(WINAPI *Start)(SC_HANDLE, DWORD, LPCWSTR *);
    SC_HANDLE service;
} MANAGER;

static DWORD OpenSuch(MANAGER *manager, const char *name)
{
    HMODULE library = LoadLibraryW(L"advapi32.dll");
    WCHAR *wide = Utf16FromUtf8(name, strlen(name));
    SC_HANDLE managerHandle;

    if (library == NULL || wide == NULL) {
        return ERROR_NOT_ENOUGH_MEMORY;
    }
    manager->OpenManager = (void *)GetProcAddress(library, "OpenSCManagerW");
    manager->OpenService = (void *)GetProcAddress(library, "OpenServiceW");
    manager->Control = (void *)GetProcAddress(library, "ControlService");
    manager->Query = (void *)GetProcAddress(library, "QueryServiceStatus");
    manager->Start = (void *)GetProcAddress(library, "StartServiceW");
    managerHandle = manager->OpenManager(NULL, NULL, SC_MANAGER_CONNECT);
    if (managerHandle == NULL) {
        return GetLastError();
    }
    manager->service = manager->OpenService(managerHandle, wide, SERVICE_START | SERVICE_STOP | SERVICE_QUERY_STATUS);
    Free(wide);
    return manager->service == NULL ? GetLastError() : 0;
}

/* Waits for a state of the service; a Win32 code. */
static DWORD Await(MANAGER *manager, DWORD state)
{
    ULONGLONG end = GetTickCount64() + STEP_MS;
    SERVICE_STATUS status;

    for (;;) {
        if (!manager->Query(manager->service, &status)) {
            return GetLastError();
        }
        if (status.dwCurrentState == state) {
            return 0;
        }
        if (GetTickCount64() > end) {
            return ERROR_SERVICE_REQUEST_TIMEOUT;
        }
        Sleep(LOOK_MS);
    }
}

/* Nobody may use the driver: it cannot refuse its unload. A driver without our device cannot be asked. */
static DWORD Quiesce(void)
{
    QUIESCED quiesced;
    CLIENT client;
    NTSTATUS status;
    DWORD win32 = ClientOpen(&client);

    if (win32 != 0) {
        return win32 == ERROR_FILE_NOT_FOUND ? 0 : win32;
    }
    status = ClientQuiesce(&client, STEP_MS, &quiesced);
    ClientClose(&client);
    return status < 0 || quiesced.result.busy != 0 ? ERROR_BUSY : 0;
}

static DWORD Stop(MANAGER *manager)
{
    SERVICE_STATUS status;

    if (!manager->Control(manager->service, SERVICE_CONTROL_STOP, &status)) {
        return GetLastError();
    }
    return Await(manager, SERVICE_STOPPED);
}

static DWORD Start(MANAGER *manager)
{
    if (!manager->Start(manager->service, 0, NULL)) {
        return GetLastError();
    }
    return Await(manager, SERVICE_RUNNING);
}

/* One unload and load; the step that failed, or NULL, and the times in milliseconds. */
static const char *Cycle(MANAGER *manager, uint64_t *stop_ms, uint64_t *start_ms, DWORD *win32)
{
    ULONGLONG began;

    *win32 = Quiesce();
    if (*win32 != 0) {
        return "quiesce";
    }
    began = GetTickCount64();
    *win32 = Stop(manager);
    *stop_ms = GetTickCount64() - began;
    if (*win32 != 0) {
        return "stop";
    }
    began = GetTickCount64();
    *win32 = Start(manager);
    *start_ms = GetTickCount64() - began;
    return *win32 != 0 ? "start" : NULL;
}

static void PrintCycle(uint64_t number, uint64_t stop_ms, uint64_t start_ms, const char *failed, DWORD win32)
{
    char buffer[256];
    TEXT line;

    TextStart(&line, buffer, sizeof(buffer));
    TextAppendString(&line, "{");
    TextMemberUnsigned(&line, "number", number);
    TextMemberUnsigned(&line, "stop_ms", stop_ms);
    TextMemberUnsigned(&line, "start_ms", start_ms);
    TextMemberString(&line, "failed", failed == NULL ? "" : failed);
    TextMemberUnsigned(&line, "win32", win32);
    TextAppendString(&line, "}\n");
    Print(line.data, line.length);
}

int VerbReload(int count, char **arguments)
{
    static MANAGER manager;
    uint64_t times;
    uint64_t number;
    DWORD win32;

    if (count != 2 || !ParseNumber(arguments[1], MAX_TIMES, &times)) {
        Complain(Usage);
        return EXIT_USAGE;
    }
    win32 = OpenSuch(&manager, arguments[0]);
    if (win32 != 0) {
        PrintCycle(0, 0, 0, "open", win32);
        return EXIT_FAILED;
    }
    for (number = 1; number <= times; number += 1) {
        uint64_t stop_ms = 0;
        uint64_t start_ms = 0;
        const char *failed = Cycle(&manager, &stop_ms, &start_ms, &win32);
        PrintCycle(number, stop_ms, start_ms, failed, win32);
        if (failed != NULL) {
            return EXIT_FAILED;
        }
    }
    return EXIT_OK;
}
