/* identity.c - who answers: wskctl, the driver file beside it, the system. */
#include "sha256.h"
#include "verbs.h"

#define SYSTEM_TIME_OF_DAY_INFORMATION 3

typedef const char *(CDECL *WINE_GET_VERSION)(void);
typedef LSTATUS(WINAPI *REG_GET_VALUE)(HKEY, LPCWSTR, LPCWSTR, DWORD, LPDWORD, PVOID, LPDWORD);

NTSTATUS NTAPI RtlGetVersion(RTL_OSVERSIONINFOW *version);

/* Writes 64 digits and returns 1, or returns 0 when the file cannot be read. */
static int HashFile(const WCHAR *path, char digits[65])
{
    static const char hex[] = "0123456789abcdef";
    HANDLE file = CreateFileW(path, GENERIC_READ, FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE, NULL,
                              OPEN_EXISTING, 0, NULL);
    unsigned char digest[32];
    unsigned char *block = Allocate(65536);
    SHA256 hash;
    DWORD got = 0;
    int read = 0;
    int index;

    if (file != INVALID_HANDLE_VALUE && block != NULL) {
        Sha256Start(&hash);
        while ((read = ReadFile(file, block, 65536, &got, NULL)) && got > 0) {
            Sha256Update(&hash, block, got);
        }
        Sha256Finish(&hash, digest);
        for (index = 0; index < 32; index += 1) {
            digits[index * 2] = hex[digest[index] >> 4];
            digits[index * 2 + 1] = hex[digest[index] & 15];
        }
        digits[64] = '\0';
    }
    if (file != INVALID_HANDLE_VALUE) {
        CloseHandle(file);
    }
    Free(block);
    return read != 0;
}

/* The update build revision; 0 where the registry has none (Wine). advapi32 is loaded only for this. */
static DWORD UpdateBuildRevision(void)
{
    HMODULE library = LoadLibraryW(L"advapi32.dll");
    REG_GET_VALUE read = library == NULL ? NULL : (REG_GET_VALUE)(void *)GetProcAddress(library, "RegGetValueW");
    DWORD value = 0;
    DWORD size = sizeof(value);

    if (read == NULL || read(HKEY_LOCAL_MACHINE, L"SOFTWARE\\Microsoft\\Windows NT\\CurrentVersion", L"UBR",
                             0x10 /* RRF_RT_REG_DWORD */, NULL, &value, &size) != 0) {
        return 0;
    }
    return value;
}

static const char *Architecture(void)
{
    SYSTEM_INFO info;

    GetNativeSystemInfo(&info);
    switch (info.wProcessorArchitecture) {
    case PROCESSOR_ARCHITECTURE_AMD64:
        return "amd64";
    case 12: /* PROCESSOR_ARCHITECTURE_ARM64 */
        return "arm64";
    case PROCESSOR_ARCHITECTURE_INTEL:
        return "x86";
    default:
        return "unknown";
    }
}

static void SystemMembers(TEXT *line)
{
    WINE_GET_VERSION wine =
        (WINE_GET_VERSION)(void *)GetProcAddress(GetModuleHandleW(L"ntdll.dll"), "wine_get_version");
    RTL_OSVERSIONINFOW version;
    int64_t times[6] = {0};

    memset(&version, 0, sizeof(version));
    version.dwOSVersionInfoSize = sizeof(version);
    RtlGetVersion(&version);
    TextMemberUnsigned(line, "os_major", version.dwMajorVersion);
    TextMemberUnsigned(line, "os_minor", version.dwMinorVersion);
    TextMemberUnsigned(line, "os_build", version.dwBuildNumber);
    TextMemberUnsigned(line, "os_revision", wine == NULL ? UpdateBuildRevision() : 0);
    TextMemberString(line, "wine", wine == NULL ? NULL : wine());
    TextMemberString(line, "architecture", Architecture());
    /* First member of SYSTEM_TIMEOFDAY_INFORMATION is the boot time: it tells one boot from another. */
    NtQuerySystemInformation((SYSTEM_INFORMATION_CLASS)SYSTEM_TIME_OF_DAY_INFORMATION, times, sizeof(times), NULL);
    TextMemberUnsigned(line, "boot_time", (uint64_t)times[0]);
    TextMemberUnsigned(line, "uptime_ms", GetTickCount64());
}

void IdentityMembers(TEXT *line, const char *driver)
{
    WCHAR *path = Allocate(32768 * sizeof(WCHAR));
    WCHAR *given = driver == NULL ? NULL : Utf16FromUtf8(driver, strlen(driver));
    char digits[65];
    DWORD length = path == NULL ? 0 : GetModuleFileNameW(NULL, path, 32000);

    TextMemberUnsigned(line, "protocol", WSKCTL_PROTOCOL);
    TextMemberString(line, "version", WSKCTL_VERSION);
    TextMemberString(line, "sha256", length > 0 && HashFile(path, digits) ? digits : NULL);
    while (length > 0 && path[length - 1] != L'\\') {
        length -= 1;
    }
    if (length > 0 && given == NULL) {
        memcpy(path + length, L"wsklab.sys", sizeof(L"wsklab.sys"));
    }
    TextMemberString(line, "driver_sha256",
                     length > 0 && HashFile(given == NULL ? path : given, digits) ? digits : NULL);
    TextMemberUnsigned(line, "pid", GetCurrentProcessId());
    SystemMembers(line);
    Free(path);
    Free(given);
}
