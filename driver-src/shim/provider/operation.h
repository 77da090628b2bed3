/*
 * operation.h: the functions of WSK that take an IRP, by name: what knobs and messages speak of.
 */
#ifndef WSKLAB_PROVIDER_OPERATION_H
#define WSKLAB_PROVIDER_OPERATION_H

#include "provider.h"

/* name, and whether Windows usually answers STATUS_PENDING although it knows that it succeeded, that it failed (O: WT). */
#define WSKP_OPERATIONS(X)                                                                                                         \
    X(Socket, TRUE, TRUE)                                                                                                          \
    X(SocketConnect, TRUE, FALSE)                                                                                                  \
    X(ControlClient, FALSE, FALSE)                                                                                                 \
    X(GetAddressInfo, TRUE, FALSE)                                                                                                 \
    X(GetNameInfo, TRUE, FALSE)                                                                                                    \
    X(ControlSocket, FALSE, FALSE)                                                                                                 \
    X(CloseSocket, TRUE, FALSE)                                                                                                    \
    X(Bind, TRUE, TRUE)                                                                                                            \
    X(Accept, FALSE, FALSE)                                                                                                        \
    X(InspectComplete, FALSE, FALSE)                                                                                               \
    X(Listen, FALSE, FALSE)                                                                                                        \
    X(Connect, TRUE, FALSE)                                                                                                        \
    X(ConnectEx, TRUE, FALSE)                                                                                                      \
    X(GetLocalAddress, FALSE, FALSE)                                                                                               \
    X(GetRemoteAddress, FALSE, FALSE)                                                                                              \
    X(Send, TRUE, FALSE)                                                                                                           \
    X(Receive, FALSE, FALSE)                                                                                                       \
    X(Disconnect, TRUE, FALSE)                                                                                                     \
    X(SendTo, TRUE, FALSE)                                                                                                         \
    X(SendMessages, TRUE, FALSE)                                                                                                   \
    X(ReceiveFrom, FALSE, FALSE)

typedef enum WSKP_OPERATION {
#define WSKP_OPERATION_MEMBER(name, succeeding, failing) WSKP_##name,
    WSKP_OPERATIONS(WSKP_OPERATION_MEMBER)
#undef WSKP_OPERATION_MEMBER
        WSKP_OPERATION_COUNT,
    WSKP_ANY = WSKP_OPERATION_COUNT /* in knobs: all of them */
} WSKP_OPERATION;

const char *WskpOperationName(WSKP_OPERATION operation); /* "WskSocket" */
BOOLEAN WskpOperationUsuallyPends(WSKP_OPERATION operation, NTSTATUS status);

#endif
