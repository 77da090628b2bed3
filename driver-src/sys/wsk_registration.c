/*
 * wsk_registration.c: one client's attachment to WSK.
 */
#include "wsk_registration.h"

#include "client.h"
#include "nmr.h"

_Use_decl_annotations_ BOOLEAN RegistrationTake(CLIENT *Client, REGISTRATION_STATE State) {
    BOOLEAN free = Client->Registration.State == REGISTRATION_NONE || Client->Registration.State == REGISTRATION_GONE;

    if (free) {
        Client->Registration.State = State;
    }
    return free;
}

_Use_decl_annotations_ VOID RegistrationSetState(CLIENT *Client, REGISTRATION_STATE State) {
    KIRQL irql;
    KeAcquireSpinLock(&Client->Lock, &irql);
    Client->Registration.State = State;
    KeReleaseSpinLock(&Client->Lock, irql);
}

_Use_decl_annotations_ NTSTATUS RegistrationBeginRegister(CLIENT *Client, USHORT Version,
                                                          PFN_WSK_CLIENT_EVENT ClientEvent) {
    REGISTRATION *registration = &Client->Registration;
    NTSTATUS status = STATUS_INVALID_DEVICE_STATE;
    KIRQL irql;

    KeAcquireSpinLock(&Client->Lock, &irql);
    if (RegistrationTake(Client, REGISTRATION_BUSY)) {
        registration->Dispatch.Version = Version;
        registration->Dispatch.Reserved = 0;
        registration->Dispatch.WskClientEvent = ClientEvent;
        registration->ClientNpi.ClientContext = Client;
        registration->ClientNpi.Dispatch = &registration->Dispatch;
        status = STATUS_SUCCESS;
    }
    KeReleaseSpinLock(&Client->Lock, irql);
    return status;
}

_Use_decl_annotations_ VOID RegistrationEndRegister(CLIENT *Client, NTSTATUS Status) {
    RegistrationSetState(Client, NT_SUCCESS(Status) ? REGISTRATION_REGISTERED : REGISTRATION_NONE);
}

_Use_decl_annotations_ VOID RegistrationCaptured(CLIENT *Client, const WSK_PROVIDER_NPI *Npi, BOOLEAN *SameNpi) {
    REGISTRATION *registration = &Client->Registration;
    KIRQL irql;

    KeAcquireSpinLock(&Client->Lock, &irql);
    *SameNpi = registration->Captures > 0 && registration->Npi.Client == Npi->Client && registration->Npi.Dispatch == Npi->Dispatch;
    registration->Npi = *Npi;
    registration->Captures++;
    KeReleaseSpinLock(&Client->Lock, irql);
    LedgerAdd(&Client->Ledger, LEDGER_COUNT(captures), 1);
}

_Use_decl_annotations_ NTSTATUS RegistrationMayCapture(CLIENT *Client, BOOLEAN AfterDeregister) {
    REGISTRATION_STATE state;
    KIRQL irql;

    KeAcquireSpinLock(&Client->Lock, &irql);
    state = Client->Registration.State;
    KeReleaseSpinLock(&Client->Lock, irql);
    if (state == REGISTRATION_REGISTERED) {
        return AfterDeregister ? STATUS_INVALID_DEVICE_STATE : STATUS_SUCCESS;
    }
    return state == REGISTRATION_GONE && AfterDeregister ? STATUS_SUCCESS : STATUS_INVALID_DEVICE_STATE;
}

_Use_decl_annotations_ NTSTATUS RegistrationBeginRelease(CLIENT *Client) {
    REGISTRATION *registration = &Client->Registration;
    NTSTATUS status = STATUS_SUCCESS;
    KIRQL irql;

    KeAcquireSpinLock(&Client->Lock, &irql);
    if (registration->Captures == 0 || registration->State == REGISTRATION_NMR ||
        registration->State == REGISTRATION_NMR_LEAVING) {
        status = STATUS_INVALID_DEVICE_STATE; /* the registrar's is no capture */
    } else if (registration->Captures == 1 && registration->Users > 0) {
        status = STATUS_DEVICE_BUSY;
    } else if (--registration->Captures == 0) {
        RtlZeroMemory(&registration->Npi, sizeof(registration->Npi));
    }
    KeReleaseSpinLock(&Client->Lock, irql);
    if (NT_SUCCESS(status)) {
        LedgerAdd(&Client->Ledger, LEDGER_COUNT(releases), 1);
    }
    return status;
}

