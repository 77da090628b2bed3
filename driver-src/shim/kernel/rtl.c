/*
 * rtl.c: strings, version, exports by name, the log.
 */
#include "internal.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <unistd.h>

SIZE_T NTAPI RtlCompareMemory(const VOID *Source1, const VOID *Source2, SIZE_T Length) {
    const UCHAR *left = Source1;
    const UCHAR *right = Source2;
    SIZE_T equal = 0;

    while (equal < Length && left[equal] == right[equal]) {
        equal++;
    }
    return equal;
}

VOID NTAPI RtlInitUnicodeString(PUNICODE_STRING DestinationString, PCWSTR SourceString) {
    size_t length = 0;

    while (SourceString != NULL && SourceString[length] != 0) {
        length++;
    }
    DestinationString->Length = (USHORT)(length * sizeof(WCHAR));
    DestinationString->MaximumLength = SourceString != NULL ? (USHORT)((length + 1) * sizeof(WCHAR)) : 0;
    DestinationString->Buffer = (PWCHAR)(ULONG_PTR)SourceString;
}

static WCHAR Upper(WCHAR c) {
    return c >= 'a' && c <= 'z' ? (WCHAR)(c - 'a' + 'A') : c;
}

BOOLEAN NTAPI RtlEqualUnicodeString(PCUNICODE_STRING String1, PCUNICODE_STRING String2, BOOLEAN CaseInSensitive) {
    ShimRequireIrql("RtlEqualUnicodeString", PASSIVE_LEVEL);
    if (String1->Length != String2->Length) {
        return FALSE;
    }
    for (USHORT i = 0; i < String1->Length / sizeof(WCHAR); i++) {
        WCHAR left = String1->Buffer[i];
        WCHAR right = String2->Buffer[i];
        if (left != right && !(CaseInSensitive && Upper(left) == Upper(right))) {
            return FALSE;
        }
    }
    return TRUE;
}

VOID NTAPI RtlCopyUnicodeString(PUNICODE_STRING DestinationString, PCUNICODE_STRING SourceString) {
    USHORT length = SourceString != NULL ? SourceString->Length : 0;

    length = length > DestinationString->MaximumLength ? DestinationString->MaximumLength : length;
    if (length > 0) {
        memcpy(DestinationString->Buffer, SourceString->Buffer, length);
    }
    DestinationString->Length = length;
}

NTSTATUS NTAPI RtlGetVersion(PRTL_OSVERSIONINFOW VersionInformation) {
    ShimRequireIrql("RtlGetVersion", PASSIVE_LEVEL);
    VersionInformation->dwMajorVersion = 10;
    VersionInformation->dwMinorVersion = 0;
    VersionInformation->dwBuildNumber = ShimOsBuild();
    VersionInformation->dwPlatformId = 2;
    VersionInformation->szCSDVersion[0] = 0;
    return STATUS_SUCCESS;
}

PVOID NTAPI RtlPcToFileHeader(PVOID PcValue, PVOID *BaseOfImage) {
    Dl_info info;

    *BaseOfImage = dladdr(PcValue, &info) != 0 ? info.dli_fbase : NULL;
    return *BaseOfImage;
}

PVOID NTAPI MmGetSystemRoutineAddress(PUNICODE_STRING SystemRoutineName) {
    static const char *const prefixes[] = {"Dbg", "Ex", "Io", "Ke", "Mm", "Ob", "Ps", "Rtl", "Se", "Zw"};
    char name[128];
    USHORT length = SystemRoutineName->Length / sizeof(WCHAR);

    ShimRequireIrql("MmGetSystemRoutineAddress", PASSIVE_LEVEL);
    if (length + 1u > sizeof(name)) {
        return NULL;
    }
    for (USHORT i = 0; i < length; i++) {
        name[i] = (char)SystemRoutineName->Buffer[i];
    }
    name[length] = '\0';
    if (strcmp(name, "wine_ntoskrnl_main_loop") == 0) {
        return g_Options.LikeWine ? (PVOID)(ULONG_PTR)MmGetSystemRoutineAddress : NULL;
    }
    if (strcmp(name, "ExAllocatePool2") == 0 && ShimOsBuild() < 19041) {
        return NULL;
    }
    for (size_t i = 0; i < RTL_NUMBER_OF(prefixes); i++) {
        if (strncmp(name, prefixes[i], strlen(prefixes[i])) == 0) {
            return dlsym(RTLD_DEFAULT, name);
        }
    }
    return NULL;
}

/* ---- DbgPrint: Windows' own formats ---------------------------------------------------------------------------------- */

