/* provision_registry.c - values of the machine's registry. See provision.h. */
#include "provision.h"

#define VALUE_LIMIT 8192u

typedef struct REGISTRY {
    LSTATUS(WINAPI *Create)(HKEY, LPCWSTR, DWORD, LPWSTR, DWORD, REGSAM, LPSECURITY_ATTRIBUTES, PHKEY, LPDWORD);
    LSTATUS(WINAPI *Open)(HKEY, LPCWSTR, DWORD, REGSAM, PHKEY);
    LSTATUS(WINAPI *Query)(HKEY, LPCWSTR, LPDWORD, LPDWORD, LPBYTE, LPDWORD);
    LSTATUS(WINAPI *Set)(HKEY, LPCWSTR, DWORD, DWORD, const BYTE *, DWORD);
    LSTATUS(WINAPI *Delete)(HKEY, LPCWSTR);
    LSTATUS(WINAPI *Close)(HKEY);
} REGISTRY;

typedef struct DATA {
    DWORD type;
    DWORD size;
    BYTE bytes[VALUE_LIMIT];
} DATA;

static int LoadRegistry(REGISTRY *registry)
{
    HMODULE library = LoadLibraryW(L"advapi32.dll");

    if (library == NULL) {
        return 0;
    }
    registry->Create = (void *)GetProcAddress(library, "RegCreateKeyExW");
    registry->Open = (void *)GetProcAddress(library, "RegOpenKeyExW");
    registry->Query = (void *)GetProcAddress(library, "RegQueryValueExW");
    registry->Set = (void *)GetProcAddress(library, "RegSetValueExW");
    registry->Delete = (void *)GetProcAddress(library, "RegDeleteValueW");
    registry->Close = (void *)GetProcAddress(library, "RegCloseKey");
    return registry->Create != NULL && registry->Open != NULL && registry->Query != NULL && registry->Set != NULL &&
           registry->Delete != NULL && registry->Close != NULL;
}

/* What the value should hold, as the registry has it; 0 when there is no memory or the text is too long. */
static int Encode(const REGISTRY_VALUE *value, DATA *data)
{
    WCHAR *text;
    size_t length;

    data->type = value->type;
    data->size = 0;
    if (value->type == REG_NONE) {
        return 1;
    }
    if (value->type == REG_DWORD) {
        memcpy(data->bytes, &value->number, sizeof(value->number));
        data->size = sizeof(value->number);
        return 1;
    }
    text = Wide(value->text);
    if (text == NULL) {
        return 0;
    }
    for (length = 0; text[length] != 0; length += 1) {
        if (value->type == REG_MULTI_SZ && text[length] == L'\n') {
            text[length] = 1; /* a mark: zeros would hide the length */
        }
    }
    data->size = (DWORD)((length + (value->type == REG_MULTI_SZ ? 2 : 1)) * sizeof(WCHAR));
    if (data->size > VALUE_LIMIT) {
        Free(text);
        return 0;
    }
    memset(data->bytes, 0, data->size);
    memcpy(data->bytes, text, length * sizeof(WCHAR));
    for (size_t index = 0; value->type == REG_MULTI_SZ && index < length; index += 1) {
        if (((WCHAR *)(void *)data->bytes)[index] == 1) {
            ((WCHAR *)(void *)data->bytes)[index] = 0;
        }
    }
    Free(text);
    return 1;
}

/* A value as text for the report, to be freed; NULL when it is not there. */
static char *Show(const DATA *data)
{
    char number[24];
    TEXT text;
    WCHAR *wide;
    char *shown;
    size_t count = data->size / sizeof(WCHAR);

    if (data->type == REG_NONE) {
        return NULL;
    }
    if (data->type == REG_DWORD && data->size == sizeof(DWORD)) {
        DWORD value;
        char *copy = Allocate(sizeof(number));
        memcpy(&value, data->bytes, sizeof(value));
        TextStart(&text, number, sizeof(number));
        TextAppendUnsigned(&text, value);
        if (copy != NULL) {
            memcpy(copy, number, text.length);
        }
        return copy;
    }
    wide = Allocate((count + 1) * sizeof(WCHAR));
    if (wide == NULL) {
        return NULL;
    }
    memcpy(wide, data->bytes, count * sizeof(WCHAR));
    for (size_t index = 0; data->type == REG_MULTI_SZ && index + 2 < count; index += 1) {
        if (wide[index] == 0) {
            wide[index] = L'\n';
        }
    }
    shown = Utf8FromUtf16(wide);
    Free(wide);
    return shown;
}

