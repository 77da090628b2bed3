/*
 * mutants.c: wrong providers on purpose.
 */
#include "mutants.h"

extern const char *const __start_wskp_mutants[];
extern const char *const __stop_wskp_mutants[];

static const char *Active;

size_t MutantCount(void) {
    return (size_t)(__stop_wskp_mutants - __start_wskp_mutants);
}

const char *MutantName(size_t index) {
    return __start_wskp_mutants[index];
}

BOOLEAN MutantSelect(const char *name) {
    if (name == NULL) {
        Active = NULL;
        return TRUE;
    }
    for (size_t index = 0; index < MutantCount(); index++) {
        if (strcmp(MutantName(index), name) == 0) {
            Active = MutantName(index);
            return TRUE;
        }
    }
    return FALSE;
}

BOOLEAN MutantActive(const char *name) {
    return Active != NULL && strcmp(Active, name) == 0;
}
