/* provision_service.c - services of user mode: how they start, and one of our own. See provision.h. */
#include "provision.h"

#include <winsvc.h>

#define CONFIG_LIMIT 8192u
#define LOOK_MS 200u
#define RESTART_MS 60000u

typedef struct SERVICES {
    SC_HANDLE(WINAPI *OpenManager)(LPCWSTR, LPCWSTR, DWORD);
    SC_HANDLE(WINAPI *Open)(SC_HANDLE, LPCWSTR, DWORD);
    SC_HANDLE(WINAPI *Create)
    (SC_HANDLE, LPCWSTR, LPCWSTR, DWORD, DWORD, DWORD, DWORD, LPCWSTR, LPCWSTR, LPDWORD, LPCWSTR, LPCWSTR, LPCWSTR);
    BOOL(WINAPI *Change)
    (SC_HANDLE, DWORD, DWORD, DWORD, LPCWSTR, LPCWSTR, LPDWORD, LPCWSTR, LPCWSTR, LPCWSTR, LPCWSTR);
    BOOL(WINAPI *Change2)(SC_HANDLE, DWORD, LPVOID);
    BOOL(WINAPI *Config)(SC_HANDLE, LPQUERY_SERVICE_CONFIGW, DWORD, LPDWORD);
    BOOL(WINAPI *Start)(SC_HANDLE, DWORD, LPCWSTR *);
    BOOL(WINAPI *Control)(SC_HANDLE, DWORD, LPSERVICE_STATUS);
    BOOL(WINAPI *Query)(SC_HANDLE, LPSERVICE_STATUS);
    BOOL(WINAPI *Close)(SC_HANDLE);
    SC_HANDLE manager;
} SERVICES;

static DWORD OpenServices(SERVICES *services)
{
    HMODULE library = LoadLibraryW(L"advapi32.dll");

    if (library == NULL) {
        return GetLastError();
    }
    services->OpenManager = (void *)GetProcAddress(library, "OpenSCManagerW");
    services->Open = (void *)GetProcAddress(library, "OpenServiceW");
    services->Create = (void *)GetProcAddress(library, "CreateServiceW");
    services->Change = (void *)GetProcAddress(library, "ChangeServiceConfigW");
    services->Change2 = (void *)GetProcAddress(library, "ChangeServiceConfig2W");
    services->Config = (void *)GetProcAddress(library, "QueryServiceConfigW");
    services->Start = (void *)GetProcAddress(library, "StartServiceW");
    services->Control = (void *)GetProcAddress(library, "ControlService");
    services->Query = (void *)GetProcAddress(library, "QueryServiceStatus");
    services->Close = (void *)GetProcAddress(library, "CloseServiceHandle");
    services->manager = services->OpenManager(NULL, NULL, SC_MANAGER_CONNECT | SC_MANAGER_CREATE_SERVICE);
    return services->manager == NULL ? GetLastError() : 0;
}

static const char *StartWord(DWORD start)
{
    switch (start) {
    case SERVICE_AUTO_START:
        return "automatic";
    case SERVICE_DEMAND_START:
        return "on demand";
    case SERVICE_DISABLED:
        return "disabled";
    default:
        return "at boot";
    }
}

/* The start type and, into *path (to be freed), the command; a Win32 code. */
static DWORD ReadConfig(const SERVICES *services, SC_HANDLE service, DWORD *start, char **path)
{
    QUERY_SERVICE_CONFIGW *config = Allocate(CONFIG_LIMIT);
    DWORD needed = 0;
    DWORD win32 = ERROR_NOT_ENOUGH_MEMORY;

    if (config != NULL) {
        win32 = services->Config(service, config, CONFIG_LIMIT, &needed) ? 0 : GetLastError();
    }
    if (win32 == 0) {
        *start = config->dwStartType;
        if (path != NULL) {
            *path = Utf8FromUtf16(config->lpBinaryPathName);
        }
    }
    Free(config);
    return win32;
}

