/*
 * operation.h: the functions of WSK that take an IRP, by name: what knobs and messages speak of.
 */
#ifndef WSKLAB_PROVIDER_OPERATION_H
#define WSKLAB_PROVIDER_OPERATION_H

#include "provider.h"

/* name, and whether Windows usually answers STATUS_PENDING although it knows the result (O: WT). */
#define WSKP_OPERATIONS(X)                                                                                                         \
    X(Socket, TRUE)                                                                                                                \
    X(SocketConnect, TRUE)                                                                                                         \
    X(ControlClient, FALSE)                                                                                                        \
    X(GetAddressInfo, TRUE)                                                                                                        \
    X(GetNameInfo, TRUE)                                                                                                           \
    X(ControlSocket, FALSE)                                                                                                        \
    X(CloseSocket, TRUE)                                                                                                           \
    X(Bind, TRUE)                                                                                                                  \
    X(Accept, FALSE)                                                                                                               \
    X(InspectComplete, FALSE)                                                                                                      \
    X(Listen, FALSE)                                                                                                               \
    X(Connect, TRUE)                                                                                                               \
    X(ConnectEx, TRUE)                                                                                                             \
    X(GetLocalAddress, FALSE)                                                                                                      \
    X(GetRemoteAddress, FALSE)                                                                                                     \
    X(Send, TRUE)                                                                                                                  \
    X(Receive, FALSE)                                                                                                              \
    X(Disconnect, TRUE)                                                                                                            \
    X(SendTo, TRUE)                                                                                                                \
    X(SendMessages, TRUE)                                                                                                          \
    X(ReceiveFrom, FALSE)

typedef enum WSKP_OPERATION {
#define WSKP_OPERATION_MEMBER(name, pends) WSKP_##name,
    WSKP_OPERATIONS(WSKP_OPERATION_MEMBER)
#undef WSKP_OPERATION_MEMBER
        WSKP_OPERATION_COUNT,
    WSKP_ANY = WSKP_OPERATION_COUNT /* in knobs: all of them */
} WSKP_OPERATION;

const char *WskpOperationName(WSKP_OPERATION operation); /* "WskSocket" */
BOOLEAN WskpOperationUsuallyPends(WSKP_OPERATION operation);

#endif
