/*
 * call.c: the WSK functions by name.
 */
#include "call.h"

#include "sample_listen.h"

/* Windows 10 1703: the build that added WskConnectEx and stream sockets. */
#define BUILD_1703 15063u
#define PROVIDER_MEMBERS 6u

BOOLEAN CallUsesProvider(ULONG Function) {
    return Function == WSKLAB_FN_SAMPLE_LISTEN || Function == WSKLAB_FN_SOCKET || Function == WSKLAB_FN_PROVIDER_INFO;
}

static PFN_WSK_BIND BindOf(const SOCKET *Socket) {
    switch (Socket->Category) {
    case WSKLAB_CATEGORY_LISTEN:
        return ((const WSK_PROVIDER_LISTEN_DISPATCH *)Socket->Wsk->Dispatch)->WskBind;
    case WSKLAB_CATEGORY_CONNECTION:
        return ((const WSK_PROVIDER_CONNECTION_DISPATCH *)Socket->Wsk->Dispatch)->WskBind;
    case WSKLAB_CATEGORY_DATAGRAM:
        return ((const WSK_PROVIDER_DATAGRAM_DISPATCH *)Socket->Wsk->Dispatch)->WskBind;
    case WSKLAB_CATEGORY_STREAM:
        return ((const WSK_PROVIDER_STREAM_DISPATCH *)Socket->Wsk->Dispatch)->WskBind;
    default:
        return NULL;
    }
}

static PFN_WSK_ACCEPT AcceptOf(const SOCKET *Socket) {
    switch (Socket->Category) {
    case WSKLAB_CATEGORY_LISTEN:
        return ((const WSK_PROVIDER_LISTEN_DISPATCH *)Socket->Wsk->Dispatch)->WskAccept;
    case WSKLAB_CATEGORY_STREAM:
        return ((const WSK_PROVIDER_STREAM_DISPATCH *)Socket->Wsk->Dispatch)->WskAccept;
    default:
        return NULL;
    }
}

static PFN_WSK_CONNECT ConnectOf(const SOCKET *Socket) {
    switch (Socket->Category) {
    case WSKLAB_CATEGORY_CONNECTION:
        return ((const WSK_PROVIDER_CONNECTION_DISPATCH *)Socket->Wsk->Dispatch)->WskConnect;
    case WSKLAB_CATEGORY_STREAM:
        return ((const WSK_PROVIDER_STREAM_DISPATCH *)Socket->Wsk->Dispatch)->WskConnect;
    default:
        return NULL;
    }
}

static PFN_WSK_SEND SendOf(const SOCKET *Socket) {
    switch (Socket->Category) {
    case WSKLAB_CATEGORY_CONNECTION:
        return ((const WSK_PROVIDER_CONNECTION_DISPATCH *)Socket->Wsk->Dispatch)->WskSend;
    case WSKLAB_CATEGORY_STREAM:
        return ((const WSK_PROVIDER_STREAM_DISPATCH *)Socket->Wsk->Dispatch)->WskSend;
    default:
        return NULL;
    }
}

static PFN_WSK_RECEIVE ReceiveOf(const SOCKET *Socket) {
    switch (Socket->Category) {
    case WSKLAB_CATEGORY_CONNECTION:
        return ((const WSK_PROVIDER_CONNECTION_DISPATCH *)Socket->Wsk->Dispatch)->WskReceive;
    case WSKLAB_CATEGORY_STREAM:
        return ((const WSK_PROVIDER_STREAM_DISPATCH *)Socket->Wsk->Dispatch)->WskReceive;
    default:
        return NULL;
    }
}

/* Control and close sit at the start of every table (WSK-CAT-007). */
static PFN_WSK_CLOSE_SOCKET CloseOf(const SOCKET *Socket) {
    return ((const WSK_PROVIDER_BASIC_DISPATCH *)Socket->Wsk->Dispatch)->WskCloseSocket;
}

