/*
 * name.c: WskGetAddressInfo, WskFreeAddressInfo, WskGetNameInfo.
 *
 * A lookup is done by one of the provider's threads. Cancelling it ends the IRP at once; the thread then throws its
 * result away.
 */
#include "name.h"

#include "address.h"
#include "client.h"
#include "functions.h"
#include "request.h"
#include "winsock.h"

#include "host/host_name.h"

#define MAX_RESULTS 64
#define MAX_NAME 256u

/* What a lookup works on. Owned by its thread until it has run, then by nobody; the request may be gone earlier. */
typedef struct WSKP_LOOKUP {
    WSKP_OBJECT Object;
    WSKP_LANE Lane;
    WSKP_WORK Work;
    WSKP_CLIENT *Client;
    WSKP_REQUEST *Request; /* NULL: it was cancelled */
    LIST_ENTRY Waiting;    /* the queue of that one request */
    /* Of WskGetAddressInfo. */
    BOOLEAN HasNode;
    BOOLEAN HasService;
    char Node[MAX_NAME];
    char Service[MAX_NAME];
    HOST_NAME_HINTS Hints;
    INT HintFlags;
    PADDRINFOEXW *Result;
    /* Of WskGetNameInfo. */
    HOST_ADDRESS Address;
    PUNICODE_STRING NodeOut;
    PUNICODE_STRING ServiceOut;
    ULONG Flags;
} WSKP_LOOKUP;

/* A result: one block, which begins with what the client sees. */
typedef struct ADDRESS_LIST {
    ADDRINFOEXW First;
    LIST_ENTRY Link;
    WSKP_CLIENT *Client;
} ADDRESS_LIST;

typedef struct RESULT_ENTRY {
    ADDRINFOEXW Info;
    UCHAR Address[32];
} RESULT_ENTRY;

static void FreeLookup(WSKP_OBJECT *object) {
    WSKP_LOOKUP *lookup = CONTAINING_RECORD(object, WSKP_LOOKUP, Object);
    WskpClientRequestEnded(lookup->Client);
    WskpDereference(&lookup->Client->Object);
    ShimFree(lookup);
}

/* ASCII is all that names and numbers of an address have; FALSE: something else, or too long. Length counts (NAME-005). */
static BOOLEAN CopyName(const char *what, PUNICODE_STRING string, char out[MAX_NAME], BOOLEAN *given) {
    ULONG length = 0;

    *given = string != NULL;
    out[0] = 0;
    if (string == NULL) {
        return TRUE;
    }
    ShimRequireMemory(what, string, sizeof(*string));
    if (string->Length > 0) {
        ShimRequireMemory(what, string->Buffer, string->Length);
    }
    for (ULONG index = 0; index < string->Length / sizeof(WCHAR) && string->Buffer[index] != 0; index++) {
        if (string->Buffer[index] > 0x7E || length + 1 >= MAX_NAME) {
            return FALSE;
        }
        out[length++] = (char)string->Buffer[index];
    }
    out[length] = 0;
    return TRUE;
}

/* As newer Windows says it (NAME-002, O: WT); the page has STATUS_NO_MATCH. */
static NTSTATUS StatusOf(int error) {
    switch (error) {
    case -HOST_NAME_UNKNOWN:
    case -HOST_NAME_SERVICE:
        return STATUS_NOT_FOUND;
    case -HOST_NAME_MEMORY:
        return STATUS_INSUFFICIENT_RESOURCES;
    case -HOST_NAME_FAMILY:
    case -HOST_NAME_TYPE:
        return STATUS_NOT_SUPPORTED;
    default:
        return STATUS_INVALID_PARAMETER;
    }
}

static size_t WriteWide(PWSTR out, const char *text) {
    size_t length = strlen(text);
    for (size_t index = 0; index <= length; index++) {
        out[index] = (UCHAR)text[index];
    }
    return length;
}