static void ProvisionStart(REPORT *report, const SERVICES *services, const START_TYPE *wanted)
{
    WCHAR *name = Wide(wanted->name);
    SC_HANDLE service = name == NULL ? NULL
                                     : services->Open(services->manager, name, SERVICE_QUERY_CONFIG | SERVICE_CHANGE_CONFIG);
    DWORD win32 = service == NULL ? GetLastError() : 0;
    DWORD before = 0, after = 0;
    const char *tried = "open the service";

    Free(name);
    if (win32 == ERROR_SERVICE_DOES_NOT_EXIST && wanted->optional) {
        ReportSetting(report, wanted->name, StartWord(wanted->start), NULL, NULL, 1, "there is no such service");
        return;
    }
    if (win32 == 0) {
        tried = "read how it starts";
        win32 = ReadConfig(services, service, &before, NULL);
    }
    if (win32 == 0 && before != wanted->start && !report->check) {
        tried = "change how it starts";
        win32 = services->Change(service, SERVICE_NO_CHANGE, wanted->start, SERVICE_NO_CHANGE, NULL, NULL, NULL, NULL, NULL,
                                 NULL, NULL)
                    ? 0
                    : GetLastError();
        report->changed |= win32 == 0;
    }
    if (win32 == 0) {
        tried = "read it back";
        win32 = ReadConfig(services, service, &after, NULL);
    }
    if (win32 != 0) {
        ReportError(report, wanted->name, StartWord(wanted->start), tried, win32);
    } else {
        ReportSetting(report, wanted->name, StartWord(wanted->start), StartWord(before), StartWord(after),
                      after == wanted->start, NULL);
    }
    if (service != NULL) {
        services->Close(service);
    }
}

void ProvisionServices(REPORT *report, const START_TYPE *wanted, size_t count)
{
    SERVICES services;
    DWORD win32 = OpenServices(&services);

    if (win32 != 0) {
        ReportError(report, "services", "", "open the service manager", win32);
        return;
    }
    for (size_t index = 0; index < count; index += 1) {
        ProvisionStart(report, &services, &wanted[index]);
    }
    services.Close(services.manager);
}

static void RestartAfterFailure(const SERVICES *services, SC_HANDLE service)
{
    SC_ACTION action = {.Type = SC_ACTION_RESTART, .Delay = RESTART_MS};
    SERVICE_FAILURE_ACTIONSW actions = {.dwResetPeriod = 86400, .cActions = 1, .lpsaActions = &action};

    /* Wine does not know it; on Windows a refusal is seen in the service's properties, and harms nothing here. */
    services->Change2(service, SERVICE_CONFIG_FAILURE_ACTIONS, &actions);
}

