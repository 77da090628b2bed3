/*
 * control_client.c: WskControlClient.
 */
#include "client.h"
#include "descriptor.h"
#include "event.h"
#include "functions.h"
#include "request.h"
#include "transport.h"

typedef struct ARGUMENTS {
    ULONG Code;
    SIZE_T InputSize;
    PVOID Input;
    SIZE_T OutputSize;
    PVOID Output;
} ARGUMENTS;

/* CTL-001, CTL-002 */
static NTSTATUS TransportListQuery(const ARGUMENTS *arguments, SIZE_T *returned) {
    SIZE_T needed = WskpTransportList(NULL, 0) * sizeof(WSK_TRANSPORT);

    *returned = MutantIs("WSK-CTL-001/size-missing") ? 0 : needed;
    if (arguments->Output == NULL || arguments->OutputSize < needed) {
        return MutantIs("WSK-CTL-001/other-status") ? STATUS_BUFFER_TOO_SMALL : STATUS_BUFFER_OVERFLOW;
    }
    *returned = MutantIs("WSK-CTL-002/size-odd") ? needed - 1 : needed;
    WskpTransportList(arguments->Output, (ULONG)(arguments->OutputSize / sizeof(WSK_TRANSPORT)));
    return STATUS_SUCCESS;
}

/* With the lock (CTL-003, DET-005). */
static NTSTATUS TransportListChange(WSKP_CLIENT *client, WSKP_REQUEST *request) {
    if (request == NULL) {
        return STATUS_INVALID_PARAMETER;
    }
    if (client->Deregistering || MutantIs("WSK-CTL-003/at-once")) {
        return client->Deregistering ? STATUS_CANCELLED : STATUS_SUCCESS;
    }
    WskpRequestQueue(request, &client->TransportChanges);
    return STATUS_PENDING;
}

/* With the lock (CTL-004). */
static NTSTATUS CacheDescriptor(WSKP_CLIENT *client, const ARGUMENTS *arguments, SIZE_T *returned) {
    PSECURITY_DESCRIPTOR uncached, cached;
    NTSTATUS status;

    if (arguments->InputSize != sizeof(uncached) || arguments->Input == NULL || arguments->OutputSize < sizeof(cached) ||
        arguments->Output == NULL) {
        return STATUS_INVALID_PARAMETER;
    }
    memcpy(&uncached, arguments->Input, sizeof(uncached));
    if (uncached == NULL) {
        return STATUS_INVALID_PARAMETER;
    }
    cached = WskpDescriptorCache(client, uncached, &status);
    if (NT_SUCCESS(status)) {
        if (MutantIs("WSK-CTL-004/same-pointer")) {
            memcpy(arguments->Output, &uncached, sizeof(uncached));
        } else {
            memcpy(arguments->Output, &cached, sizeof(cached));
        }
        *returned = sizeof(cached);
    }
    return status;
}

/* With the lock (CTL-004, CLOSE-008). */
static NTSTATUS ReleaseDescriptor(WSKP_CLIENT *client, const ARGUMENTS *arguments) {
    PSECURITY_DESCRIPTOR cached;

    if (arguments->InputSize != sizeof(cached) || arguments->Input == NULL) {
        return STATUS_INVALID_PARAMETER;
    }
    memcpy(&cached, arguments->Input, sizeof(cached));
    WskpDescriptorRelease(client, cached);
    return STATUS_SUCCESS;
}

/* With the lock (CTL-005, CTL-006). */
static NTSTATUS SetStaticEvents(WSKP_CLIENT *client, const ARGUMENTS *arguments) {
    const ULONG known = WSK_EVENT_ACCEPT | WSK_EVENT_RECEIVE_FROM | WSKP_CONNECTION_EVENTS;
    const WSK_EVENT_CALLBACK_CONTROL *control = arguments->Input;

    if (arguments->InputSize != sizeof(*control) || control == NULL || !WskpIsWskNpi(control->NpiId) ||
        (control->EventMask & ~known) != 0) {
        return STATUS_INVALID_PARAMETER;
    }
    if (MutantIs("WSK-CTL-005/refused")) {
        return STATUS_NOT_SUPPORTED;
    }
    if (client->HadSocket) {
        return STATUS_INVALID_DEVICE_STATE; /* too late: existing sockets stay as they are */
    }
    client->StaticEvents = control->EventMask;
    return STATUS_SUCCESS;
}