/* With the lock: the client's list, all in one block. NULL when there is no memory. */
static PADDRINFOEXW MakeList(WSKP_CLIENT *client, const HOST_NAME_RESULT *results, int count, const char *canonical) {
    size_t canonicalSize = canonical[0] == 0 ? 0 : (strlen(canonical) + 1) * sizeof(WCHAR);
    ADDRESS_LIST *list = ShimAllocate("address list", sizeof(*list) + (size_t)count * sizeof(RESULT_ENTRY) + canonicalSize);
    RESULT_ENTRY *entries;
    PADDRINFOEXW previous = NULL;

    if (list == NULL) {
        return NULL;
    }
    entries = (RESULT_ENTRY *)(list + 1);
    for (int index = 0; index < count; index++) {
        PADDRINFOEXW info = index == 0 ? &list->First : &entries[index].Info;
        info->ai_family = WskpFamilyNumber(results[index].Address.Family);
        info->ai_socktype = results[index].Type;
        info->ai_protocol = results[index].Protocol;
        info->ai_addrlen = WskpAddressSize(results[index].Address.Family);
        info->ai_addr = (PSOCKADDR)entries[index].Address;
        WskpAddressWrite(info->ai_addr, &results[index].Address);
        if (MutantIs("WSK-NAME-001/port-missing")) {
            RtlZeroMemory(&info->ai_addr->sa_data[0], 2);
        }
        if (previous != NULL) {
            previous->ai_next = info;
        }
        previous = info;
    }
    if (canonicalSize > 0) {
        list->First.ai_canonname = (PWSTR)(entries + count);
        WriteWide(list->First.ai_canonname, canonical);
    }
    list->Client = client;
    InsertTailList(&client->AddressLists, &list->Link);
    return &list->First;
}

/* With the lock: the request, if it still waits. */
static WSKP_REQUEST *Claim(WSKP_LOOKUP *lookup) {
    if (IsListEmpty(&lookup->Waiting)) {
        return NULL;
    }
    return WskpRequestClaim(lookup->Request) ? lookup->Request : NULL;
}

static void RunAddressInfo(WSKP_WORK *work) {
    WSKP_LOOKUP *lookup = CONTAINING_RECORD(work, WSKP_LOOKUP, Work);
    HOST_NAME_RESULT results[MAX_RESULTS];
    char canonical[HOST_MAX_NAME];
    int count = HostNameResolve(lookup->HasNode ? lookup->Node : NULL, lookup->HasService ? lookup->Service : NULL, &lookup->Hints,
                                results, MAX_RESULTS, canonical);
    WSKP_REQUEST *request;
    KIRQL irql = WskpLock();

    request = Claim(lookup);
    if (request != NULL && count <= 0) {
        WskpRequestDone(request, MutantIs("WSK-NAME-002/found") ? STATUS_SUCCESS : StatusOf(count), 0);
    } else if (request != NULL) {
        PADDRINFOEXW list = MakeList(lookup->Client, results, count, canonical);
        if (list != NULL) {
            *lookup->Result = list;
        }
        WskpRequestDone(request, list == NULL ? STATUS_INSUFFICIENT_RESOURCES : STATUS_SUCCESS, 0); /* NAME-005: Windows has 0 */
    }
    WskpDereference(&lookup->Object);
    WskpUnlock(irql);
}

/* The string with its terminator, Length without (NAME-007, NAME-008). */
static NTSTATUS WriteString(PUNICODE_STRING out, const char *text) {
    size_t size = (strlen(text) + 1) * sizeof(WCHAR);

    if (out == NULL) {
        return STATUS_SUCCESS;
    }
    if (out->Buffer == NULL || out->MaximumLength < size) {
        return STATUS_BUFFER_TOO_SMALL;
    }
    WriteWide(out->Buffer, text);
    out->Length = MutantIs("WSK-NAME-007/length-with-zero") ? (USHORT)size : (USHORT)(size - sizeof(WCHAR));
    return STATUS_SUCCESS;
}

static void RunNameInfo(WSKP_WORK *work) {
    WSKP_LOOKUP *lookup = CONTAINING_RECORD(work, WSKP_LOOKUP, Work);
    char node[HOST_MAX_NAME], service[HOST_MAX_NAME];
    BOOLEAN required = (lookup->Flags & WSKP_NI_NAMEREQD) != 0 && !MutantIs("WSK-NAME-008/name-not-required");
    int error = HostNameOf(&lookup->Address, (lookup->Flags & WSKP_NI_NUMERICHOST) != 0, (lookup->Flags & WSKP_NI_NUMERICSERV) != 0,
                           required, (lookup->Flags & WSKP_NI_DGRAM) != 0, node, service);
    WSKP_REQUEST *request;
    KIRQL irql = WskpLock();

    request = Claim(lookup);
    if (request != NULL) {
        NTSTATUS status = error == 0 ? WriteString(lookup->NodeOut, node) : StatusOf(error);
        if (NT_SUCCESS(status)) {
            status = WriteString(lookup->ServiceOut, service);
        }
        WskpRequestDone(request, status, 0);
    }
    WskpDereference(&lookup->Object);
    WskpUnlock(irql);
}

