/*
 * refusal.c: wrong providers that refuse what they must do, in one place: the code that does it has no line to ask at.
 */
#include "refusal.h"

#include "client.h"
#include "socket.h"

#define REFUSE(name, condition)                                                                                                    \
    if (MutantIs(name) && (condition)) {                                                                                           \
        return TRUE;                                                                                                               \
    }

void WskpMutantCompletion(BOOLEAN inside) {
    *ShimThreadMark() = inside;
}

static BOOLEAN IsAtDispatch(void) {
    return KeGetCurrentIrql() == DISPATCH_LEVEL;
}

BOOLEAN WskpMutantRefuses(WSKP_OPERATION operation, const WSKP_CLIENT *client, const WSKP_SOCKET *socket, PIRP irp) {
    BOOLEAN toSocket = socket != NULL && operation != WSKP_CloseSocket;
    HOST_FAMILY family = socket != NULL ? socket->Family : HOST_FAMILY_NONE;
    ULONG category = socket != NULL ? socket->Category : WSKP_BASIC;

    REFUSE("WSK-SOCK-006/needs-two-locations", irp->StackCount < 2)
    REFUSE("WSK-IRP-008/needs-one-location", irp->StackCount > 1)
    REFUSE("WSK-IRP-009/refuses-forwarded", irp->CurrentLocation <= irp->StackCount)
    REFUSE("WSK-SOCK-008/refused-in-completion", *ShimThreadMark())
    REFUSE("WSK-SOCK-016/refused-at-dispatch", operation == WSKP_Socket && IsAtDispatch())
    REFUSE("WSK-CONN-014/refused-at-dispatch", operation != WSKP_Socket && IsAtDispatch())
    REFUSE("WSK-DET-007/sockets-end-with-the-npi", toSocket && client->Captures == 0)
    REFUSE("WSK-SOCK-009/datagram-not-bindable", operation == WSKP_Bind && category == WSKP_DATAGRAM)
    REFUSE("WSK-BIND-001/refused", operation == WSKP_Bind && category == WSKP_CONNECTION)
    REFUSE("WSK-BIND-010/refused", operation == WSKP_Bind && family == HOST_FAMILY_6)
    REFUSE("WSK-CAT-001/no-options", operation == WSKP_ControlSocket && category == WSK_FLAG_BASIC_SOCKET)
    REFUSE("WSK-ACC-005/one-at-a-time", operation == WSKP_Accept && !IsListEmpty(&socket->Listener.Accepts))
    REFUSE("WSK-ACC-010/refused", operation == WSKP_GetRemoteAddress && !socket->Claim.Active)
    REFUSE("WSK-ACC-012/refused", operation == WSKP_Listen)
    REFUSE("WSK-CONN-001/refused", operation == WSKP_Connect && socket->State == WSKP_BOUND)
    REFUSE("WSK-CONN-008/refused", operation == WSKP_SocketConnect)
    REFUSE("WSK-NAME-009/one-at-a-time", operation == WSKP_GetAddressInfo && client->Requests > 2)
    return FALSE;
}

BOOLEAN WskpMutantRefusesSocket(const WSKP_SOCKET_MODEL *model) {
    BOOLEAN stream = model->Type == SOCK_STREAM, four = model->Family == HOST_FAMILY_4;

    REFUSE("WSK-SOCK-001/refused", stream && four && model->Category == WSKP_LISTEN)
    REFUSE("WSK-SOCK-012/needs-a-process", model->Owner == NULL)
    REFUSE("WSK-SOCK-013/refuses-descriptors", model->Descriptor != NULL)
    REFUSE("WSK-CAT-005/refused", model->Category == WSKP_STREAM)
    REFUSE("WSK-FAM-001/refused", stream && four && model->Category == WSKP_CONNECTION)
    REFUSE("WSK-FAM-003/refused", model->Type == SOCK_DGRAM && four)
    REFUSE("WSK-FAM-004/refused", model->Type == SOCK_DGRAM && !four)
    REFUSE("WSK-FAM-005/refused", model->Type == SOCK_RAW)
    REFUSE("WSK-CTX-004/needs-a-dispatch", model->ClientDispatch == NULL && model->Category != WSK_FLAG_BASIC_SOCKET)
    REFUSE("WSK-CTX-009/needs-a-dispatch", model->ClientDispatch == NULL && model->Category == WSK_FLAG_BASIC_SOCKET)
    return FALSE;
}
