/*
 * control_socket.c: WskControlSocket.
 */
#include "event.h"
#include "functions.h"
#include "ioctl.h"
#include "option.h"
#include "socket.h"

/* Operations that are answered in the call, without an IRP; all others need one (OPT-003). */
static BOOLEAN WorksWithoutIrp(WSK_CONTROL_SOCKET_TYPE type, ULONG code, ULONG level) {
    if (type == WskIoctl) {
        return code == SIO_ADDRESS_LIST_QUERY || code == SIO_WSK_QUERY_INSPECT_ID || code == SIO_WSK_REGISTER_EXTENSION ||
               code == SIO_WSK_SET_TCP_SILENT_MODE;
    }
    return type == WskSetOption && level == SOL_SOCKET && code == SO_WSK_EVENT_CALLBACK;
}

static void CheckBuffers(const WSKP_CONTROL *control) {
    if (control->InputSize > 0 && control->Input != NULL) {
        ShimRequireMemory("InputBuffer of WskControlSocket", control->Input, control->InputSize);
        ShimRequireNonPaged("InputBuffer of WskControlSocket", control->Input, control->InputSize);
    }
    if (control->OutputSize > 0 && control->Output != NULL) {
        ShimRequireMemory("OutputBuffer of WskControlSocket", control->Output, control->OutputSize);
        ShimRequireNonPaged("OutputBuffer of WskControlSocket", control->Output, control->OutputSize);
    }
    if (control->SizeReturned != NULL) {
        ShimRequireMemory("OutputSizeReturned of WskControlSocket", control->SizeReturned, sizeof(*control->SizeReturned));
    }
}

/* With the lock. */
static NTSTATUS Control(WSKP_SOCKET *socket, WSK_CONTROL_SOCKET_TYPE type, const WSKP_CONTROL *control, WSKP_REQUEST *request,
                        SIZE_T *written) {
    switch (type) {
    case WskSetOption:
        if (control->Level == SOL_SOCKET && control->Code == SO_WSK_EVENT_CALLBACK) {
            if (control->InputSize != sizeof(WSK_EVENT_CALLBACK_CONTROL) || control->Input == NULL) {
                return STATUS_INVALID_PARAMETER; /* EVT-004 */
            }
            return WskpEventsControl(socket, control->Input, request);
        }
        return WskpOptionSet(socket, control);
    case WskGetOption:
        return WskpOptionGet(socket, control, written);
    case WskIoctl:
        return WskpSocketIoctl(socket, control, request, written);
    default:
        return STATUS_INVALID_PARAMETER; /* OPT-005 */
    }
}

NTSTATUS WSKAPI WskpControlSocket(PWSK_SOCKET Socket, WSK_CONTROL_SOCKET_TYPE RequestType, ULONG ControlCode, ULONG Level,
                                  SIZE_T InputSize, PVOID InputBuffer, SIZE_T OutputSize, PVOID OutputBuffer,
                                  SIZE_T *OutputSizeReturned, PIRP Irp) {
    WSKP_CALL call;
    BOOLEAN passive = RequestType == WskIoctl && WskpIoctlIsPassive(ControlCode);
    WSKP_SOCKET *socket = WskpSocketEnter(&call, "WskControlSocket", Socket, ~0u, passive ? PASSIVE_LEVEL : DISPATCH_LEVEL);
    WSKP_CONTROL control = {.Code = ControlCode, .Level = Level, .InputSize = InputSize, .Input = InputBuffer,
                            .OutputSize = OutputSize, .Output = OutputBuffer, .SizeReturned = OutputSizeReturned};
    WSKP_REQUEST *request = NULL;
    SIZE_T written = 0;
    NTSTATUS status;
    KIRQL irql;

    CheckBuffers(&control);
    if (Irp == NULL && !WorksWithoutIrp(RequestType, ControlCode, Level)) {
        status = STATUS_REQUEST_NOT_ACCEPTED; /* OPT-003: nothing is changed */
        if (MutantIs("WSK-OPT-003/changed-nevertheless") && RequestType == WskSetOption) {
            irql = WskpLock();
            WskpOptionSet(socket, &control);
            WskpUnlock(irql);
        }
    } else if (Irp != NULL && (request = WskpRequestBegin(WSKP_ControlSocket, socket->Client, socket, Irp, &status)) == NULL) {
        /* over already */
    } else {
        irql = WskpLock();
        status = Control(socket, RequestType, &control, request, &written);
        WskpUnlock(irql);
        if (request == NULL) {
            if (OutputSizeReturned != NULL && (NT_SUCCESS(status) || status == STATUS_BUFFER_OVERFLOW)) {
                *OutputSizeReturned = written;
            }
        } else {
            status = status == STATUS_PENDING ? WskpRequestReturn(request)
                                              : WskpRequestFinish(request, status, NT_SUCCESS(status) ? written : 0);
        }
    }
    WskpSocketLeave(&call);
    return status;
}