_Use_decl_annotations_ NTSTATUS CallIsPossible(OPERATION *Operation) {
    const SOCKET *socket = Operation->Socket;
    SOCKET *created = Operation->NewSocket;
    BOOLEAN possible;

    if (socket->Wsk->Dispatch == NULL) {
        return STATUS_INVALID_DEVICE_STATE;
    }
    switch (Operation->Submit.function) {
    case WSKLAB_FN_BIND:
        possible = BindOf(socket) != NULL;
        break;
    case WSKLAB_FN_ACCEPT:
        possible = AcceptOf(socket) != NULL;
        created->Family = socket->Family;
        created->Type = socket->Type;
        created->Protocol = socket->Protocol;
        break;
    case WSKLAB_FN_CONNECT:
        possible = ConnectOf(socket) != NULL;
        break;
    case WSKLAB_FN_SEND:
        possible = SendOf(socket) != NULL;
        break;
    case WSKLAB_FN_RECEIVE:
        possible = ReceiveOf(socket) != NULL;
        break;
    default:
        possible = Operation->Submit.function == WSKLAB_FN_SOCKET_INFO;
        break;
    }
    return possible ? STATUS_SUCCESS : STATUS_INVALID_DEVICE_REQUEST;
}

_Use_decl_annotations_ NTSTATUS CallPrepare(OPERATION *Operation) {
    CLIENT *client = Operation->Client;
    BOOLEAN late = (Operation->Submit.switches & WSKLAB_SWITCH_AFTER_DEREGISTER) != 0;

    switch (Operation->Submit.function) {
    case WSKLAB_FN_REGISTER:
        return RegistrationBeginRegister(client, Operation->Submit.version);
    case WSKLAB_FN_CAPTURE:
        return RegistrationMayCapture(client, late);
    case WSKLAB_FN_RELEASE_NPI:
        return RegistrationBeginRelease(client);
    case WSKLAB_FN_DEREGISTER:
        return RegistrationBeginDeregister(client);
    case WSKLAB_FN_QUERY_CHARACTERISTICS:
        if (PlatformFacts()->Wine && !(Operation->Submit.switches & WSKLAB_SWITCH_EVEN_IF_RAISING)) {
            return STATUS_NOT_SUPPORTED;
        }
        return RegistrationMayCapture(client, FALSE);
    default:
        return STATUS_SUCCESS;
    }
}

static VOID Note(OPERATION *Operation, ULONG Flags) {
    KIRQL irql;
    KeAcquireSpinLock(&Operation->Client->Lock, &irql);
    Operation->Record.flags |= Flags;
    Operation->Record.captures = (uint32_t)Operation->Client->Registration.Captures;
    KeReleaseSpinLock(&Operation->Client->Lock, irql);
}

static ULONG NpiFlags(const WSK_PROVIDER_NPI *Npi) {
    return (Npi->Client != NULL ? WSKLAB_RECORD_CLIENT_SET : 0) | (Npi->Dispatch != NULL ? WSKLAB_RECORD_DISPATCH_SET : 0);
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

static NTSTATUS Capture(OPERATION *Operation) {
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
        if (!late) {
            RegistrationCaptured(client, &npi, &same);
            if (npi.Dispatch != NULL) {
                Operation->Record.version = npi.Dispatch->Version;
            }
        }
        Note(Operation, NpiFlags(&npi) | (same ? WSKLAB_RECORD_SAME_NPI : 0));
    }
    return status;
}

static NTSTATUS QueryCharacteristics(OPERATION *Operation) {
    WSK_PROVIDER_CHARACTERISTICS characteristics = {0};
    NTSTATUS status = WskQueryProviderCharacteristics(&Operation->Client->Registration.Block, &characteristics);
    if (NT_SUCCESS(status)) {
        Operation->Record.lowest_version = characteristics.LowestVersion;
        Operation->Record.highest_version = characteristics.HighestVersion;
    }
    return status;
}

