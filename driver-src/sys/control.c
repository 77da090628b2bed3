/*
 * control.c: WskControlSocket and WskControlClient.
 */
#include "control.h"

#include "hold.h"
#include "members.h"

/* An option's value is padded with zeros, so that a provider that reads a whole structure stays inside. */
#define INPUT_ROOM 128u

typedef enum OUTPUT_KIND {
    OUTPUT_HIDDEN,     /* may hold pointers: told by its size */
    OUTPUT_PLAIN,      /* told as it is */
    OUTPUT_DESCRIPTOR, /* a pointer to a cached descriptor: becomes an object */
    OUTPUT_ADDRESSES,  /* SOCKET_ADDRESS_LIST: pointers become offsets */
    OUTPUT_INSPECT_ID  /* becomes the number of the inspection */
} OUTPUT_KIND;

typedef struct CODE {
    ULONG Code;
    UCHAR Input; /* WSKLAB_INPUT_*: the one kind that it takes, beside NONE */
    UCHAR Output;
} CODE;

static const CODE g_SocketCodes[] = {
    {SO_WSK_EVENT_CALLBACK, WSKLAB_INPUT_EVENT_CALLBACK, OUTPUT_HIDDEN},
    {SO_WSK_SECURITY, WSKLAB_INPUT_CACHED, OUTPUT_DESCRIPTOR},
    {SO_EXCLUSIVEADDRUSE, WSKLAB_INPUT_BYTES, OUTPUT_PLAIN},
    {SIO_WSK_SET_REMOTE_ADDRESS, WSKLAB_INPUT_BYTES, OUTPUT_PLAIN},
    {SIO_WSK_REGISTER_EXTENSION, WSKLAB_INPUT_EXTENSION, OUTPUT_HIDDEN},
    {SIO_WSK_QUERY_IDEAL_SEND_BACKLOG, WSKLAB_INPUT_BYTES, OUTPUT_PLAIN},
    {SIO_WSK_QUERY_RECEIVE_BACKLOG, WSKLAB_INPUT_BYTES, OUTPUT_PLAIN},
    {SIO_WSK_QUERY_INSPECT_ID, WSKLAB_INPUT_BYTES, OUTPUT_INSPECT_ID},
    {SIO_WSK_SET_SENDTO_ADDRESS, WSKLAB_INPUT_BYTES, OUTPUT_PLAIN},
    {SIO_WSK_SET_TCP_SILENT_MODE, WSKLAB_INPUT_BYTES, OUTPUT_PLAIN},
    {SIO_ADDRESS_LIST_QUERY, WSKLAB_INPUT_BYTES, OUTPUT_ADDRESSES},
    {SIO_ADDRESS_LIST_CHANGE, WSKLAB_INPUT_BYTES, OUTPUT_PLAIN},
};

static const CODE g_ClientCodes[] = {
    {WSK_TRANSPORT_LIST_QUERY, WSKLAB_INPUT_BYTES, OUTPUT_PLAIN},
    {WSK_TRANSPORT_LIST_CHANGE, WSKLAB_INPUT_BYTES, OUTPUT_PLAIN},
    {WSK_CACHE_SD, WSKLAB_INPUT_DESCRIPTOR, OUTPUT_DESCRIPTOR},
    {WSK_RELEASE_SD, WSKLAB_INPUT_CACHED, OUTPUT_HIDDEN},
    {WSK_TDI_DEVICENAME_MAPPING, WSKLAB_INPUT_TDI_MAP, OUTPUT_HIDDEN},
    {WSK_SET_STATIC_EVENT_CALLBACKS, WSKLAB_INPUT_EVENT_CALLBACK, OUTPUT_HIDDEN},
    {WSK_TDI_BEHAVIOR, WSKLAB_INPUT_BYTES, OUTPUT_PLAIN},
};

static const NPIID g_NpiWsk = WSKLAB_NPI_WSK_INTERFACE_ID;
static const NPIID g_NpiCopy = WSKLAB_NPI_WSK_INTERFACE_ID;
static const NPIID g_NpiOther = {0x6c6b7357, 0x4c61, 0x4262, {0x9f, 0x21, 0x70, 0x3a, 0x5e, 0x11, 0xc2, 0x8d}};

