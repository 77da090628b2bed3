/*
 * nmr.h: a client's attachment to WSK through the Network Module Registrar, the legacy way (WSK-REG-012).
 *
 * It stands in the place of WskRegister and one capture: while it lasts the registration's state is REGISTRATION_NMR,
 * and what the registrar handed out serves all calls. The registrar attaches when it likes, at once as a rule. Detaching
 * is asynchronous: what WSK gave us by the provider dispatch (cached descriptors, address lists) goes back by it first.
 * From the callback on, and once that has gone back, no new call goes through the provider dispatch; the last call to
 * return, or the last thing to go back, tells the registrar (NmrClientDetachProviderComplete). Deregistering waits for
 * the end of all that, on a thread of its own. On Wine the functions are stubs that raise, and are not called.
 */
#ifndef WSKLAB_NMR_CLIENT_H
#define WSKLAB_NMR_CLIENT_H

#include "platform.h"
#include "wsklab_nmr.h"

struct CLIENT;

/* Guarded by the client's lock, but for what the registrar gets: that is written before it is registered. */
typedef struct NMR {
    HANDLE Handle;
    BOOLEAN Registered; /* the call has returned: the handle may be used */
    HANDLE Binding;
    BOOLEAN Attached;
    BOOLEAN DetachPending; /* the last running call, or the last thing that goes back, tells the registrar */
    BOOLEAN Retry;         /* after a version that is refused, once more with 1.0 */
    USHORT LowestVersion;  /* what the provider said about itself */
    USHORT HighestVersion;
    NPI_MODULEID Module;
    WSK_CLIENT_DISPATCH Dispatch[2];
    NPI_CLIENT_CHARACTERISTICS Characteristics;
} NMR;

/* The state that NmrRegisterClient and NmrDeregisterClient need; success means that the call has to follow. */
_IRQL_requires_max_(PASSIVE_LEVEL) _Must_inspect_result_ NTSTATUS NmrBeginRegister(struct CLIENT *Client, USHORT Version,
                                                                                   BOOLEAN Retry, PFN_WSK_CLIENT_EVENT ClientEvent);
_IRQL_requires_max_(PASSIVE_LEVEL) NTSTATUS NmrRegister(struct CLIENT *Client);
_IRQL_requires_max_(PASSIVE_LEVEL) _Must_inspect_result_ NTSTATUS NmrBeginDeregister(struct CLIENT *Client);
/* NmrDeregisterClient and the wait for its end; blocks for as long as the registrar likes. */
_IRQL_requires_max_(PASSIVE_LEVEL) NTSTATUS NmrDeregister(struct CLIENT *Client);
/* It could not even be called: registered as before. */
_IRQL_requires_max_(PASSIVE_LEVEL) VOID NmrUndoDeregister(struct CLIENT *Client);
/* Whether a new call may go through the provider dispatch; with the client's lock. */
_Requires_lock_held_(Client->Lock) BOOLEAN NmrMayCall(const struct CLIENT *Client);
/* A call through the provider dispatch has returned, or something has gone back to WSK; without the client's lock. */
_IRQL_requires_max_(DISPATCH_LEVEL) VOID NmrMayHaveEnded(struct CLIENT *Client);

#endif