static DWORD ReadValue(const REGISTRY *registry, const WCHAR *key, const WCHAR *name, DATA *data)
{
    HKEY handle;
    DWORD win32 = (DWORD)registry->Open(HKEY_LOCAL_MACHINE, key, 0, KEY_QUERY_VALUE | KEY_WOW64_64KEY, &handle);

    data->type = REG_NONE;
    data->size = VALUE_LIMIT;
    if (win32 == 0) {
        win32 = (DWORD)registry->Query(handle, name, NULL, &data->type, data->bytes, &data->size);
        registry->Close(handle);
    }
    if (win32 != 0) {
        data->type = REG_NONE;
        data->size = 0;
    }
    return win32 == ERROR_FILE_NOT_FOUND ? 0 : win32;
}

static DWORD WriteValue(const REGISTRY *registry, const WCHAR *key, const WCHAR *name, const DATA *data)
{
    HKEY handle;
    DWORD win32 =
        (DWORD)registry->Create(HKEY_LOCAL_MACHINE, key, 0, NULL, 0, KEY_SET_VALUE | KEY_WOW64_64KEY, NULL, &handle, NULL);

    if (win32 != 0) {
        return win32;
    }
    win32 = data->type == REG_NONE ? (DWORD)registry->Delete(handle, name)
                                   : (DWORD)registry->Set(handle, name, 0, data->type, data->bytes, data->size);
    registry->Close(handle);
    return win32;
}

static int Same(const DATA *left, const DATA *right)
{
    return left->type == right->type && left->size == right->size && memcmp(left->bytes, right->bytes, left->size) == 0;
}

static void ProvisionValue(REPORT *report, const REGISTRY *registry, const REGISTRY_VALUE *value, DATA data[3])
{
    WCHAR *key = Wide(value->key);
    WCHAR *name = Wide(value->name);
    char *wanted = NULL, *before = NULL, *after = NULL;
    const char *tried = "prepare the value";
    DWORD win32 = ERROR_NOT_ENOUGH_MEMORY;

    if (key != NULL && name != NULL && Encode(value, &data[0])) {
        tried = "read the value";
        win32 = ReadValue(registry, key, name, &data[1]);
        if (win32 == 0 && !report->check && !Same(&data[0], &data[1])) {
            tried = "write the value";
            win32 = WriteValue(registry, key, name, &data[0]);
            report->changed |= win32 == 0;
        }
        if (win32 == 0) {
            tried = "read the value back";
            win32 = ReadValue(registry, key, name, &data[2]);
        }
    }
    if (win32 != 0) {
        ReportError(report, value->name, value->key, tried, win32);
    } else {
        wanted = Show(&data[0]);
        before = Show(&data[1]);
        after = Show(&data[2]);
        ReportSetting(report, value->name, wanted == NULL ? "(not there)" : wanted, before, after,
                      Same(&data[0], &data[2]), NULL);
    }
    Free(wanted);
    Free(before);
    Free(after);
    Free(key);
    Free(name);
}

void ProvisionRegistry(REPORT *report, const REGISTRY_VALUE *values, size_t count)
{
    REGISTRY registry;
    DATA *data = Allocate(3 * sizeof(DATA)); /* wanted, before, after: too large for a stack without probes */

    if (data == NULL || !LoadRegistry(&registry)) {
        ReportError(report, "registry", "", "load advapi32", GetLastError());
        Free(data);
        return;
    }
    for (size_t index = 0; index < count; index += 1) {
        ProvisionValue(report, &registry, &values[index], data);
    }
    Free(data);
}
