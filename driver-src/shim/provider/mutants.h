/*
 * mutants.h: wrong providers on purpose.
 *
 * Where a line decides a MUST of a rule, it may ask MutantIs("WSK-ACC-002/pends"): TRUE in the one run that names this
 * mutant, and then the line does the wrong thing. A conformance case that still passes there proves nothing. All names
 * are collected by the linker, so a list of them cannot be out of date and a name that does not exist is refused.
 */
#ifndef WSKLAB_PROVIDER_MUTANTS_H
#define WSKLAB_PROVIDER_MUTANTS_H

#include "shim.h"

/* Fails (FALSE) for a name that no line asks for; NULL switches off. Only while no socket exists. */
BOOLEAN MutantSelect(const char *name);
BOOLEAN MutantActive(const char *name);
size_t MutantCount(void);
const char *MutantName(size_t index);

#define MutantIs(name)                                                                                                             \
    ({                                                                                                                             \
        static const char *const mutantName __attribute__((section("wskp_mutants"), used)) = name;                                 \
        MutantActive(mutantName);                                                                                                  \
    })

#endif
