/*
 * faults.h: failures of the driver's own allocations, on request of the client that they are made for.
 *
 * A clean-up path that nobody runs is wrong. Every allocation that belongs to a client asks here first; the client says
 * which shall fail (IOCTL_WSKLAB_FAULTS). The requests themselves allocate nothing. The end of the handle ends all
 * failures: nobody could end them any more, and an unload must not depend on them.
 */
#ifndef WSKLAB_FAULTS_H
#define WSKLAB_FAULTS_H

#include "platform.h"

typedef struct FAULT {
    ULONG64 Seen;
    ULONG64 Denied;
    ULONG Skip; /* let so many pass */
    ULONG Deny; /* then fail so many */
} FAULT;

/* Guarded by one lock of faults.c, a leaf. */
typedef struct FAULTS {
    FAULT Of[WSKLAB_FAULT_END];
} FAULTS;

VOID FaultsInitialize(VOID);
/* Whether this allocation fails; counts it. */
_IRQL_requires_max_(DISPATCH_LEVEL) BOOLEAN FaultsDeny(FAULTS *Faults, ULONG Kind);
_IRQL_requires_max_(DISPATCH_LEVEL) VOID FaultsEnd(FAULTS *Faults);
/* The request of IOCTL_WSKLAB_FAULTS, its header checked. */
_IRQL_requires_max_(DISPATCH_LEVEL) _Must_inspect_result_ NTSTATUS FaultsRequest(FAULTS *Faults, const WSKLAB_FAULTS *Request,
                                                                                 WSKLAB_FAULTS_RESULT *Result);

#endif