static WSKP_LOOKUP *NewLookup(WSKP_CLIENT *client, void (*run)(WSKP_WORK *work)) {
    WSKP_LOOKUP *lookup = ShimAllocate("name lookup", sizeof(*lookup));
    KIRQL irql;

    if (lookup == NULL) {
        return NULL;
    }
    WskpObjectInitialize(&lookup->Object, FreeLookup);
    WskpLaneInitialize(&lookup->Lane, &lookup->Object);
    InitializeListHead(&lookup->Waiting);
    lookup->Work.Run = run;
    lookup->Client = client;
    irql = WskpLock();
    WskpReference(&client->Object);
    WskpClientRequestBegan(client); /* DET-004: also when its IRP is cancelled */
    WskpUnlock(irql);
    return lookup;
}

static NTSTATUS Start(WSKP_LOOKUP *lookup, WSKP_REQUEST *request) {
    KIRQL irql = WskpLock();
    lookup->Request = request;
    WskpRequestQueue(request, &lookup->Waiting);
    WskpLanePost(&lookup->Lane, &lookup->Work);
    WskpUnlock(irql);
    return WskpRequestReturn(request);
}

static void Discard(WSKP_LOOKUP *lookup) {
    KIRQL irql = WskpLock();
    WskpDereference(&lookup->Object);
    WskpUnlock(irql);
}

/* NAME-006 */
static NTSTATUS ReadHints(WSKP_LOOKUP *lookup, const ADDRINFOEXW *hints) {
    if (hints == NULL) {
        return STATUS_SUCCESS;
    }
    ShimRequireMemory("Hints of WskGetAddressInfo", hints, sizeof(*hints));
    lookup->Hints.Passive = (hints->ai_flags & WSKP_AI_PASSIVE) != 0;
    lookup->Hints.Canonical = (hints->ai_flags & WSKP_AI_CANONNAME) != 0;
    lookup->Hints.NumericHost = (hints->ai_flags & WSKP_AI_NUMERICHOST) != 0 && !MutantIs("WSK-NAME-006/numeric-ignored");
    lookup->Hints.NumericService = (hints->ai_flags & WSKP_AI_NUMERICSERV) != 0;
    lookup->Hints.Type = hints->ai_socktype;
    lookup->Hints.Protocol = hints->ai_protocol;
    if (hints->ai_family != AF_UNSPEC && !MutantIs("WSK-NAME-006/family-ignored")) {
        lookup->Hints.Family = WskpFamilyOf((ADDRESS_FAMILY)hints->ai_family);
        return lookup->Hints.Family == HOST_FAMILY_NONE ? STATUS_NOT_SUPPORTED : STATUS_SUCCESS;
    }
    return STATUS_SUCCESS;
}

NTSTATUS WSKAPI WskpGetAddressInfo(PWSK_CLIENT Client, PUNICODE_STRING NodeName, PUNICODE_STRING ServiceName, ULONG NameSpace,
                                   GUID *Provider, PADDRINFOEXW Hints, PADDRINFOEXW *Result, PEPROCESS OwningProcess,
                                   PETHREAD OwningThread, PIRP Irp) {
    WSKP_CLIENT *client = WskpClientEnter("WskGetAddressInfo", Client, PASSIVE_LEVEL);
    WSKP_REQUEST *request;
    WSKP_LOOKUP *lookup;
    NTSTATUS status = STATUS_INVALID_PARAMETER;
    BOOLEAN names;

    (void)Provider;
    if (client == NULL) {
        return STATUS_INVALID_HANDLE;
    }
    request = Irp == NULL ? NULL : WskpRequestBegin(WSKP_GetAddressInfo, client, NULL, Irp, &status); /* NAME-003 */
    if (request != NULL) {
        lookup = NewLookup(client, RunAddressInfo);
        if (lookup == NULL) {
            status = WskpRequestFinish(request, STATUS_INSUFFICIENT_RESOURCES, 0);
        } else {
            ShimRequireMemory("Result of WskGetAddressInfo", Result, sizeof(*Result));
            lookup->Result = Result;
            status = ReadHints(lookup, Hints);
            names = CopyName("NodeName", NodeName, lookup->Node, &lookup->HasNode) &&
                    CopyName("ServiceName", ServiceName, lookup->Service, &lookup->HasService);
            if ((OwningProcess == NULL && OwningThread != NULL && !MutantIs("WSK-NAME-004/accepted")) || NameSpace != NS_ALL) {
                status = STATUS_INVALID_PARAMETER; /* NAME-004 */
            } else if (!names || (!lookup->HasNode && !lookup->HasService)) {
                status = STATUS_NOT_FOUND;
            }
            if (NT_SUCCESS(status)) {
                status = Start(lookup, request);
            } else {
                Discard(lookup);
                status = WskpRequestFinish(request, status, 0);
            }
        }
    }
    WskpClientLeave(client);
    return status;
}

