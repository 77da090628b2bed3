/*
 * scenario_main.c: runs scenarios: once, under many schedules, or with each allocation failing in turn.
 *
 *   shim-scenario DRIVER NAME [plain | random SEED | deterministic SEED]
 *   shim-scenario DRIVER explore NAME|all FROM COUNT    seeds FROM .. FROM + COUNT - 1, deterministic
 *   shim-scenario DRIVER sweep NAME|all [SEED]          the n-th allocation fails, for every n; a line for each site
 *   shim-scenario DRIVER fail NAME SEED N               only for this one
 *   shim-scenario --list
 *
 * Exit code 0: the shim had nothing to say. A run that breaks off names its scenario, its seed and its n.
 */
#include <stdio.h>
#include <stdlib.h>

#include "../provider/knobs.h"
#include "scenario.h"

extern const SCENARIO *const __start_scenarios[];
extern const SCENARIO *const __stop_scenarios[];

/* A handle's last reference may be dropped by the driver's own housekeeping, a second later. */
#define UNLOAD_TRIES 100
#define UNLOAD_PAUSE_MS 50
/* No scenario has so many allocations. */
#define MOST_ALLOCATIONS 3000
#define REST_TRIES 20

static const char *g_Driver;
static BOOLEAN g_Lost; /* something stays behind, knowingly */

/* LeakSanitizer asks. */
int __lsan_is_turned_off(void);
int __lsan_is_turned_off(void) {
    return g_Lost;
}

static void Unload(SHIM_DRIVER *driver, BOOLEAN force) {
    NTSTATUS status;
    ULONG tries = 0;

    do {
        status = ShimDriverUnload(driver, force);
        if (status == STATUS_DEVICE_BUSY) {
            Sleep(UNLOAD_PAUSE_MS);
        }
    } while (status == STATUS_DEVICE_BUSY && ++tries < UNLOAD_TRIES);
    if (!NT_SUCCESS(status)) {
        ShimAbort("unload-busy", "all handles are closed, and file objects are still referenced");
    }
}

/* Load, run, close, unload: nothing may be left. */
static void RunOnce(const SCENARIO *scenario, BOOLEAN failing) {
    BOOLEAN force = (scenario->Flags & SCENARIO_FORCE_UNLOAD) != 0;
    SHIM_DRIVER *driver;
    USER user = {.Handle = NULL};

    if (!NT_SUCCESS(ShimDriverLoad(g_Driver, "wsklab", &driver))) {
        if (!failing) {
            ShimAbort("scenario", "the driver %s does not load", g_Driver);
        }
        return;
    }
    if (UserOpen(&user)) {
        scenario->Run(&user);
        CheckLedger(&user);
    }
    WskpKnobsReset();
    WskpKnobProviderReady(TRUE);
    if (!force) {
        UserClose(&user);
    }
    Unload(driver, force);
    UserClose(&user);
}

static SHIM_OPTIONS OptionsFor(const SCENARIO *scenario, BOOLEAN deterministic, ULONG64 seed) {
    return (SHIM_OPTIONS){
        .Deterministic = deterministic, .Impatient = TRUE, .Seed = seed, .LikeWine = (scenario->Flags & SCENARIO_LIKE_WINE) != 0};
}

static void Explore(const SCENARIO *scenario, ULONG64 from, ULONG64 count) {
    for (ULONG64 seed = from; seed < from + count; seed++) {
        SHIM_OPTIONS options = OptionsFor(scenario, TRUE, seed);
        static ULONG64 beginning;
        ShimSetOptions(&options);
        ShimNote("scenario %s, seed %u", scenario->Name, (ULONG)seed);
        if (beginning != 0 && ShimNow() != beginning) {
            ShimAbort("scenario", "this run begins at another time than the first: in the end it would come to where addresses are");
        }
        beginning = ShimNow();
        RunOnce(scenario, FALSE);
        printf("trace %s %u %llx\n", scenario->Name, (ULONG)seed, ShimTrace() + 0ull);
    }
}

/* How many allocations there were. */
static ULONG RunFailing(const SCENARIO *scenario, ULONG64 seed, ULONG n) {
    SHIM_OPTIONS options = OptionsFor(scenario, TRUE, seed);

    ShimSetOptions(&options);
    ShimNote("scenario %s, seed %u, allocation %u fails", scenario->Name, (ULONG)seed, n);
    ShimFailAt(n, FALSE);
    RunOnce(scenario, TRUE);
    return ShimFailAt(0, FALSE);
}

static void FailOne(const SCENARIO *scenario, ULONG64 seed, ULONG64 n) {
    RunFailing(scenario, seed, (ULONG)n);
}

static void Sweep(const SCENARIO *scenario, ULONG64 seed) {
    ULONG seen;
    ULONG n = 0;

    /* Until a run has no n-th allocation any more. */
    do {
        seen = RunFailing(scenario, seed, ++n);
    } while (seen >= n && n < MOST_ALLOCATIONS);
    printf("swept %s: %u\n", scenario->Name, n - 1);
}