/* WSK keeps cached descriptors in one piece, so they are handed over in one piece: self-relative, the offsets as they
 * lie here. Owner and group are SYSTEM: an access check wants both. */
typedef struct FIXED_DESCRIPTOR {
    UCHAR Revision;
    UCHAR Zero;
    USHORT Control; /* SE_SELF_RELATIVE | SE_DACL_PRESENT */
    ULONG Owner;
    ULONG Group;
    ULONG Sacl;
    ULONG Dacl;
    struct {
        UCHAR Revision, Zero;
        USHORT Size, Count, Zero2;
        UCHAR AceType, AceFlags;
        USHORT AceSize;
        ULONG Access;
        UCHAR Sid[16];
    } Acl;
    UCHAR System[12];
} FIXED_DESCRIPTOR;

#define SID_SYSTEM {1, 1, 0, 0, 0, 0, 0, 5, 18, 0, 0, 0}
#define SID_EVERYONE {1, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0}                                /* S-1-1-0 */
#define SID_ADMINISTRATORS {1, 2, 0, 0, 0, 0, 0, 5, 32, 0, 0, 0, 0x20, 0x02, 0, 0}       /* S-1-5-32-544 */
#define EVERY_ACCESS 0x001FFFFFu
#define DESCRIPTOR(sid, sid_bytes)                                                                                     \
    {1, 0, 0x8004, offsetof(FIXED_DESCRIPTOR, System), offsetof(FIXED_DESCRIPTOR, System), 0,                          \
     offsetof(FIXED_DESCRIPTOR, Acl), {2, 0, 8 + 8 + (sid_bytes), 1, 0, 0, 0, 8 + (sid_bytes), EVERY_ACCESS, sid}, SID_SYSTEM}

static const FIXED_DESCRIPTOR g_Descriptors[] = {
    [WSKLAB_DESCRIPTOR_EVERYONE] = DESCRIPTOR(SID_EVERYONE, 12),
    [WSKLAB_DESCRIPTOR_ADMINISTRATORS] = DESCRIPTOR(SID_ADMINISTRATORS, 16),
};
_Static_assert(offsetof(FIXED_DESCRIPTOR, Acl) == 20 && sizeof(FIXED_DESCRIPTOR) == 64, "a self-relative descriptor has no holes");

/* The TDI map's one element lies behind its head in the same buffer. */
typedef struct TDI_INPUT {
    WSK_TDI_MAP_INFO Info;
    WSK_TDI_MAP Map;
} TDI_INPUT;

static CODE CodeOf(const WSKLAB_SUBMIT *Submit) {
    BOOLEAN ofClient = Submit->function == WSKLAB_FN_CONTROL_CLIENT;
    const CODE *codes = ofClient ? g_ClientCodes : g_SocketCodes;
    ULONG count = ofClient ? sizeof(g_ClientCodes) / sizeof(CODE) : sizeof(g_SocketCodes) / sizeof(CODE);
    ULONG code = Submit->control_code;
    CODE unknown = {code, WSKLAB_INPUT_BYTES, OUTPUT_PLAIN};

    /* By the code alone, whatever request type and level say: a provider may not look at them. */
    for (ULONG i = 0; i < count; i++) {
        if (codes[i].Code == code) {
            return codes[i];
        }
    }
    if (Submit->control_type != WskSetOption && Submit->control_type != WskGetOption) {
        unknown.Output = OUTPUT_HIDDEN;
    }
    if (ofClient || (code & 0xFFFFF000u) == 0x4000u || (code & 0x0F000000u) == 0x0F000000u) {
        /* WSK's own ranges: a later Windows may take or give pointers there. */
        unknown.Input = WSKLAB_INPUT_NONE;
        unknown.Output = OUTPUT_HIDDEN;
    }
    return unknown;
}

static ULONG InputBytes(const WSKLAB_SUBMIT *Submit) {
    switch (Submit->input_kind) {
    case WSKLAB_INPUT_BYTES:
        return Submit->extra_length;
    case WSKLAB_INPUT_EVENT_CALLBACK:
        return sizeof(WSK_EVENT_CALLBACK_CONTROL);
    case WSKLAB_INPUT_DESCRIPTOR:
    case WSKLAB_INPUT_CACHED:
        return sizeof(PSECURITY_DESCRIPTOR);
    case WSKLAB_INPUT_EXTENSION:
        return sizeof(WSK_EXTENSION_CONTROL_IN);
    case WSKLAB_INPUT_TDI_MAP:
        return sizeof(WSK_TDI_MAP_INFO);
    default:
        return 0;
    }
}

