/* provision_file.c - files, folders and their access lists. See provision.h. */
#include "provision.h"

#define FILE_LIMIT (16u << 20)
#define PATH_LIMIT 1024u
#define DACL 4u /* DACL_SECURITY_INFORMATION */
#define PROTECTED_DACL 0x80000000u

typedef struct SECURITY {
    BOOL(WINAPI *FromText)(LPCWSTR, DWORD, PSECURITY_DESCRIPTOR *, PULONG);
    BOOL(WINAPI *ToText)(PSECURITY_DESCRIPTOR, DWORD, SECURITY_INFORMATION, LPWSTR *, PULONG);
    BOOL(WINAPI *Get)(LPCWSTR, SECURITY_INFORMATION, PSECURITY_DESCRIPTOR, DWORD, LPDWORD);
    BOOL(WINAPI *Set)(LPCWSTR, SECURITY_INFORMATION, PSECURITY_DESCRIPTOR);
} SECURITY;

void *ReadWhole(const WCHAR *path, size_t limit, size_t *size, DWORD *win32)
{
    HANDLE file = CreateFileW(path, GENERIC_READ, FILE_SHARE_READ, NULL, OPEN_EXISTING, 0, NULL);
    LARGE_INTEGER length = {0};
    char *data = NULL;
    DWORD got = 0;

    *win32 = 0;
    if (file == INVALID_HANDLE_VALUE || !GetFileSizeEx(file, &length)) {
        *win32 = GetLastError();
    } else if (length.QuadPart > (LONGLONG)limit) {
        *win32 = ERROR_FILE_TOO_LARGE;
    } else if ((data = Allocate((size_t)length.QuadPart + 1)) == NULL) {
        *win32 = ERROR_NOT_ENOUGH_MEMORY;
    } else if (!ReadFile(file, data, (DWORD)length.QuadPart, &got, NULL) || got != (DWORD)length.QuadPart) {
        *win32 = GetLastError();
        Free(data);
        data = NULL;
    }
    *size = got;
    if (file != INVALID_HANDLE_VALUE) {
        CloseHandle(file);
    }
    return data;
}

/* Every folder above a path. One that exists is fine; one that cannot be made shows when the file is written. */
static void MakeFoldersAbove(const WCHAR *path)
{
    WCHAR copy[PATH_LIMIT];
    size_t index;

    for (index = 0; path[index] != 0 && index + 1 < PATH_LIMIT; index += 1) {
        copy[index] = path[index];
        if (path[index] == L'\\' && index > 2) {
            copy[index] = 0;
            CreateDirectoryW(copy, NULL);
            copy[index] = L'\\';
        }
    }
}

static DWORD WriteWhole(const WCHAR *path, const void *content, size_t size)
{
    HANDLE file;
    DWORD win32 = 0;
    DWORD written = 0;

    MakeFoldersAbove(path);
    file = CreateFileW(path, GENERIC_WRITE, 0, NULL, CREATE_ALWAYS, FILE_ATTRIBUTE_NORMAL, NULL);
    if (file == INVALID_HANDLE_VALUE) {
        return GetLastError();
    }
    if (!WriteFile(file, content, (DWORD)size, &written, NULL) || written != size) {
        win32 = GetLastError();
    }
    CloseHandle(file);
    return win32;
}

static int HasContent(const WCHAR *path, const void *content, size_t size, DWORD *win32)
{
    size_t length = 0;
    void *data = ReadWhole(path, FILE_LIMIT, &length, win32);
    int same = data != NULL && length == size && memcmp(data, content, size) == 0;

    Free(data);
    return same;
}

void ProvisionFile(REPORT *report, const WCHAR *path, const void *content, size_t size)
{
    char *name = Utf8FromUtf16(path);
    DWORD win32 = 0;
    int before = HasContent(path, content, size, &win32);
    const char *was = before ? "as wanted" : win32 == 0 ? "another content" : NULL;
    int after = before;

    win32 = 0;
    if (!before && !report->check) {
        win32 = WriteWhole(path, content, size);
        report->changed |= win32 == 0;
        if (win32 == 0) {
            after = HasContent(path, content, size, &win32);
        }
    }
    if (win32 != 0) {
        ReportError(report, name == NULL ? "file" : name, "its content", "write the file", win32);
    } else {
        ReportSetting(report, name == NULL ? "file" : name, "as wanted", was, after ? "as wanted" : was, after, NULL);
    }
    Free(name);
}