_Use_decl_annotations_ NTSTATUS RegistrationBeginDeregister(CLIENT *Client) {
    NTSTATUS status = STATUS_INVALID_DEVICE_STATE;
    KIRQL irql;

    KeAcquireSpinLock(&Client->Lock, &irql);
    if (Client->Registration.State == REGISTRATION_REGISTERED) {
        status = ObjectHolds(Client, WSKLAB_OBJECT_ADDRESS_LIST) ? STATUS_DEVICE_BUSY : STATUS_SUCCESS;
    }
    if (NT_SUCCESS(status)) {
        Client->Registration.State = REGISTRATION_DEREGISTERING;
    }
    KeReleaseSpinLock(&Client->Lock, irql);
    return status;
}

_Use_decl_annotations_ BOOLEAN RegistrationIsLeaving(CLIENT *Client) {
    REGISTRATION_STATE state;
    KIRQL irql;

    KeAcquireSpinLock(&Client->Lock, &irql);
    state = Client->Registration.State;
    KeReleaseSpinLock(&Client->Lock, irql);
    return state == REGISTRATION_DEREGISTERING || state == REGISTRATION_NMR_LEAVING;
}

_Use_decl_annotations_ VOID RegistrationEndDeregister(CLIENT *Client) {
    KIRQL irql;
    KeAcquireSpinLock(&Client->Lock, &irql);
    Client->Registration.State = REGISTRATION_GONE;
    Client->StaticEvents = 0;
    KeReleaseSpinLock(&Client->Lock, irql);
}

static BOOLEAN IsCaptured(CLIENT *Client) {
    BOOLEAN captured;
    KIRQL irql;
    KeAcquireSpinLock(&Client->Lock, &irql);
    captured = Client->Registration.Captures > 0;
    KeReleaseSpinLock(&Client->Lock, irql);
    return captured;
}

static NTSTATUS Capture(CLIENT *Client, ULONG TimeoutMs) {
    WSK_PROVIDER_NPI npi = {0};
    BOOLEAN same;
    NTSTATUS status = WskCaptureProviderNPI(&Client->Registration.Block, TimeoutMs, &npi);
    if (NT_SUCCESS(status)) {
        RegistrationCaptured(Client, &npi, &same);
    }
    return status;
}

_Use_decl_annotations_ NTSTATUS RegistrationAttach(CLIENT *Client) {
    NTSTATUS status;

    if (IsCaptured(Client)) {
        return STATUS_SUCCESS;
    }
    status = RegistrationBeginRegister(Client, MAKE_WSK_VERSION(1, 0), NULL);
    if (NT_SUCCESS(status)) {
        status = WskRegister(&Client->Registration.ClientNpi, &Client->Registration.Block);
        RegistrationEndRegister(Client, status);
        if (!NT_SUCCESS(status)) {
            return status;
        }
    }
    status = RegistrationMayCapture(Client, FALSE);
    return NT_SUCCESS(status) ? Capture(Client, WSK_NO_WAIT) : status;
}

_Use_decl_annotations_ NTSTATUS RegistrationAttachSlowly(CLIENT *Client) {
    NTSTATUS status;

    if (IsCaptured(Client)) {
        return STATUS_SUCCESS;
    }
    status = RegistrationMayCapture(Client, FALSE);
    return NT_SUCCESS(status) ? Capture(Client, ATTACH_WAIT_MS) : status;
}

_Use_decl_annotations_ NTSTATUS RegistrationBeginUse(CLIENT *Client, WSK_PROVIDER_NPI *Npi) {
    NTSTATUS status = STATUS_DEVICE_NOT_READY;
    KIRQL irql;

    KeAcquireSpinLock(&Client->Lock, &irql);
    if (Client->Registration.Captures > 0 && NmrMayCall(Client)) {
        Client->Registration.Users++;
        *Npi = Client->Registration.Npi;
        status = STATUS_SUCCESS;
    }
    KeReleaseSpinLock(&Client->Lock, irql);
    return status;
}

_Use_decl_annotations_ VOID RegistrationEndUse(CLIENT *Client) {
    BOOLEAN last;
    KIRQL irql;

    KeAcquireSpinLock(&Client->Lock, &irql);
    last = --Client->Registration.Users == 0 && Client->Nmr.DetachPending;
    KeReleaseSpinLock(&Client->Lock, irql);
    if (last) {
        NmrMayHaveEnded(Client);
    }
}