static ULONG64 NonNull(const VOID *FirstMember, ULONG Count) {
    const PVOID *members = FirstMember;
    ULONG64 mask = 0;
    for (ULONG i = 0; i < Count; i++) {
        if (members[i] != NULL) {
            mask |= 1ull << i;
        }
    }
    return mask;
}

/* How many of the pointers lie inside a loaded image. */
static ULONG InsideImages(const VOID *FirstMember, ULONG Count) {
    const PVOID *members = FirstMember;
    ULONG inside = 0;

    if (PlatformFacts()->PcToFileHeader == NULL) {
        return MAXULONG;
    }
    for (ULONG i = 0; i < Count; i++) {
        PVOID base = NULL;
        if (members[i] != NULL && PlatformFacts()->PcToFileHeader(members[i], &base) != NULL) {
            inside++;
        }
    }
    return inside;
}

static NTSTATUS ProviderInfo(OPERATION *Operation) {
    const WSK_PROVIDER_DISPATCH *dispatch = Operation->Npi.Dispatch;

    Note(Operation, NpiFlags(&Operation->Npi));
    if (dispatch == NULL) {
        return STATUS_DEVICE_NOT_READY;
    }
    Operation->Record.version = dispatch->Version;
    Operation->Record.member_count = PROVIDER_MEMBERS;
    Operation->Record.members = NonNull(&dispatch->WskSocket, PROVIDER_MEMBERS);
    Operation->Record.count = InsideImages(&dispatch->WskSocket, PROVIDER_MEMBERS);
    return STATUS_SUCCESS;
}

static NTSTATUS SocketInfo(OPERATION *Operation) {
    const SOCKET *socket = Operation->Socket;
    BOOLEAN is1703 = PlatformFacts()->Build >= BUILD_1703;
    ULONG count;

    /* Members that this version of Windows does not have are never read. */
    switch (socket->Category) {
    case WSKLAB_CATEGORY_LISTEN:
        count = sizeof(WSK_PROVIDER_LISTEN_DISPATCH) / sizeof(PVOID);
        break;
    case WSKLAB_CATEGORY_DATAGRAM:
        count = sizeof(WSK_PROVIDER_DATAGRAM_DISPATCH) / sizeof(PVOID);
        break;
    case WSKLAB_CATEGORY_CONNECTION:
        count = sizeof(WSK_PROVIDER_CONNECTION_DISPATCH) / sizeof(PVOID) - (is1703 ? 0 : 1);
        break;
    case WSKLAB_CATEGORY_STREAM:
        count = sizeof(WSK_PROVIDER_STREAM_DISPATCH) / sizeof(PVOID);
        break;
    default:
        count = sizeof(WSK_PROVIDER_BASIC_DISPATCH) / sizeof(PVOID);
        break;
    }
    Operation->Record.member_count = count;
    Operation->Record.members = NonNull(socket->Wsk->Dispatch, count);
    Operation->Record.count = InsideImages(socket->Wsk->Dispatch, count);
    Note(Operation, socket->Wsk->Dispatch == socket->Dispatch ? WSKLAB_RECORD_SAME_DISPATCH : 0);
    return STATUS_SUCCESS;
}

static NTSTATUS CreateSocket(OPERATION *Operation) {
    const WSKLAB_SUBMIT *submit = &Operation->Submit;
    const VOID *table = CallbackTablesSet(&Operation->NewSocket->Tables, submit->flags, submit->dispatch, submit->dispatch_mask);
    PWSK_CLIENT client = submit->switches & WSKLAB_SWITCH_NULL_CLIENT ? NULL : Operation->Npi.Client;

    return Operation->Npi.Dispatch->WskSocket(client, submit->family, submit->type, submit->protocol, submit->flags,
                                              (PVOID)(ULONG_PTR)submit->socket_context, table,
                                              submit->owning_process == WSKLAB_OWNER_CURRENT ? PsGetCurrentProcess() : NULL,
                                              submit->owning_thread == WSKLAB_OWNER_CURRENT ? PsGetCurrentThread() : NULL, NULL,
                                              Operation->Irp);
}