static NTSTATUS Control(WSKP_CLIENT *client, const ARGUMENTS *arguments, WSKP_REQUEST *request, SIZE_T *returned) {
    switch (arguments->Code) {
    case WSK_TRANSPORT_LIST_QUERY:
        return TransportListQuery(arguments, returned);
    case WSK_TRANSPORT_LIST_CHANGE:
        return TransportListChange(client, request);
    case WSK_CACHE_SD:
        return CacheDescriptor(client, arguments, returned);
    case WSK_RELEASE_SD:
        return ReleaseDescriptor(client, arguments);
    case WSK_SET_STATIC_EVENT_CALLBACKS:
        return SetStaticEvents(client, arguments);
    case WSK_TDI_BEHAVIOR:
        return arguments->InputSize == sizeof(ULONG) && arguments->Input != NULL ? STATUS_SUCCESS : STATUS_INVALID_PARAMETER; /* CTL-008 */
    case WSK_TDI_DEVICENAME_MAPPING:
        return STATUS_NOT_SUPPORTED; /* there is no TDI transport to map to */
    default:
        return STATUS_INVALID_PARAMETER; /* CTL-007 */
    }
}

static void CheckBuffers(const ARGUMENTS *arguments, SIZE_T *returned) {
    if (arguments->Input != NULL) {
        ShimRequireMemory("InputBuffer of WskControlClient", arguments->Input, arguments->InputSize);
        ShimRequireNonPaged("InputBuffer of WskControlClient", arguments->Input, arguments->InputSize);
    }
    if (arguments->Output != NULL) {
        ShimRequireMemory("OutputBuffer of WskControlClient", arguments->Output, arguments->OutputSize);
        ShimRequireNonPaged("OutputBuffer of WskControlClient", arguments->Output, arguments->OutputSize);
    }
    if (returned != NULL) {
        ShimRequireMemory("OutputSizeReturned of WskControlClient", returned, sizeof(*returned));
    }
}

NTSTATUS WSKAPI WskpControlClient(PWSK_CLIENT Client, ULONG ControlCode, SIZE_T InputSize, PVOID InputBuffer, SIZE_T OutputSize,
                                  PVOID OutputBuffer, SIZE_T *OutputSizeReturned, PIRP Irp) {
    WSKP_CLIENT *client = WskpClientEnter("WskControlClient", Client, DISPATCH_LEVEL);
    ARGUMENTS arguments = {ControlCode, InputSize, InputBuffer, OutputSize, OutputBuffer};
    WSKP_REQUEST *request = NULL;
    SIZE_T returned = 0;
    NTSTATUS status;
    KIRQL irql;

    if (client == NULL) {
        return STATUS_INVALID_HANDLE;
    }
    CheckBuffers(&arguments, OutputSizeReturned);
    if (Irp != NULL && (request = WskpRequestBegin(WSKP_ControlClient, client, NULL, Irp, &status)) == NULL) {
        WskpClientLeave(client);
        return status;
    }
    irql = WskpLock();
    /* CTL-007: only the change notification takes an IRP; the others must not have one. */
    status = request != NULL && ControlCode != WSK_TRANSPORT_LIST_CHANGE ? STATUS_INVALID_PARAMETER
                                                                         : Control(client, &arguments, request, &returned);
    WskpUnlock(irql);
    if (request != NULL) {
        status = status == STATUS_PENDING ? WskpRequestReturn(request) : WskpRequestFinish(request, status, 0);
    } else if (OutputSizeReturned != NULL && (NT_SUCCESS(status) || status == STATUS_BUFFER_OVERFLOW)) {
        *OutputSizeReturned = returned;
    }
    WskpClientLeave(client);
    return status;
}