/* Repeat a run in which something failed, and let the site fail as well. */
static void FailBoth(const char *note, ULONG failed, ULONG site) {
    char name[64];
    unsigned seed;

    if (sscanf(note, "scenario %63[^,], seed %u", name, &seed) != 2) {
        return;
    }
    for (const SCENARIO *const *entry = __start_scenarios; entry < __stop_scenarios; entry++) {
        if (strcmp((*entry)->Name, name) == 0) {
            SHIM_OPTIONS options = OptionsFor(*entry, TRUE, seed);
            ShimSetOptions(&options);
            ShimNote("scenario %s, seed %u, allocation %u fails, and then site %u", name, seed, failed, site);
            ShimFailAt(failed, FALSE);
            ShimFailAlso(site);
            RunOnce(*entry, TRUE);
        }
    }
}

/* Those that only come to their turn when something else has failed before. The host's sockets have a say in how a run
 * goes, so a repetition may miss the site. */
static void SweepRest(void) {
    for (ULONG site = 0; site < ShimFailSites(); site++) {
        const char *note;
        ULONG failed;

        for (ULONG try = 0; try < REST_TRIES && ShimFailNever(site, try % 2, &note, &failed); try++) {
            FailBoth(note, failed, site);
        }
    }
    ShimFailAt(0, FALSE);
}

static int Each(const char *name, ULONG avoid, void (*run)(const SCENARIO *scenario, ULONG64 a, ULONG64 b), ULONG64 a, ULONG64 b) {
    BOOLEAN all = strcmp(name, "all") == 0;
    ULONG found = 0;

    for (const SCENARIO *const *entry = __start_scenarios; entry < __stop_scenarios; entry++) {
        if (all ? !((*entry)->Flags & (avoid | SCENARIO_LOSES)) : strcmp((*entry)->Name, name) == 0) {
            run(*entry, a, b);
            found++;
        }
    }
    if (found == 0) {
        fprintf(stderr, "no scenario %s\n", name);
    }
    return found > 0 ? 0 : 2;
}

static void SweepEach(const SCENARIO *scenario, ULONG64 seed, ULONG64 unused) {
    (void)unused;
    Sweep(scenario, seed);
}

static int Once(const char *name, const char *mode, ULONG64 seed) {
    for (const SCENARIO *const *entry = __start_scenarios; entry < __stop_scenarios; entry++) {
        if (strcmp((*entry)->Name, name) == 0) {
            SHIM_OPTIONS options = OptionsFor(*entry, strcmp(mode, "deterministic") == 0, seed);
            options.RandomChoices = strcmp(mode, "random") == 0;
            ShimStart(&options);
            if ((*entry)->Flags & SCENARIO_LOSES) {
                SHIM_DRIVER *driver;
                USER user = {.Handle = NULL};
                if (NT_SUCCESS(ShimDriverLoad(g_Driver, "wsklab", &driver)) && UserOpen(&user)) {
                    (*entry)->Run(&user);
                }
                printf("passed\n");
                g_Lost = TRUE;
                exit(0);
            }
            RunOnce(*entry, FALSE);
            ShimStop();
            printf("passed\n");
            return 0;
        }
    }
    fprintf(stderr, "no scenario %s\n", name);
    return 2;
}

int main(int count, char **arguments) {
    const char *word = count > 2 ? arguments[2] : "";
    SHIM_OPTIONS options = {.Deterministic = TRUE};
    int code;

    if (count == 2 && strcmp(arguments[1], "--list") == 0) {
        for (const SCENARIO *const *entry = __start_scenarios; entry < __stop_scenarios; entry++) {
            printf("%s %u\n", (*entry)->Name, (*entry)->Flags);
        }
        return 0;
    }
    if (count < 3) {
        fprintf(stderr, "usage: shim-scenario DRIVER NAME [plain | random SEED | deterministic SEED] |\n"
                        "       DRIVER explore NAME|all FROM COUNT | DRIVER sweep NAME|all [SEED] | --list\n");
        return 2;
    }
    g_Driver = arguments[1];
    if (strcmp(word, "explore") == 0 && count == 6) {
        ShimStart(&options);
        code = Each(arguments[3], 0, Explore, strtoull(arguments[4], NULL, 10), strtoull(arguments[5], NULL, 10));
    } else if (strcmp(word, "fail") == 0 && count == 6) {
        ShimStart(&options);
        code = Each(arguments[3], 0, FailOne, strtoull(arguments[4], NULL, 10), strtoull(arguments[5], NULL, 10));
    } else if (strcmp(word, "sweep") == 0 && count >= 4) {
        ShimStart(&options);
        code = Each(arguments[3], SCENARIO_SLOW, SweepEach, count > 4 ? strtoull(arguments[4], NULL, 10) : 1, 0);
        SweepRest();
        fflush(stdout);
        ShimFailReport(1);
    } else {
        return Once(word, count > 3 ? arguments[3] : "plain", count > 4 ? strtoull(arguments[4], NULL, 10) : 1);
    }
    ShimStop();
    return code;
}
