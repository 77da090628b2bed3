/*
 * platform.c: where the driver runs, its clock, its counter.
 */
#include "platform.h"

static PLATFORM g_Platform;
static volatile LONG64 g_Sequence;

/* Only Wine's ntoskrnl has this export; the real one never will (it is named after its maker). */
#define WINE_ONLY_EXPORT L"wine_ntoskrnl_main_loop"

static PVOID FindRoutine(PCWSTR Name) {
    UNICODE_STRING name;
    RtlInitUnicodeString(&name, Name);
    return MmGetSystemRoutineAddress(&name);
}

_Use_decl_annotations_ VOID PlatformInitialize(VOID) {
    RTL_OSVERSIONINFOW version = {.dwOSVersionInfoSize = sizeof(version)};
    LARGE_INTEGER frequency = {.QuadPart = 0};
    KIRQL previous;

    g_Platform.Wine = FindRoutine(WINE_ONLY_EXPORT) != NULL;
    if (NT_SUCCESS(RtlGetVersion(&version))) {
        g_Platform.Major = version.dwMajorVersion;
        g_Platform.Minor = version.dwMinorVersion;
        g_Platform.Build = version.dwBuildNumber;
    }
    KeQueryPerformanceCounter(&frequency);
    g_Platform.CounterFrequency = frequency.QuadPart > 0 ? (ULONG64)frequency.QuadPart : 1;

    KeRaiseIrql(DISPATCH_LEVEL, &previous);
    g_Platform.IrqlReal = KeGetCurrentIrql() == DISPATCH_LEVEL;
    KeLowerIrql(previous);

    g_Platform.PcToFileHeader = (PFN_PC_TO_FILE_HEADER)(ULONG_PTR)FindRoutine(L"RtlPcToFileHeader");
    /* Wine exports the name, but as a stub that raises an exception: an export says nothing there. */
    if (!g_Platform.Wine) {
        g_Platform.SetCompletionRoutineEx = (PFN_SET_COMPLETION_ROUTINE_EX)(ULONG_PTR)FindRoutine(L"IoSetCompletionRoutineEx");
    }
}

_Use_decl_annotations_ const PLATFORM *PlatformFacts(VOID) {
    return &g_Platform;
}

_Use_decl_annotations_ ULONG64 PlatformNow(VOID) {
    ULONG64 counter = (ULONG64)KeQueryPerformanceCounter(NULL).QuadPart;
    ULONG64 frequency = g_Platform.CounterFrequency;
    /* Whole seconds first: counter * 10^9 would overflow after minutes. */
    return counter / frequency * 1000000000ull + counter % frequency * 1000000000ull / frequency;
}

_Use_decl_annotations_ ULONG64 PlatformNextSequence(VOID) {
    return (ULONG64)InterlockedIncrement64(&g_Sequence);
}

_Use_decl_annotations_ ULONG64 PlatformThread(VOID) {
    return (ULONG64)(ULONG_PTR)PsGetCurrentThreadId();
}
