/*
 * wsk_registration.h: one client's attachment to WSK: register, capture, release, deregister.
 *
 * Lazy: the first operation that needs the provider registers with version 1.0 and captures without waiting. Only
 * where the provider is not ready yet does a thread of its own wait for it, with a limit (appendix B, trap 16).
 * The state belongs to the client's lock; no WSK function is called with the lock held.
 */
#ifndef WSKLAB_WSK_REGISTRATION_H
#define WSKLAB_WSK_REGISTRATION_H

#include "platform.h"

struct CLIENT;

typedef enum REGISTRATION_STATE {
    REGISTRATION_NONE,          /* never registered, or the registration failed */
    REGISTRATION_BUSY,          /* WskRegister is running */
    REGISTRATION_REGISTERED,
    REGISTRATION_DEREGISTERING, /* WskDeregister is running, possibly for long */
    REGISTRATION_NMR,           /* registered with the module registrar, and attached as soon as that says so (nmr.h) */
    REGISTRATION_NMR_LEAVING,   /* NmrDeregisterClient and its wait are running */
    REGISTRATION_GONE           /* deregistered; the block is intact and may be registered again (WSK-DET-001) */
} REGISTRATION_STATE;

typedef struct REGISTRATION {
    WSK_REGISTRATION Block;
    WSK_CLIENT_NPI ClientNpi;
    WSK_CLIENT_DISPATCH Dispatch;
    REGISTRATION_STATE State;
    LONG Captures;
    LONG Users; /* calls through the provider dispatch that have not returned */
    WSK_PROVIDER_NPI Npi;
} REGISTRATION;

#define ATTACH_WAIT_MS 5000u

/* A registration begins, with either registrar. FALSE: there is one, or one is under way. */
_Requires_lock_held_(Client->Lock) _Must_inspect_result_ BOOLEAN RegistrationTake(struct CLIENT *Client, REGISTRATION_STATE State);
_IRQL_requires_max_(DISPATCH_LEVEL) VOID RegistrationSetState(struct CLIENT *Client, REGISTRATION_STATE State);

/* WskRegister, in two halves around the call, so that a recorded operation can make the call itself. */
_IRQL_requires_max_(PASSIVE_LEVEL) _Must_inspect_result_ NTSTATUS RegistrationBeginRegister(struct CLIENT *Client, USHORT Version,
                                                                                            PFN_WSK_CLIENT_EVENT ClientEvent);
_IRQL_requires_max_(PASSIVE_LEVEL) VOID RegistrationEndRegister(struct CLIENT *Client, NTSTATUS Status);

/* After a successful WskCaptureProviderNPI. `SameNpi` tells whether the pointers are those of the capture before. */
_IRQL_requires_max_(DISPATCH_LEVEL) VOID RegistrationCaptured(struct CLIENT *Client, const WSK_PROVIDER_NPI *Npi, BOOLEAN *SameNpi);
/* Whether a capture (or a look at the characteristics) may be called now. */
_IRQL_requires_max_(DISPATCH_LEVEL) _Must_inspect_result_ NTSTATUS RegistrationMayCapture(struct CLIENT *Client, BOOLEAN AfterDeregister);

/* Take one capture off the count; the caller then calls WskReleaseProviderNPI. Refused while a call runs on the last one. */
_IRQL_requires_max_(DISPATCH_LEVEL) _Must_inspect_result_ NTSTATUS RegistrationBeginRelease(struct CLIENT *Client);

/* STATUS_DEVICE_BUSY: address lists are held, which nobody could give back afterwards. */
_IRQL_requires_max_(DISPATCH_LEVEL) _Must_inspect_result_ NTSTATUS RegistrationBeginDeregister(struct CLIENT *Client);
/* Deregistering has begun. */
_IRQL_requires_max_(DISPATCH_LEVEL) BOOLEAN RegistrationIsLeaving(struct CLIENT *Client);
_IRQL_requires_max_(DISPATCH_LEVEL) VOID RegistrationEndDeregister(struct CLIENT *Client);

/* Register and capture without waiting, where that has not been done. STATUS_DEVICE_NOT_READY: ask RegistrationAttachSlowly. */
_IRQL_requires_max_(PASSIVE_LEVEL) _Must_inspect_result_ NTSTATUS RegistrationAttach(struct CLIENT *Client);
/* Capture with a bounded wait. Only on a thread of its own. */
_IRQL_requires_max_(PASSIVE_LEVEL) NTSTATUS RegistrationAttachSlowly(struct CLIENT *Client);

/* Use the provider for one call; End when it has returned. */
_IRQL_requires_max_(DISPATCH_LEVEL) _Must_inspect_result_ NTSTATUS RegistrationBeginUse(struct CLIENT *Client, WSK_PROVIDER_NPI *Npi);
_IRQL_requires_max_(DISPATCH_LEVEL) VOID RegistrationEndUse(struct CLIENT *Client);

#endif