static NTSTATUS Accept(OPERATION *Operation) {
    const WSKLAB_SUBMIT *submit = &Operation->Submit;
    const VOID *table = CallbackTablesSet(&Operation->NewSocket->Tables, WSKLAB_CATEGORY_CONNECTION, submit->dispatch,
                                          submit->dispatch_mask);

    return AcceptOf(Operation->Socket)(
        Operation->Socket->Wsk, submit->flags, (PVOID)(ULONG_PTR)submit->socket_context, table,
        submit->address_use & WSKLAB_ADDRESS_LOCAL ? (PSOCKADDR)Operation->Local.Bytes : NULL,
        submit->address_use & WSKLAB_ADDRESS_REMOTE ? (PSOCKADDR)Operation->Remote.Bytes : NULL, Operation->Irp);
}

static NTSTATUS Transfer(OPERATION *Operation) {
    const WSKLAB_SUBMIT *submit = &Operation->Submit;
    PWSK_SOCKET socket = Operation->Socket->Wsk;
    NTSTATUS status = submit->function == WSKLAB_FN_SEND
                          ? SendOf(Operation->Socket)(socket, &Operation->Buffer.Wsk, submit->flags, Operation->Irp)
                          : ReceiveOf(Operation->Socket)(socket, &Operation->Buffer.Wsk, submit->flags, Operation->Irp);

    if (submit->switches & WSKLAB_SWITCH_SCRIBBLE_WSK_BUF) {
        /* Only the MDL chain has to outlive the call (WSK-DATA-010). */
        RtlFillMemory(&Operation->Buffer.Wsk, sizeof(Operation->Buffer.Wsk), 0xFF);
    }
    return status;
}

_Use_decl_annotations_ NTSTATUS CallWsk(OPERATION *Operation) {
    const WSKLAB_SUBMIT *submit = &Operation->Submit;
    CLIENT *client = Operation->Client;
    NTSTATUS status;

    switch (submit->function) {
    case WSKLAB_FN_SAMPLE_LISTEN:
        return SampleRun(Operation);
    case WSKLAB_FN_SOCKET:
        return CreateSocket(Operation);
    case WSKLAB_FN_BIND:
        return BindOf(Operation->Socket)(Operation->Socket->Wsk, (PSOCKADDR)Operation->Local.Bytes, submit->flags, Operation->Irp);
    case WSKLAB_FN_ACCEPT:
        return Accept(Operation);
    case WSKLAB_FN_CONNECT:
        return ConnectOf(Operation->Socket)(Operation->Socket->Wsk, (PSOCKADDR)Operation->Remote.Bytes, submit->flags,
                                            Operation->Irp);
    case WSKLAB_FN_SEND:
    case WSKLAB_FN_RECEIVE:
        return Transfer(Operation);
    case WSKLAB_FN_CLOSE:
        return CloseOf(Operation->Socket)(Operation->Socket->Wsk, Operation->Irp);
    case WSKLAB_FN_REGISTER:
        status = WskRegister(&client->Registration.ClientNpi, &client->Registration.Block);
        RegistrationEndRegister(client, status);
        return status;
    case WSKLAB_FN_CAPTURE:
        return Capture(Operation);
    case WSKLAB_FN_RELEASE_NPI:
        WskReleaseProviderNPI(&client->Registration.Block);
        Note(Operation, 0);
        return STATUS_SUCCESS;
    case WSKLAB_FN_DEREGISTER:
        WskDeregister(&client->Registration.Block);
        RegistrationEndDeregister(client);
        return STATUS_SUCCESS;
    case WSKLAB_FN_QUERY_CHARACTERISTICS:
        return QueryCharacteristics(Operation);
    case WSKLAB_FN_PROVIDER_INFO:
        return ProviderInfo(Operation);
    case WSKLAB_FN_SOCKET_INFO:
        return SocketInfo(Operation);
    default:
        return STATUS_NOT_IMPLEMENTED; /* SUBMIT has refused it before */
    }
}
