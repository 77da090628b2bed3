/*
 * run_wrong.c: makes the driver wrong.c make one mistake.
 *
 *   shim-wrong FILE NAME [SEED]      exit code 0: nothing was seen; with a seed in the deterministic mode
 *   shim-wrong --list                names and rules
 */
#include "wrong.h"

#include <stdio.h>
#include <stdlib.h>

#include "harness.h"

typedef struct MISTAKE {
    const char *Name;
    const char *Rule;
} MISTAKE;

static const MISTAKE g_Mistakes[] = {
#define WRONG_ENTRY(name, rule) {#name, rule},
    WRONG_LIST(WRONG_ENTRY)
#undef WRONG_ENTRY
};

static int Run(const char *file, ULONG number, const SHIM_OPTIONS *options) {
    SHIM_DRIVER *driver;
    SHIM_HANDLE *handle;
    LARGE_INTEGER pause = {.QuadPart = -1000000};
    UCHAR output[64];
    ULONG_PTR information = 0;
    NTSTATUS status;

    ShimStart(options);
    status = ShimDriverLoad(file, "wrong", &driver);
    if (NT_SUCCESS(status)) {
        status = ShimOpen("\\\\.\\wrong", &handle);
    }
    if (NT_SUCCESS(status)) {
        status = ShimIoctl(handle, WRONG_IOCTL(number), NULL, 0, output, sizeof(output), &information);
        ShimClose(handle);
    }
    if (!NT_SUCCESS(status)) {
        fprintf(stderr, "status %08x\n", status);
        return 1;
    }
    if (number == WrongDeadlock) {
        KEVENT never;
        KeInitializeEvent(&never, NotificationEvent, FALSE);
        KeWaitForSingleObject(&never, Executive, KernelMode, FALSE, NULL);
    }
    /* What happens by itself: threads, timers. */
    KeDelayExecutionThread(KernelMode, FALSE, &pause);
    status = ShimDriverUnload(driver, FALSE);
    if (!NT_SUCCESS(status)) {
        fprintf(stderr, "unload %08x\n", status);
        pause.QuadPart = -50000000; /* where another thread is breaking off, let it finish its sentence */
        KeDelayExecutionThread(KernelMode, FALSE, &pause);
        return 1;
    }
    ShimStop();
    printf("nothing was seen (%zu bytes: %s)\n", (size_t)information, number == WrongNone ? (const char *)output : "");
    return 0;
}

int main(int count, char **arguments) {
    SHIM_OPTIONS options = {.Deterministic = count > 3, .Seed = count > 3 ? strtoull(arguments[3], NULL, 10) : 0};

    if (count == 2 && strcmp(arguments[1], "--list") == 0) {
        for (ULONG i = 0; i < WrongEnd; i++) {
            printf("%s %s\n", g_Mistakes[i].Name, g_Mistakes[i].Rule);
        }
        return 0;
    }
    for (ULONG i = 0; count >= 3 && i < WrongEnd; i++) {
        if (strcmp(g_Mistakes[i].Name, arguments[2]) == 0) {
            options.OsBuild = i == WrongOldPool2 ? 17763 : 0;
            return Run(arguments[1], i, &options);
        }
    }
    fprintf(stderr, "usage: shim-wrong FILE NAME [SEED] | --list\n");
    return 2;
}