typedef struct LOG {
    char Text[512]; /* DbgPrint prints no more at once */
    size_t Length;
} LOG;

static void Append(LOG *log, const char *text, size_t length) {
    for (size_t i = 0; i < length && log->Length + 1 < sizeof(log->Text); i++) {
        log->Text[log->Length++] = text[i];
    }
}

static void AppendWide(LOG *log, const WCHAR *text, size_t length) {
    ShimRequireIrql("DbgPrint with a Unicode string", PASSIVE_LEVEL);
    for (size_t i = 0; i < length; i++) {
        char c = text[i] < 128 ? (char)text[i] : '?';
        Append(log, &c, 1);
    }
}

static size_t WideLength(const WCHAR *text) {
    size_t length = 0;
    while (text[length] != 0) {
        length++;
    }
    return length;
}

/* A number: flags, width and precision as they stand, the size as Windows means it. */
static void AppendNumber(LOG *log, const char *flags, size_t flagsLength, char kind, BOOLEAN wide, ULONG64 value) {
    char format[40];
    char text[64];
    int length;

    snprintf(format, sizeof(format), "%%%.*sll%c", (int)(flagsLength > 16 ? 16 : flagsLength), flags, kind);
    if (kind == 'd' || kind == 'i') {
        length = snprintf(text, sizeof(text), format, wide ? (LONGLONG)value : (LONGLONG)(LONG)value);
    } else {
        length = snprintf(text, sizeof(text), format, wide ? value : (ULONG64)(ULONG)value);
    }
    Append(log, text, (size_t)length);
}

/* One conversion; returns where it ends. */
static const char *Convert(LOG *log, const char *at, va_list *arguments) {
    const char *flags = at;
    size_t flagsLength = strspn(at, "-+ #0123456789.");
    BOOLEAN wide = FALSE;
    BOOLEAN unicode = FALSE;

    at += flagsLength;
    for (;;) {
        if (strncmp(at, "I64", 3) == 0) {
            wide = TRUE;
            at += 3;
        } else if (strncmp(at, "ll", 2) == 0) {
            wide = TRUE;
            at += 2;
        } else if (*at == 'z' || *at == 'I') {
            wide = TRUE;
            at++;
        } else if (*at == 'w') {
            unicode = TRUE;
            at++;
        } else if (*at == 'l' || *at == 'h') {
            at++; /* 32 bits on Windows, as without */
        } else {
            break;
        }
    }
    switch (*at) {
    case 'd': case 'i': case 'u': case 'x': case 'X': case 'o':
        AppendNumber(log, flags, flagsLength, *at, wide, wide ? va_arg(*arguments, ULONG64) : va_arg(*arguments, ULONG));
        break;
    case 'p':
        AppendNumber(log, "016", 3, 'X', TRUE, (ULONG64)va_arg(*arguments, PVOID));
        break;
    case 'c': {
        char c = (char)va_arg(*arguments, int);
        Append(log, &c, 1);
        break;
    }
    case 's': case 'S':
        if (unicode || *at == 'S') {
            const WCHAR *text = va_arg(*arguments, const WCHAR *);
            AppendWide(log, text, WideLength(text));
        } else {
            const char *text = va_arg(*arguments, const char *);
            Append(log, text, strlen(text));
        }
        break;
    case 'Z': {
        PCUNICODE_STRING text = va_arg(*arguments, PCUNICODE_STRING);
        AppendWide(log, text->Buffer, text->Length / sizeof(WCHAR));
        break;
    }
    case '%':
        Append(log, "%", 1);
        break;
    default:
        ShimAbort("format", "DbgPrint does not know the conversion %%%s", flags);
    }
    return at + 1;
}

ULONG DbgPrint(PCSTR Format, ...) {
    LOG log = {.Length = 0};
    va_list arguments;

    va_start(arguments, Format);
    while (*Format != '\0') {
        size_t plain = strcspn(Format, "%");
        Append(&log, Format, plain);
        Format += plain;
        if (*Format == '%') {
            Format = Convert(&log, Format + 1, &arguments);
        }
    }
    va_end(arguments);
    if (ShimSetting("quiet") == NULL) {
        ULONG64 now = ShimNow();
        log.Text[log.Length] = '\0';
        dprintf(STDERR_FILENO, "[%5" PRIu64 ".%06" PRIu64 "] %s%s", now / 1000000000u, now % 1000000000u / 1000, log.Text,
                log.Length > 0 && log.Text[log.Length - 1] == '\n' ? "" : "\n");
    }
    return STATUS_SUCCESS;
}
