/*
 * options.c: settings and facts of one run; start and stop.
 */
#include "internal.h"

#include <ctype.h>
#include <stdlib.h>

/* Windows 11 24H2: the newest that the dispatch tables of the provider know. */
#define NEWEST_BUILD 26100u

SHIM_OPTIONS g_Options;

ULONG ShimOsBuild(void) {
    return g_Options.OsBuild;
}

const char *ShimSetting(const char *name) {
    char variable[64] = "WSKLAB_SHIM_";
    size_t length = strlen(variable);

    for (; *name != '\0' && length + 1 < sizeof(variable); name++) {
        variable[length++] = *name == '-' ? '_' : (char)toupper((unsigned char)*name);
    }
    variable[length] = '\0';
    return getenv(variable);
}

const char *ShimGuestAddress(void) {
    return ShimSetting("address");
}

void ShimStart(const SHIM_OPTIONS *options) {
    g_Options = *options;
    if (g_Options.OsBuild == 0) {
        g_Options.OsBuild = NEWEST_BUILD;
    }
    SchedInitialize();
    ThreadsInitialize();
    PagedInitialize();
    ShimThreadAdopt("main", NULL);
    TimersInitialize();
    WorkersInitialize();
    IoInitialize();
    ProviderStart();
}

void ShimSetOptions(const SHIM_OPTIONS *options) {
    BOOLEAN deterministic = g_Options.Deterministic;

    g_Options = *options;
    g_Options.Deterministic = deterministic;
    if (g_Options.OsBuild == 0) {
        g_Options.OsBuild = NEWEST_BUILD;
    }
    SchedSettle();
    SchedReseed();
}

void ShimStop(void) {
    ProviderStop();
    IoStop();
    WorkersStop();
    TimersStop();
    IrpRequireNoneOf(NULL, NULL, "the whole program");
    MemoryRequireNoneOf(NULL, NULL, "the whole program");
    ShimThreadLeave();
}
