/*
 * inject.c: the failure sweep. Every allocation has a number since the sweep was armed, and a site: the chain of callers in
 * the driver (or the provider's own name for it).
 */
#include "internal.h"

#include <stdlib.h>
#include <unistd.h>

#define MAX_SITES 1024
#define SITE_FRAMES 4

typedef struct SITE {
    const char *What;
    void *Frames[SITE_FRAMES];
    char Where[600]; /* described at once: the driver may be gone when the report is written */
    ULONG Count;
    ULONG Failures;
    /* Runs that came here, the first and the last: their notes, and what failed in them. One of them is repeated when no
     * sweep has failed the site itself (ShimFailAlso). */
    char Run[2][160];
    ULONG RunFailed[2];
} SITE;

static pthread_mutex_t g_Lock = PTHREAD_MUTEX_INITIALIZER;
static SITE g_Sites[MAX_SITES];
static ULONG g_SiteCount;
static const SITE *g_LastFailed;
static ULONG g_Seen;
static ULONG g_Target; /* 0: none */
static BOOLEAN g_From;
static const SITE *g_Also; /* the first time that it is reached */
static BOOLEAN g_Armed; /* sites are told apart from the first ShimFailAt on: that takes time */

/* The callers that tell one allocation from another: those in drivers; in the program, where no driver is among them. */
static ULONG SiteFrames(void **out) {
    void *frames[24];
    ULONG count = StackCapture(frames, 24);
    ULONG found = 0;

    memset(out, 0, SITE_FRAMES * sizeof(*out));
    for (ULONG i = 0; i < count && found < SITE_FRAMES; i++) {
        if (LoaderIsDriverAddress(frames[i])) {
            out[found++] = frames[i];
        }
    }
    return found;
}

static SITE *FindSite(const char *what, void *const *frames, ULONG count) {
    char where[600];

    StackDescribe(where, sizeof(where), frames, count);
    for (ULONG i = 0; i < g_SiteCount; i++) {
        if (strcmp(g_Sites[i].What, what) == 0 && strcmp(g_Sites[i].Where, where) == 0) {
            return &g_Sites[i];
        }
    }
    if (g_SiteCount == MAX_SITES) {
        ShimAbort("shim", "more than %u allocation sites", MAX_SITES);
    }
    g_Sites[g_SiteCount].What = what;
    memcpy(g_Sites[g_SiteCount].Where, where, sizeof(where));
    return &g_Sites[g_SiteCount++];
}

BOOLEAN InjectShouldFail(const char *what) {
    void *frames[SITE_FRAMES];
    ULONG count;
    BOOLEAN fail;
    SITE *site;

    if (!__atomic_load_n(&g_Armed, __ATOMIC_RELAXED)) {
        return FALSE;
    }
    count = SiteFrames(frames);
    pthread_mutex_lock(&g_Lock);
    g_Seen++;
    fail = g_Target != 0 && (g_Seen == g_Target || (g_From && g_Seen > g_Target));
    site = FindSite(what, frames, count);
    if (site == g_Also) {
        fail = TRUE;
        g_Also = NULL;
    }
    for (ULONG run = site->Count > 0; run < 2 && site->Failures == 0 && !fail; run++) {
        snprintf(site->Run[run], sizeof(site->Run[run]), "%s", ShimNoted());
        site->RunFailed[run] = g_Target;
    }
    site->Count++;
    site->Failures += fail;
    if (fail) {
        g_LastFailed = site;
    }
    pthread_mutex_unlock(&g_Lock);
    return fail;
}

const char *InjectLastFailed(const char **what) {
    *what = g_LastFailed != NULL ? g_LastFailed->What : "";
    return g_LastFailed != NULL ? g_LastFailed->Where : NULL;
}

BOOLEAN ShimShouldFail(const char *site) {
    return InjectShouldFail(site);
}

ULONG ShimFailAt(ULONG n, BOOLEAN everyFrom) {
    ULONG seen;

    pthread_mutex_lock(&g_Lock);
    seen = g_Seen;
    g_Seen = 0;
    g_Target = n;
    g_From = everyFrom;
    g_Also = NULL;
    __atomic_store_n(&g_Armed, TRUE, __ATOMIC_RELAXED);
    pthread_mutex_unlock(&g_Lock);
    return seen;
}

BOOLEAN ShimFailNever(ULONG index, ULONG run, const char **note, ULONG *failed) {
    BOOLEAN never;

    pthread_mutex_lock(&g_Lock);
    never = g_Sites[index].Failures == 0;
    *note = g_Sites[index].Run[run];
    *failed = g_Sites[index].RunFailed[run];
    pthread_mutex_unlock(&g_Lock);
    return never;
}

ULONG ShimFailSites(void) {
    return g_SiteCount;
}

void ShimFailAlso(ULONG index) {
    pthread_mutex_lock(&g_Lock);
    g_Also = &g_Sites[index];
    pthread_mutex_unlock(&g_Lock);
}

void ShimFailReport(int file) {
    pthread_mutex_lock(&g_Lock);
    for (ULONG i = 0; i < g_SiteCount; i++) {
        dprintf(file, "site %u failed %u what %s where %s\n", g_Sites[i].Count, g_Sites[i].Failures, g_Sites[i].What,
                g_Sites[i].Where);
    }
    pthread_mutex_unlock(&g_Lock);
}
