/*
 * option.h: the values of a socket's options.
 */
#ifndef WSKLAB_PROVIDER_OPTION_H
#define WSKLAB_PROVIDER_OPTION_H

#include "provider.h"

typedef struct WSKP_OPTIONS {
    ULONG Exclusive;
    ULONG Reuse;
    ULONG KeepAlive;
    ULONG ReceiveBuffer;
    ULONG Broadcast;
    ULONG ConditionalAccept;
    ULONG NoDelay;
    ULONG V6Only;
    ULONG PacketInfo;
    PSECURITY_DESCRIPTOR Descriptor; /* cached, referenced; NULL: the default, which shares nothing */
} WSKP_OPTIONS;

void WskpOptionsInitialize(WSKP_SOCKET *socket);
/* An accepted socket has what its listener had (OPT-009). */
void WskpOptionsInherit(WSKP_SOCKET *socket, const WSKP_SOCKET *listener);

/* The socket is being closed. */
void WskpOptionsRelease(WSKP_SOCKET *socket);

/* What a control operation is given. */
typedef struct WSKP_CONTROL {
    ULONG Code;
    ULONG Level;
    SIZE_T InputSize;
    PVOID Input;
    SIZE_T OutputSize;
    PVOID Output;
    PSIZE_T SizeReturned;
} WSKP_CONTROL;

/* With the lock; the bytes put into the output buffer in *written. */
NTSTATUS WskpOptionSet(WSKP_SOCKET *socket, const WSKP_CONTROL *control);
NTSTATUS WskpOptionGet(WSKP_SOCKET *socket, const WSKP_CONTROL *control, SIZE_T *written);

#endif