static int LoadSecurity(SECURITY *security)
{
    HMODULE library = LoadLibraryW(L"advapi32.dll");

    if (library == NULL) {
        return 0;
    }
    security->FromText = (void *)GetProcAddress(library, "ConvertStringSecurityDescriptorToSecurityDescriptorW");
    security->ToText = (void *)GetProcAddress(library, "ConvertSecurityDescriptorToStringSecurityDescriptorW");
    security->Get = (void *)GetProcAddress(library, "GetFileSecurityW");
    security->Set = (void *)GetProcAddress(library, "SetFileSecurityW");
    return security->FromText != NULL && security->ToText != NULL && security->Get != NULL && security->Set != NULL;
}

/* The file's DACL as SDDL, to be freed; NULL and a Win32 code. */
static char *ReadAccess(const SECURITY *security, const WCHAR *path, DWORD *win32)
{
    DWORD needed = 0;
    void *descriptor = NULL;
    WCHAR *text = NULL;
    char *shown = NULL;

    security->Get(path, DACL, NULL, 0, &needed);
    *win32 = GetLastError();
    if (*win32 != ERROR_INSUFFICIENT_BUFFER || (descriptor = Allocate(needed)) == NULL) {
        return NULL;
    }
    *win32 = 0;
    if (!security->Get(path, DACL, descriptor, needed, &needed) || !security->ToText(descriptor, 1, DACL, &text, NULL)) {
        *win32 = GetLastError();
    } else {
        shown = Utf8FromUtf16(text);
        LocalFree(text);
    }
    Free(descriptor);
    return shown;
}

/*
 * What is wanted, in the words that Windows itself uses for it: the text is set and read once more through a descriptor,
 * because one list can be written in several ways. Flags of inheritance that only a stored list has are left out.
 */
static int SameAccess(const char *stored, const char *wanted)
{
    const char *left = stored == NULL ? NULL : strchr(stored, '(');
    const char *right = wanted == NULL ? NULL : strchr(wanted, '(');

    return left != NULL && right != NULL && SameText(left, right) && stored[0] == 'D' && stored[1] == ':' && stored[2] == 'P';
}

void ProvisionAccess(REPORT *report, const WCHAR *path, const char *sddl)
{
    SECURITY security;
    char *name = Utf8FromUtf16(path);
    const char *shown = name == NULL ? "access" : name;
    WCHAR *wide = Wide(sddl);
    PSECURITY_DESCRIPTOR descriptor = NULL;
    char *before = NULL, *after = NULL;
    const char *tried = "load advapi32";
    DWORD win32 = wide != NULL && LoadSecurity(&security) ? 0 : ERROR_PROC_NOT_FOUND;

    if (win32 == 0) {
        tried = "understand the access list";
        win32 = security.FromText(wide, 1, &descriptor, NULL) ? 0 : GetLastError();
    }
    if (win32 == 0) {
        tried = "read the access list";
        before = ReadAccess(&security, path, &win32);
    }
    if (win32 == 0 && !report->check && !SameAccess(before, sddl)) {
        tried = "change the access list";
        win32 = security.Set(path, DACL | PROTECTED_DACL, descriptor) ? 0 : GetLastError();
        report->changed |= win32 == 0;
    }
    if (win32 == 0) {
        tried = "read the access list back";
        after = ReadAccess(&security, path, &win32);
    }
    if (win32 != 0) {
        ReportError(report, shown, sddl, tried, win32);
    } else {
        ReportSetting(report, shown, sddl, before, after, SameAccess(after, sddl), NULL);
    }
    if (descriptor != NULL) {
        LocalFree(descriptor);
    }
    Free(before);
    Free(after);
    Free(wide);
    Free(name);
}