BOOLEAN ControlMakesDescriptor(const WSKLAB_SUBMIT *Submit) {
    return (FunctionTraits(Submit->function) & FUNCTION_CONTROL) && CodeOf(Submit).Output == OUTPUT_DESCRIPTOR &&
           Submit->output_size != 0;
}

BOOLEAN ControlIsPassive(const WSKLAB_SUBMIT *Submit) {
    return Submit->function == WSKLAB_FN_CONTROL_SOCKET &&
           (Submit->control_code == SIO_ADDRESS_LIST_QUERY || Submit->control_code == SIO_ADDRESS_LIST_CHANGE);
}

BOOLEAN ControlIsValid(const WSKLAB_SUBMIT *Submit) {
    CODE code = CodeOf(Submit);

    return Submit->input_kind <= WSKLAB_INPUT_TDI_MAP && Submit->npi <= WSKLAB_NPI_NULL &&
           Submit->descriptor <= WSKLAB_DESCRIPTOR_ADMINISTRATORS &&
           (Submit->input_kind == WSKLAB_INPUT_NONE || Submit->input_kind == code.Input) &&
           Submit->input_size <= InputBytes(Submit) && Submit->output_size <= WSKLAB_MAX_EXTRA &&
           (Submit->input_kind == WSKLAB_INPUT_BYTES) == (Submit->extra_length != 0) &&
           (Submit->argument_use & ~WSKLAB_USE_SIZE_RETURNED) == 0;
}

static PNPIID NpiOf(UCHAR Npi) {
    static const PNPIID ids[] = {[WSKLAB_NPI_WSK] = &g_NpiWsk, [WSKLAB_NPI_COPY] = &g_NpiCopy, [WSKLAB_NPI_OTHER] = &g_NpiOther,
                                 [WSKLAB_NPI_NULL] = NULL};
    return ids[Npi];
}

static NTSTATUS PrepareInput(OPERATION *Operation, const UCHAR *Extra) {
    static const WCHAR deviceName[] = L"\\Device\\Tcp";
    const WSKLAB_SUBMIT *submit = &Operation->Submit;
    LEDGER *ledger = &Operation->Client->Ledger;
    NTSTATUS status;

    if (submit->input_kind == WSKLAB_INPUT_NONE) {
        return STATUS_SUCCESS;
    }
    status = ArgumentSetInput(&Operation->Input, ledger, Extra, submit->extra_length, INPUT_ROOM);
    if (!NT_SUCCESS(status)) {
        return status;
    }
    switch (submit->input_kind) {
    case WSKLAB_INPUT_EVENT_CALLBACK: {
        WSK_EVENT_CALLBACK_CONTROL *control = (WSK_EVENT_CALLBACK_CONTROL *)Operation->Input.Bytes;
        control->NpiId = NpiOf(submit->npi);
        control->EventMask = submit->event_mask;
        break;
    }
    case WSKLAB_INPUT_DESCRIPTOR:
        *(const VOID **)Operation->Input.Bytes = &g_Descriptors[submit->descriptor];
        break;
    case WSKLAB_INPUT_EXTENSION:
        ((WSK_EXTENSION_CONTROL_IN *)Operation->Input.Bytes)->NpiId = NpiOf(submit->npi);
        break;
    case WSKLAB_INPUT_TDI_MAP: {
        TDI_INPUT *input = (TDI_INPUT *)Operation->Input.Bytes;
        input->Info = (WSK_TDI_MAP_INFO){.ElementCount = 1, .Map = &input->Map};
        input->Map = (WSK_TDI_MAP){.SocketType = submit->type,
                                   .AddressFamily = submit->family,
                                   .Protocol = submit->protocol,
                                   .TdiDeviceName = deviceName};
        break;
    }
    default:
        break; /* bytes are there; a cached descriptor is looked up just before the call */
    }
    ArgumentSeal(&Operation->Input);
    return STATUS_SUCCESS;
}

