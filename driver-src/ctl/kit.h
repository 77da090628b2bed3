/*
 * kit.h - the cases of `wskctl kit`: core rules that need no peer and no lab.
 *
 * A case looks at the driver's records and says of each assertion whether it held; the observations go
 * into the report as they are, so that the lab can judge again.
 */
#ifndef WSKCTL_KIT_H
#define WSKCTL_KIT_H

#include "client.h"

#define IPV4 2
#define IPV6 23
#define STREAM 1
#define DGRAM 2
#define TCP 6
#define UDP 17
#define LOOPBACK 0x7F000001u

typedef struct KIT {
    CLIENT client;
    TEXT *report;
    int wine;          /* the driver says so in its hello */
    uint32_t os_build; /* of the driver's hello */
    /* of the current case */
    int checks;
    int failures;
} KIT;

typedef struct KIT_CASE {
    const char *rule; /* an id of the catalogue */
    const char *name;
    void (*run)(KIT *kit);
} KIT_CASE;

/* One assertion of the current case; returns held. A case without any assertion is `not_run`. */
int KitCheck(KIT *kit, const char *text, int held);
/* Keeps a record as an observation of the current case. */
void KitObserve(KIT *kit, const WSKLAB_RECORD *record);

/* Runs a request and keeps its record; 1 when the driver took it. */
int KitRunOperation(KIT *kit, const WSKLAB_SUBMIT *submit, const void *data, WSKLAB_RECORD *record);
/* Creates a socket and keeps its record; its number, 0 when it failed. */
uint32_t KitCreate(KIT *kit, uint32_t category, uint16_t family, uint16_t type, uint32_t protocol);
/* Closes a socket and asserts that this succeeds. */
void KitClose(KIT *kit, uint32_t socket);

/* The case of kit_loopback.c. */
void KitLoopback(KIT *kit);

extern const KIT_CASE KitCases[];
extern const size_t KitCaseCount;

#endif
