/*
 * provider_main.c: runs one case of the provider's tests.
 *
 *   shim-provider NAME [plain | random SEED | deterministic SEED]     exit code 0: passed
 *   shim-provider --list         names; behind a name the rule that the case must abort with
 *   shim-provider --mutants      names of the wrong providers that can be switched on (WSKLAB_SHIM_MUTANT)
 */
#include "provider_case.h"

#include <stdio.h>
#include <stdlib.h>

#include "harness.h"
#include "mutants.h"

extern const PROVIDER_CASE *const __start_provider_cases[];
extern const PROVIDER_CASE *const __stop_provider_cases[];

static int List(void) {
    for (const PROVIDER_CASE *const *entry = __start_provider_cases; entry < __stop_provider_cases; entry++) {
        printf("%s %s\n", (*entry)->Name, (*entry)->Aborts == NULL ? "" : (*entry)->Aborts);
    }
    return 0;
}

static int Mutants(void) {
    for (size_t index = 0; index < MutantCount(); index++) {
        printf("%s\n", MutantName(index));
    }
    return 0;
}

int main(int count, char **arguments) {
    SHIM_OPTIONS options = {0};
    ULONG64 seed = count > 3 ? strtoull(arguments[3], NULL, 10) : 1;

    if (count < 2) {
        fprintf(stderr, "usage: shim-provider NAME [plain | random SEED | deterministic SEED] | --list | --mutants\n");
        return 2;
    }
    if (strcmp(arguments[1], "--list") == 0) {
        return List();
    }
    if (strcmp(arguments[1], "--mutants") == 0) {
        return Mutants();
    }
    options.Seed = seed;
    options.Deterministic = count > 2 && strcmp(arguments[2], "deterministic") == 0;
    options.RandomChoices = count > 2 && strcmp(arguments[2], "random") == 0;
    for (const PROVIDER_CASE *const *entry = __start_provider_cases; entry < __stop_provider_cases; entry++) {
        if (strcmp((*entry)->Name, arguments[1]) == 0) {
            ShimStart(&options);
            (*entry)->Run();
            ShimStop();
            printf("passed\n");
            return 0;
        }
    }
    fprintf(stderr, "no case %s\n", arguments[1]);
    return 2;
}