_Use_decl_annotations_ NTSTATUS ControlPrepare(OPERATION *Operation, const UCHAR *Extra) {
    const WSKLAB_SUBMIT *submit = &Operation->Submit;
    LEDGER *ledger = &Operation->Client->Ledger;
    NTSTATUS status = STATUS_SUCCESS;

    Operation->SizeReturned = WSKLAB_PREFILL;
    Operation->ControlLength = submit->output_size;
    Operation->ControlFlags = WSKLAB_PREFILL;
    if (OPERATION_HAS(Operation, FUNCTION_CONTROL)) {
        status = PrepareInput(Operation, Extra);
    } else if (OPERATION_HAS(Operation, FUNCTION_SENDS_CONTROL) && submit->extra_length != 0) {
        status = ArgumentSetInput(&Operation->Input, ledger, Extra, submit->extra_length, 0);
    }
    return NT_SUCCESS(status) ? ArgumentSetOutput(&Operation->Output, ledger, submit->output_size) : status;
}

/* With the lock: a socket that is just being made, and lacks a callback for one of these events. */
static BOOLEAN IsMadeWithout(const CLIENT *Client, ULONG Events) {
    for (PLIST_ENTRY entry = Client->Sockets.Flink; entry != &Client->Sockets; entry = entry->Flink) {
        const SOCKET *socket = CONTAINING_RECORD(entry, SOCKET, Link);
        if (socket->State == WSKLAB_SOCKET_CREATING &&
            (Events & CallbackCategoryEvents(socket->Category) & ~CallbackTablesEvents(&socket->Tables, socket->Category))) {
            return TRUE;
        }
    }
    return FALSE;
}

/* Enabling what the socket has no callback for, or every later socket of the client: nobody says what WSK does then. */
static BOOLEAN EventsAreServed(OPERATION *Operation) {
    BOOLEAN anyway = (Operation->Submit.switches & WSKLAB_SWITCH_HAZARD) != 0;
    ULONG asked = Operation->Submit.event_mask;
    CLIENT *client = Operation->Client;
    KIRQL irql;

    if (Operation->Socket != NULL) {
        ULONG category = Operation->Socket->Category;
        ULONG lacking = asked & CallbackCategoryEvents(category) & ~CallbackTablesEvents(&Operation->Socket->Tables, category);
        return (asked & WSK_EVENT_DISABLE) || ((anyway || lacking == 0) && SocketAskEvents(Operation->Socket, asked, anyway));
    }
    KeAcquireSpinLock(&client->Lock, &irql);
    Operation->AsksStatic = anyway || !IsMadeWithout(client, asked);
    if (Operation->AsksStatic) {
        client->StaticAsked |= asked;
        client->StaticAsking++;
    }
    KeReleaseSpinLock(&client->Lock, irql);
    return Operation->AsksStatic;
}

_Use_decl_annotations_ VOID ControlSettle(OPERATION *Operation, BOOLEAN Succeeded) {
    CLIENT *client = Operation->Client;
    KIRQL irql;

    if (!Operation->AsksStatic) {
        return;
    }
    KeAcquireSpinLock(&client->Lock, &irql);
    client->StaticEvents |= Succeeded ? Operation->Submit.event_mask : 0;
    if (--client->StaticAsking == 0) {
        client->StaticAsked = 0;
    }
    KeReleaseSpinLock(&client->Lock, irql);
}

_Use_decl_annotations_ NTSTATUS ControlBegin(OPERATION *Operation) {
    if (Operation->Submit.input_kind == WSKLAB_INPUT_CACHED) {
        *(PVOID *)Operation->Input.Bytes = Operation->Object->Pointer;
        ArgumentSeal(&Operation->Input);
    }
    return Operation->Submit.input_kind != WSKLAB_INPUT_EVENT_CALLBACK || EventsAreServed(Operation) ? STATUS_SUCCESS
                                                                                                    : STATUS_INVALID_DEVICE_STATE;
}

