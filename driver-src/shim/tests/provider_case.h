/*
 * provider_case.h: cases of the provider's own tests: each runs in a process of its own (provider_main.c).
 */
#ifndef WSKLAB_PROVIDER_CASE_H
#define WSKLAB_PROVIDER_CASE_H

#include "shim.h"
#include "wsklab_wsk.h"

typedef struct PROVIDER_CASE {
    const char *Name;
    void (*Run)(void);
    const char *Aborts; /* the rule that the provider must name before it breaks off; NULL: it must not */
} PROVIDER_CASE;

/* Cases are collected by the linker; one cannot be forgotten. */
#define PROVIDER_CASE_OF(name, aborts)                                                                                             \
    static void Case##name(void);                                                                                                  \
    static const PROVIDER_CASE Entry##name = {#name, Case##name, aborts};                                                          \
    static const PROVIDER_CASE *const Pointer##name __attribute__((section("provider_cases"), used)) = &Entry##name;               \
    static void Case##name(void)
#define CASE(name) PROVIDER_CASE_OF(name, NULL)
/* Needs a network of its own, and other things that test_shim_provider_network.py makes and tells in settings. */
#define CASE_NETWORK(name) PROVIDER_CASE_OF(name, NULL)
#define CASE_ABORTS(name, rule) PROVIDER_CASE_OF(name, rule)

#define CHECK(condition) ((condition) ? (void)0 : ShimAbort("check", "%s:%d: %s", __FILE__, __LINE__, #condition))
#define CHECK_EQUAL(actual, expected)                                                                                              \
    do {                                                                                                                           \
        intmax_t actualValue = (intmax_t)(actual), expectedValue = (intmax_t)(expected);                                        \
        if (actualValue != expectedValue) {                                                                                        \
            ShimAbort("check", "%s:%d: %s is %#jx, expected %s = %#jx", __FILE__, __LINE__, #actual,                             \
                      (uintmax_t)actualValue, #expected, (uintmax_t)expectedValue);                              \
        }                                                                                                                          \
    } while (0)
#define CHECK_STATUS(actual, expected) CHECK_EQUAL((ULONG)(actual), (ULONG)(expected))

#endif