VOID WSKAPI WskpFreeAddressInfo(PWSK_CLIENT Client, PADDRINFOEXW AddrInfo) {
    WSKP_CLIENT *client = WskpClientEnter("WskFreeAddressInfo", Client, PASSIVE_LEVEL);
    ADDRESS_LIST *list = NULL;
    KIRQL irql;

    if (client == NULL) {
        WskpClientError("WSK-NAME-009", "WskFreeAddressInfo: NULL client");
    }
    irql = WskpLock();
    for (PLIST_ENTRY entry = client->AddressLists.Flink; entry != &client->AddressLists; entry = entry->Flink) {
        if (&CONTAINING_RECORD(entry, ADDRESS_LIST, Link)->First == AddrInfo) {
            list = CONTAINING_RECORD(entry, ADDRESS_LIST, Link);
        }
    }
    if (list == NULL) {
        WskpClientError("WSK-NAME-009", "WskFreeAddressInfo of %p, which is no list that the client holds", (void *)AddrInfo);
    }
    RemoveEntryList(&list->Link);
    ShimFree(list);
    WskpUnlock(irql);
    WskpClientLeave(client);
}

/* What is asked for is possible (NAME-004, NAME-008). */
static NTSTATUS CheckNameInfo(WSKP_LOOKUP *lookup, PSOCKADDR address, ULONG length, PEPROCESS process, PETHREAD thread) {
    HOST_FAMILY family = HOST_FAMILY_NONE;

    if (process == NULL && thread != NULL && !MutantIs("WSK-NAME-004/accepted")) {
        return STATUS_INVALID_PARAMETER;
    }
    if (lookup->NodeOut == NULL && lookup->ServiceOut == NULL && !MutantIs("WSK-NAME-008/nothing-asked")) {
        return STATUS_INVALID_PARAMETER;
    }
    if (address != NULL && length >= sizeof(address->sa_family)) {
        ShimRequireMemory("SockAddr of WskGetNameInfo", address, length);
        family = WskpFamilyOf(address->sa_family);
    }
    if (family == HOST_FAMILY_NONE || length < WskpAddressSize(family) ||
        !WskpAddressRead("WskGetNameInfo", address, family, &lookup->Address)) {
        return STATUS_INVALID_PARAMETER;
    }
    return STATUS_SUCCESS;
}

NTSTATUS WSKAPI WskpGetNameInfo(PWSK_CLIENT Client, PSOCKADDR SockAddr, ULONG SockAddrLength, PUNICODE_STRING NodeName,
                                PUNICODE_STRING ServiceName, ULONG Flags, PEPROCESS OwningProcess, PETHREAD OwningThread, PIRP Irp) {
    WSKP_CLIENT *client = WskpClientEnter("WskGetNameInfo", Client, PASSIVE_LEVEL);
    WSKP_REQUEST *request;
    WSKP_LOOKUP *lookup;
    NTSTATUS status = STATUS_INVALID_PARAMETER;

    if (client == NULL) {
        return STATUS_INVALID_HANDLE;
    }
    request = Irp == NULL ? NULL : WskpRequestBegin(WSKP_GetNameInfo, client, NULL, Irp, &status);
    if (request != NULL) {
        lookup = NewLookup(client, RunNameInfo);
        if (lookup == NULL) {
            status = WskpRequestFinish(request, STATUS_INSUFFICIENT_RESOURCES, 0);
        } else {
            lookup->NodeOut = NodeName;
            lookup->ServiceOut = ServiceName;
            lookup->Flags = Flags;
            status = CheckNameInfo(lookup, SockAddr, SockAddrLength, OwningProcess, OwningThread);
            if (NT_SUCCESS(status)) {
                status = Start(lookup, request);
            } else {
                Discard(lookup);
                status = WskpRequestFinish(request, status, 0);
            }
        }
    }
    WskpClientLeave(client);
    return status;
}

void WskpAddressListsRequireNone(WSKP_CLIENT *client) {
    if (!IsListEmpty(&client->AddressLists)) {
        WskpClientError("WSK-NAME-009", "the client ends and has not freed a result of WskGetAddressInfo (%p)",
                        (void *)&CONTAINING_RECORD(client->AddressLists.Flink, ADDRESS_LIST, Link)->First);
    }
}