_Use_decl_annotations_ NTSTATUS ControlCall(OPERATION *Operation) {
    const WSKLAB_SUBMIT *submit = &Operation->Submit;
    PVOID input = submit->input_kind != WSKLAB_INPUT_NONE ? Operation->Input.Bytes : NULL;
    SIZE_T *returned = submit->argument_use & WSKLAB_USE_SIZE_RETURNED ? &Operation->SizeReturned : NULL;

    if (submit->function == WSKLAB_FN_CONTROL_CLIENT) {
        return Operation->Npi.Dispatch->WskControlClient(Operation->Npi.Client, submit->control_code, submit->input_size, input,
                                                         submit->output_size, Operation->Output.Bytes, returned, Operation->Irp);
    }
    return MEMBER_AS(PFN_WSK_CONTROL_SOCKET, Operation->Socket, MEMBER_CONTROL)(
        Operation->Socket->Wsk, (WSK_CONTROL_SOCKET_TYPE)submit->control_type, submit->control_code, submit->control_level,
        submit->input_size, input, submit->output_size, Operation->Output.Bytes, returned, Operation->Irp);
}

ULONG64 ControlReturnedBytes(const OPERATION *Operation, NTSTATUS Status) {
    if (!NT_SUCCESS(Status)) {
        return 0; /* STATUS_BUFFER_OVERFLOW: the size that it would take, and nothing written */
    }
    return Operation->SizeReturned != WSKLAB_PREFILL ? Operation->SizeReturned : Operation->Submit.output_size;
}

/* Pointers into the output become offsets; others, all ones. */
static VOID Relocate(PUCHAR Output, ULONG Bytes) {
    SOCKET_ADDRESS_LIST *list = (SOCKET_ADDRESS_LIST *)Output;
    ULONG room;

    if (Bytes < offsetof(SOCKET_ADDRESS_LIST, Address)) {
        return;
    }
    room = (Bytes - (ULONG)offsetof(SOCKET_ADDRESS_LIST, Address)) / (ULONG)sizeof(SOCKET_ADDRESS);
    for (ULONG i = 0; i < room && (INT)i < list->iAddressCount; i++) {
        ULONG_PTR at = (ULONG_PTR)list->Address[i].lpSockaddr - (ULONG_PTR)Output;
        list->Address[i].lpSockaddr = (PSOCKADDR)(at < Bytes ? at : ~(ULONG_PTR)0);
    }
}

static VOID MarkHidden(OPERATION *Operation, ULONG Inspect) {
    KIRQL irql;
    KeAcquireSpinLock(&Operation->Client->Lock, &irql);
    Operation->Record.inspect = Inspect;
    Operation->Record.flags |= WSKLAB_RECORD_OUTPUT_HIDDEN;
    KeReleaseSpinLock(&Operation->Client->Lock, irql);
}

/* What the output holds, as far as it may be told; the descriptor in it, where there is one. */
static PVOID ReadOutput(OPERATION *Operation, ULONG Bytes) {
    PUCHAR output = Operation->Output.Bytes;

    if (Bytes == 0) {
        return NULL;
    }
    switch (CodeOf(&Operation->Submit).Output) {
    case OUTPUT_PLAIN:
        Operation->ExtraBytes = Bytes;
        return NULL;
    case OUTPUT_ADDRESSES:
        Relocate(output, Bytes);
        Operation->ExtraBytes = Bytes;
        return NULL;
    case OUTPUT_INSPECT_ID:
        MarkHidden(Operation, Bytes >= sizeof(WSK_INSPECT_ID) ? InspectNumber(Operation->Client, (WSK_INSPECT_ID *)output) : 0);
        return NULL;
    case OUTPUT_DESCRIPTOR:
        MarkHidden(Operation, 0);
        return Bytes >= sizeof(PVOID) ? *(PVOID *)output : NULL;
    default:
        MarkHidden(Operation, 0);
        return NULL;
    }
}

_Use_decl_annotations_ VOID ControlEnd(OPERATION *Operation, NTSTATUS Status, ULONG64 Bytes) {
    PVOID descriptor = NULL;

    if (NT_SUCCESS(Status)) {
        descriptor = ReadOutput(Operation, Bytes < Operation->Output.Size ? (ULONG)Bytes : Operation->Output.Size);
    }
    ControlSettle(Operation, NT_SUCCESS(Status));
    HoldSettle(Operation, Status, descriptor, 0, 0);
}