void ProvisionOwnService(REPORT *report, const char *name, const char *display, const char *command)
{
    SERVICES services;
    WCHAR *wideName = Wide(name), *wideDisplay = Wide(display), *wideCommand = Wide(command);
    DWORD rights = SERVICE_QUERY_CONFIG | SERVICE_CHANGE_CONFIG | SERVICE_START;
    DWORD win32 = wideName == NULL || wideDisplay == NULL || wideCommand == NULL ? ERROR_NOT_ENOUGH_MEMORY
                                                                                 : OpenServices(&services);
    const char *tried = "open the service manager";
    char *before = NULL, *after = NULL;
    SC_HANDLE service = NULL;
    DWORD start = 0;

    if (win32 == 0) {
        service = services.Open(services.manager, wideName, rights);
        if (service != NULL) {
            tried = "read the service";
            win32 = ReadConfig(&services, service, &start, &before);
        } else if (report->check) {
            ReportSetting(report, name, command, NULL, NULL, 0, "there is no such service");
            goto done;
        } else {
            tried = "create the service";
            service = services.Create(services.manager, wideName, wideDisplay, rights, SERVICE_WIN32_OWN_PROCESS,
                                      SERVICE_AUTO_START, SERVICE_ERROR_NORMAL, wideCommand, NULL, NULL, NULL, NULL, NULL);
            win32 = service == NULL ? GetLastError() : 0;
            report->changed |= win32 == 0;
        }
    }
    if (win32 == 0 && !report->check) {
        if (before != NULL && (!SameText(before, command) || start != SERVICE_AUTO_START)) {
            tried = "change the service";
            win32 = services.Change(service, SERVICE_NO_CHANGE, SERVICE_AUTO_START, SERVICE_NO_CHANGE, wideCommand, NULL,
                                    NULL, NULL, NULL, NULL, NULL)
                        ? 0
                        : GetLastError();
            report->changed |= win32 == 0;
        }
        RestartAfterFailure(&services, service);
    }
    if (win32 == 0) {
        tried = "read the service back";
        win32 = ReadConfig(&services, service, &start, &after);
    }
    if (win32 != 0) {
        ReportError(report, name, command, tried, win32);
    } else {
        ReportSetting(report, name, command, before, after,
                      after != NULL && SameText(after, command) && start == SERVICE_AUTO_START, NULL);
    }
done:
    if (service != NULL) {
        services.Close(service);
    }
    Free(before);
    Free(after);
    Free(wideName);
    Free(wideDisplay);
    Free(wideCommand);
}

static const char *StateWord(DWORD state)
{
    return state == SERVICE_RUNNING ? "running" : state == SERVICE_STOPPED ? "stopped" : "on its way";
}

/* Waits until the service is in a state, or the time is over; a Win32 code. */
static DWORD AwaitState(const SERVICES *services, SC_HANDLE service, DWORD state, ULONGLONG end, SERVICE_STATUS *status)
{
    while (services->Query(service, status)) {
        if (status->dwCurrentState == state || GetTickCount64() >= end) {
            return 0;
        }
        Sleep(LOOK_MS);
    }
    return GetLastError();
}

void ProvisionStarted(REPORT *report, const char *name, int restart, unsigned seconds)
{
    ULONGLONG end = GetTickCount64() + seconds * 1000ull;
    SERVICES services;
    WCHAR *wide = Wide(name);
    SERVICE_STATUS before = {0}, after = {0};
    SC_HANDLE service = NULL;
    DWORD win32 = wide == NULL ? ERROR_NOT_ENOUGH_MEMORY : OpenServices(&services);
    const char *tried = "open the service";

    if (win32 == 0) {
        service = services.Open(services.manager, wide, SERVICE_START | SERVICE_STOP | SERVICE_QUERY_STATUS);
        win32 = service == NULL || !services.Query(service, &before) ? GetLastError() : 0;
        after = before;
    }
    if (win32 == 0 && restart && before.dwCurrentState == SERVICE_RUNNING && !report->check) {
        tried = "stop the service";
        win32 = services.Control(service, SERVICE_CONTROL_STOP, &after) ? 0 : GetLastError();
        win32 = win32 != 0 ? win32 : AwaitState(&services, service, SERVICE_STOPPED, end, &after);
    }
    if (win32 == 0 && after.dwCurrentState == SERVICE_STOPPED && !report->check) {
        tried = "start the service";
        win32 = services.Start(service, 0, NULL) ? 0 : GetLastError();
        report->changed |= win32 == 0;
        win32 = win32 != 0 ? win32 : AwaitState(&services, service, SERVICE_RUNNING, end, &after);
    }
    if (win32 != 0) {
        ReportError(report, name, "running", tried, win32);
    } else {
        ReportSetting(report, name, "running", StateWord(before.dwCurrentState), StateWord(after.dwCurrentState),
                      after.dwCurrentState == SERVICE_RUNNING, NULL);
    }
    if (service != NULL) {
        services.Close(service);
    }
    Free(wide);
}
