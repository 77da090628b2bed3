/*
 * routines_client.c: calls of the registration and of the provider dispatch.
 */
#include "routines.h"

#define PROVIDER_MEMBERS 6u

_Use_decl_annotations_ VOID RoutineTell(OPERATION *Operation, const TOLD *Told) {
    WSKLAB_RECORD *record = &Operation->Record;
    KIRQL irql;

    KeAcquireSpinLock(&Operation->Client->Lock, &irql);
    record->flags |= Told->Flags;
    record->version = Told->Version;
    record->lowest_version = Told->LowestVersion;
    record->highest_version = Told->HighestVersion;
    record->member_count = Told->MemberCount;
    record->members = Told->Members;
    record->count = Told->Count;
    record->object = Told->Object;
    record->remote = Told->Remote;
    record->captures = (uint32_t)Operation->Client->Registration.Captures;
    KeReleaseSpinLock(&Operation->Client->Lock, irql);
}

static ULONG NpiFlags(const WSK_PROVIDER_NPI *Npi) {
    return (Npi->Client != NULL ? WSKLAB_RECORD_CLIENT_SET : 0) | (Npi->Dispatch != NULL ? WSKLAB_RECORD_DISPATCH_SET : 0);
}

_Use_decl_annotations_ NTSTATUS RoutineRegister(OPERATION *Operation) {
    REGISTRATION *registration = &Operation->Client->Registration;
    NTSTATUS status = WskRegister(&registration->ClientNpi, &registration->Block);

    RegistrationEndRegister(Operation->Client, status);
    return status;
}

/* A provider that is up stays up: after a capture that did not wait, one without a limit will not wait either. */
static NTSTATUS CaptureForEver(WSK_REGISTRATION *Registration, WSK_PROVIDER_NPI *Npi) {
    WSK_PROVIDER_NPI first;
    NTSTATUS status = WskCaptureProviderNPI(Registration, WSK_NO_WAIT, &first);

    if (NT_SUCCESS(status)) {
        status = WskCaptureProviderNPI(Registration, WSK_INFINITE_WAIT, Npi);
        WskReleaseProviderNPI(Registration);
    }
    return status;
}

_Use_decl_annotations_ NTSTATUS RoutineCapture(OPERATION *Operation) {
    CLIENT *client = Operation->Client;
    WSK_REGISTRATION *block = &client->Registration.Block;
    BOOLEAN late = (Operation->Submit.switches & WSKLAB_SWITCH_AFTER_DEREGISTER) != 0;
    BOOLEAN infinite = (Operation->Submit.switches & WSKLAB_SWITCH_INFINITE) != 0;
    WSK_PROVIDER_NPI npi = {0};
    BOOLEAN same = FALSE;
    /* With a deregistered block nothing may be waited for: one that waits all the same is the finding. */
    NTSTATUS status = infinite && !late ? CaptureForEver(block, &npi)
                                        : WskCaptureProviderNPI(block, infinite ? WSK_INFINITE_WAIT : Operation->Submit.timeout_ms, &npi);

    if (NT_SUCCESS(status)) {
        TOLD told = {0};
        if (!late) {
            RegistrationCaptured(client, &npi, &same);
            told.Version = npi.Dispatch != NULL ? npi.Dispatch->Version : 0;
        }
        told.Flags = NpiFlags(&npi) | (same ? WSKLAB_RECORD_SAME_NPI : 0);
        RoutineTell(Operation, &told);
    }
    return status;
}

_Use_decl_annotations_ NTSTATUS RoutineReleaseNpi(OPERATION *Operation) {
    const TOLD nothing = {0};

    WskReleaseProviderNPI(&Operation->Client->Registration.Block);
    RoutineTell(Operation, &nothing);
    return STATUS_SUCCESS;
}

_Use_decl_annotations_ NTSTATUS RoutineDeregister(OPERATION *Operation) {
    WskDeregister(&Operation->Client->Registration.Block);
    RegistrationEndDeregister(Operation->Client);
    return STATUS_SUCCESS;
}

_Use_decl_annotations_ NTSTATUS RoutineNmrRegister(OPERATION *Operation) {
    CLIENT *client = Operation->Client;
    NTSTATUS status = NmrRegister(client);
    WSK_PROVIDER_NPI npi;
    TOLD told = {0};
    KIRQL irql;

    /* As a rule the registrar has called back by now; otherwise the events will tell. */
    KeAcquireSpinLock(&client->Lock, &irql);
    npi = client->Registration.Npi;
    told.LowestVersion = client->Nmr.LowestVersion;
    told.HighestVersion = client->Nmr.HighestVersion;
    KeReleaseSpinLock(&client->Lock, irql);
    told.Version = npi.Dispatch != NULL ? npi.Dispatch->Version : 0;
    told.Flags = NpiFlags(&npi);
    RoutineTell(Operation, &told);
    return status;
}

