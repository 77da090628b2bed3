/*
 * thunks.c: 64 sets of callbacks, all alike but for the slot.
 */
#include "thunks.h"

#include "callbacks.h"

#define DEFINE(slot)                                                                                                        \
    static NTSTATUS WSKAPI Accept##slot(PVOID Context, ULONG Flags, PSOCKADDR Local, PSOCKADDR Remote, PWSK_SOCKET Accepted, \
                                        PVOID *AcceptedContext, const WSK_CLIENT_CONNECTION_DISPATCH **Dispatch) {          \
        return CallbackAccept(slot, Context, Flags, Local, Remote, Accepted, AcceptedContext, Dispatch);                    \
    }                                                                                                                       \
    static WSK_INSPECT_ACTION WSKAPI Inspect##slot(PVOID Context, PSOCKADDR Local, PSOCKADDR Remote, PWSK_INSPECT_ID Id) {   \
        return CallbackInspect(slot, Context, Local, Remote, Id);                                                           \
    }                                                                                                                       \
    static NTSTATUS WSKAPI Abort##slot(PVOID Context, PWSK_INSPECT_ID Id) {                                                  \
        return CallbackAbort(slot, Context, Id);                                                                            \
    }                                                                                                                       \
    static NTSTATUS WSKAPI ReceiveFrom##slot(PVOID Context, ULONG Flags, PWSK_DATAGRAM_INDICATION Indication) {              \
        return CallbackReceiveFrom(slot, Context, Flags, Indication);                                                       \
    }                                                                                                                       \
    static NTSTATUS WSKAPI Receive##slot(PVOID Context, ULONG Flags, PWSK_DATA_INDICATION Indication, SIZE_T Indicated,      \
                                         SIZE_T *Accepted) {                                                                \
        return CallbackReceive(slot, Context, Flags, Indication, Indicated, Accepted);                                      \
    }                                                                                                                       \
    static NTSTATUS WSKAPI Disconnect##slot(PVOID Context, ULONG Flags) {                                                    \
        return CallbackDisconnect(slot, Context, Flags);                                                                    \
    }                                                                                                                       \
    static NTSTATUS WSKAPI SendBacklog##slot(PVOID Context, SIZE_T Ideal) {                                                  \
        return CallbackSendBacklog(slot, Context, Ideal);                                                                   \
    }

#define ENTRY(slot)                                                                                               \
    {Accept##slot, Inspect##slot, Abort##slot, ReceiveFrom##slot, Receive##slot, Disconnect##slot, SendBacklog##slot},

/* 000 .. 077: the digits are octal, and so is the number that the compiler reads. */
#define EIGHT(what, first) \
    what(first##0) what(first##1) what(first##2) what(first##3) what(first##4) what(first##5) what(first##6) what(first##7)
#define ALL(what) \
    EIGHT(what, 00) EIGHT(what, 01) EIGHT(what, 02) EIGHT(what, 03) EIGHT(what, 04) EIGHT(what, 05) EIGHT(what, 06) EIGHT(what, 07)

ALL(DEFINE)

static const THUNKS g_Thunks[] = {ALL(ENTRY)};

_Static_assert(sizeof(g_Thunks) / sizeof(g_Thunks[0]) == WSKLAB_MAX_CLIENTS, "one set per client");

const THUNKS *ThunksOf(ULONG Slot) {
    return &g_Thunks[Slot];
}