void ProvisionGone(REPORT *report, const WCHAR *path)
{
    char *name = Utf8FromUtf16(path);
    int was = GetFileAttributesW(path) != INVALID_FILE_ATTRIBUTES;
    int is = was;

    if (was && !report->check) {
        report->changed |= DeleteFileW(path) != 0;
        is = GetFileAttributesW(path) != INVALID_FILE_ATTRIBUTES;
    }
    ReportSetting(report, name == NULL ? "file" : name, "(not there)", was ? "there" : NULL, is ? "there" : NULL, !is,
                  is && !report->check ? "it cannot be deleted" : NULL);
    Free(name);
}

static int Join(WCHAR *target, const WCHAR *folder, const WCHAR *name)
{
    size_t used = 0;

    for (; folder[used] != 0; used += 1) {
        if (used + 2 >= PATH_LIMIT) {
            return 0;
        }
        target[used] = folder[used];
    }
    target[used++] = L'\\';
    for (size_t index = 0; name[index] != 0; index += 1) {
        if (used + 1 >= PATH_LIMIT) {
            return 0;
        }
        target[used++] = name[index];
    }
    target[used] = 0;
    return 1;
}

static int IsDots(const WCHAR *name)
{
    return name[0] == L'.' && (name[1] == 0 || (name[1] == L'.' && name[2] == 0));
}

/* Files that differ in size or are missing are copied; returns a Win32 code and counts them. */
static DWORD CopyFolder(const WCHAR *from, const WCHAR *to, int check, unsigned *differing)
{
    WIN32_FIND_DATAW *found = Allocate(sizeof(*found) + 3 * PATH_LIMIT * sizeof(WCHAR));
    WCHAR *pattern = (WCHAR *)(found + 1);
    WCHAR *source = pattern + PATH_LIMIT;
    WCHAR *target = source + PATH_LIMIT;
    HANDLE search;
    DWORD win32 = 0;

    if (found == NULL) {
        return ERROR_NOT_ENOUGH_MEMORY;
    }
    if (!Join(pattern, from, L"*") || (search = FindFirstFileW(pattern, found)) == INVALID_HANDLE_VALUE) {
        win32 = GetLastError();
        Free(found);
        return win32;
    }
    if (!check) {
        CreateDirectoryW(to, NULL);
    }
    do {
        WIN32_FILE_ATTRIBUTE_DATA there = {0};
        if (IsDots(found->cFileName)) {
            continue;
        }
        if (!Join(source, from, found->cFileName) || !Join(target, to, found->cFileName)) {
            win32 = ERROR_FILENAME_EXCED_RANGE;
        } else if (found->dwFileAttributes & FILE_ATTRIBUTE_DIRECTORY) {
            win32 = CopyFolder(source, target, check, differing);
        } else if (!GetFileAttributesExW(target, GetFileExInfoStandard, &there) || there.nFileSizeLow != found->nFileSizeLow) {
            *differing += 1;
            win32 = check || CopyFileW(source, target, FALSE) ? 0 : GetLastError();
        }
    } while (win32 == 0 && FindNextFileW(search, found));
    FindClose(search);
    Free(found);
    return win32;
}

void ProvisionCopy(REPORT *report, const WCHAR *from, const WCHAR *to)
{
    char *name = Utf8FromUtf16(to);
    const char *shown = name == NULL ? "folder" : name;
    unsigned before = 0, after = 0;
    DWORD win32 = CopyFolder(from, to, 1, &before);

    if (win32 == 0 && before != 0 && !report->check) {
        unsigned copied = 0;
        MakeFoldersAbove(to);
        win32 = CopyFolder(from, to, 0, &copied);
        report->changed |= copied != 0;
    }
    if (win32 == 0) {
        win32 = CopyFolder(from, to, 1, &after);
    }
    if (win32 != 0) {
        ReportError(report, shown, "every file", "copy the folder", win32);
    } else {
        ReportSetting(report, shown, "every file", before == 0 ? "every file" : "some are missing",
                      after == 0 ? "every file" : "some are missing", after == 0, NULL);
    }
    Free(name);
}