_Use_decl_annotations_ NTSTATUS RoutineNmrDeregister(OPERATION *Operation) {
    const TOLD nothing = {0};
    NTSTATUS status = NmrDeregister(Operation->Client);

    RoutineTell(Operation, &nothing);
    return status;
}

_Use_decl_annotations_ NTSTATUS RoutineQueryCharacteristics(OPERATION *Operation) {
    WSK_PROVIDER_CHARACTERISTICS characteristics = {0};
    NTSTATUS status = WskQueryProviderCharacteristics(&Operation->Client->Registration.Block, &characteristics);

    if (NT_SUCCESS(status)) {
        const TOLD told = {.LowestVersion = characteristics.LowestVersion, .HighestVersion = characteristics.HighestVersion};
        RoutineTell(Operation, &told);
    }
    return status;
}

ULONG64 RoutineNonNull(const VOID *FirstMember, ULONG Count) {
    const PVOID *members = FirstMember;
    ULONG64 mask = 0;

    for (ULONG i = 0; i < Count; i++) {
        if (members[i] != NULL) {
            mask |= 1ull << i;
        }
    }
    return mask;
}

ULONG RoutineInsideImages(const VOID *FirstMember, ULONG Count) {
    const PVOID *members = FirstMember;
    ULONG inside = 0;

    if (PlatformFacts()->PcToFileHeader == NULL) {
        return ~0u;
    }
    for (ULONG i = 0; i < Count; i++) {
        PVOID base = NULL;
        if (members[i] != NULL && PlatformFacts()->PcToFileHeader(members[i], &base) != NULL) {
            inside++;
        }
    }
    return inside;
}

_Use_decl_annotations_ NTSTATUS RoutineProviderInfo(OPERATION *Operation) {
    const WSK_PROVIDER_DISPATCH *dispatch = Operation->Npi.Dispatch;
    TOLD told = {.Flags = NpiFlags(&Operation->Npi)};

    if (dispatch != NULL) {
        told.Version = dispatch->Version;
        told.MemberCount = PROVIDER_MEMBERS;
        told.Members = RoutineNonNull(&dispatch->WskSocket, PROVIDER_MEMBERS);
        told.Count = RoutineInsideImages(&dispatch->WskSocket, PROVIDER_MEMBERS);
    }
    RoutineTell(Operation, &told);
    return dispatch != NULL ? STATUS_SUCCESS : STATUS_DEVICE_NOT_READY;
}

_Use_decl_annotations_ PEPROCESS RoutineOwningProcess(const WSKLAB_SUBMIT *Submit) {
    return Submit->owning_process == WSKLAB_OWNER_CURRENT ? PsGetCurrentProcess() : NULL;
}

_Use_decl_annotations_ PETHREAD RoutineOwningThread(const WSKLAB_SUBMIT *Submit) {
    return Submit->owning_thread == WSKLAB_OWNER_CURRENT ? PsGetCurrentThread() : NULL;
}

/* A cached one, or NULL: an uncached pointer is a client's error (WSK-SOCK-013). */
static PSECURITY_DESCRIPTOR Descriptor(const OPERATION *Operation) {
    return Operation->Object != NULL ? Operation->Object->Pointer : NULL;
}

_Use_decl_annotations_ NTSTATUS RoutineSocket(OPERATION *Operation) {
    const WSKLAB_SUBMIT *submit = &Operation->Submit;
    PWSK_CLIENT client = submit->switches & WSKLAB_SWITCH_NULL_CLIENT ? NULL : Operation->Npi.Client;

    return Operation->Npi.Dispatch->WskSocket(client, submit->family, submit->type, submit->protocol, submit->flags,
                                              (PVOID)(ULONG_PTR)submit->socket_context, Operation->Dispatch,
                                              RoutineOwningProcess(submit), RoutineOwningThread(submit), Descriptor(Operation), Operation->Irp);
}

_Use_decl_annotations_ NTSTATUS RoutineSocketConnect(OPERATION *Operation) {
    const WSKLAB_SUBMIT *submit = &Operation->Submit;

    return Operation->Npi.Dispatch->WskSocketConnect(
        Operation->Npi.Client, submit->type, submit->protocol, (PSOCKADDR)Operation->Local.Bytes,
        (PSOCKADDR)Operation->Remote.Bytes, submit->flags, (PVOID)(ULONG_PTR)submit->socket_context, Operation->Dispatch,
        RoutineOwningProcess(submit), RoutineOwningThread(submit), Descriptor(Operation), Operation->Irp);
}
