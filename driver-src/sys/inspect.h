/*
 * inspect.h: the inspections of a client's conditional listeners: WSK's ids inside, numbers outside.
 *
 * An id may hold a pointer of the provider, so only its number is ever told. The newest WSKLAB_MAX_INSPECTS are
 * remembered, which is more than a backlog of connection requests can hold.
 */
#ifndef WSKLAB_INSPECT_H
#define WSKLAB_INSPECT_H

#include "platform.h"

struct CLIENT;

typedef struct INSPECTION {
    ULONG Number; /* 0: none */
    WSK_INSPECT_ID Id;
} INSPECTION;

typedef struct INSPECT_TABLE {
    INSPECTION Entries[WSKLAB_MAX_INSPECTS];
    ULONG Last;
} INSPECT_TABLE;

/* A new inspection; its number. */
_IRQL_requires_max_(DISPATCH_LEVEL) ULONG InspectRemember(struct CLIENT *Client, const WSK_INSPECT_ID *Id);
/* The newest inspection with these contents; 0 when there was none. */
_IRQL_requires_max_(DISPATCH_LEVEL) ULONG InspectNumber(struct CLIENT *Client, const WSK_INSPECT_ID *Id);
/* A copy of the id of that number. */
_IRQL_requires_max_(DISPATCH_LEVEL) _Must_inspect_result_ NTSTATUS InspectId(struct CLIENT *Client, ULONG Number, WSK_INSPECT_ID *Id);

#endif
