/*
 * provider_client.h: a small client of WSK for the provider's tests: calls that can be waited for, and their invariants.
 */
#ifndef WSKLAB_PROVIDER_CLIENT_H
#define WSKLAB_PROVIDER_CLIENT_H

#include "provider_case.h"

#include <sys/types.h>

/* How long something may take that has to happen: slices of time, because in the deterministic mode each gives the host's
 * network only a moment of real time. */
#define WAIT_SLICES 1000
#define SLICE_MS 10

/* ---- Operations ---------------------------------------------------------------------------------------------------- */

typedef struct OPERATION {
    PIRP Irp;
    KEVENT Done;
    LONG Completions;
    NTSTATUS Returned;
    NTSTATUS Status;
    ULONG_PTR Information;
    BOOLEAN PendingReturned;
    KIRQL Irql;
    LONG Sequence; /* of the completion, among all of the process */
    void (*Then)(struct OPERATION *operation, void *context); /* in the completion routine */
    void *Context;
} OPERATION;

LONG NextSequence(void);
PIRP OperationStart(OPERATION *operation);
BOOLEAN OperationIsDone(OPERATION *operation, LONG waitMs);
/* Waits for an event that has to come. */
void EventAwait(PKEVENT event);
/* Waits until a descriptor is readable, which has to happen. */
void ReadableAwait(int descriptor);
/* Waits, checks IRP-001 to IRP-005, frees the IRP; the completion's status. */
NTSTATUS OperationEnd(OPERATION *operation);

/* CALL(&operation, function(..., IRP)): starts; OperationEnd ends. */
#define IRP_OF (currentOperation->Irp)
#define CALL(operation, call)                                                                                                      \
    do {                                                                                                                           \
        OPERATION *currentOperation = (operation);                                                                                 \
        OperationStart(currentOperation);                                                                                          \
        currentOperation->Returned = (call);                                                                                       \
    } while (0)

void Pause(LONG ms);

/* ---- Registration and sockets --------------------------------------------------------------------------------------- */

typedef struct TEST_CLIENT {
    WSK_REGISTRATION Block;
    WSK_CLIENT_DISPATCH Dispatch;
    WSK_CLIENT_NPI ClientNpi;
    WSK_PROVIDER_NPI Npi;
} TEST_CLIENT;

void ClientBegin(TEST_CLIENT *client);
void ClientEnd(TEST_CLIENT *client);

#define BASIC(socket) ((const WSK_PROVIDER_BASIC_DISPATCH *)(socket)->Dispatch)
#define LISTENER(socket) ((const WSK_PROVIDER_LISTEN_DISPATCH *)(socket)->Dispatch)
#define CONNECTION(socket) ((const WSK_PROVIDER_CONNECTION_DISPATCH *)(socket)->Dispatch)
#define DATAGRAM(socket) ((const WSK_PROVIDER_DATAGRAM_DISPATCH *)(socket)->Dispatch)
#define STREAM(socket) ((const WSK_PROVIDER_STREAM_DISPATCH *)(socket)->Dispatch)

typedef union ADDRESS {
    SOCKADDR Any;
    UCHAR Bytes[28];
} ADDRESS;

/* "127.0.0.1", "::1", "0.0.0.0", "::". */
ADDRESS AddressOf(const char *text, USHORT port);
USHORT PortOf(const ADDRESS *address);

/* All synchronous; NULL or a failure status where WSK says so. */
PWSK_SOCKET SocketMake(TEST_CLIENT *client, ADDRESS_FAMILY family, USHORT type, ULONG flags, PVOID context, const VOID *dispatch,
                       NTSTATUS *status);
NTSTATUS SocketClose(PWSK_SOCKET socket);
NTSTATUS SocketBind(PWSK_SOCKET socket, const ADDRESS *address);
NTSTATUS SocketLocal(PWSK_SOCKET socket, ADDRESS *address, ULONG category);
NTSTATUS SocketConnectTo(PWSK_SOCKET socket, const ADDRESS *address);
NTSTATUS OptionSet(PWSK_SOCKET socket, ULONG level, ULONG code, ULONG value);
NTSTATUS OptionGet(PWSK_SOCKET socket, ULONG level, ULONG code, ULONG *value);
/* SO_WSK_EVENT_CALLBACK without an IRP. */
NTSTATUS EventsSet(PWSK_SOCKET socket, ULONG mask);
NTSTATUS Ioctl(PWSK_SOCKET socket, ULONG code, PVOID input, SIZE_T inputSize, PVOID output, SIZE_T outputSize, SIZE_T *returned);

PWSK_SOCKET ListenerMake(TEST_CLIENT *client, const char *address, PVOID context, const VOID *dispatch, ADDRESS *bound);
PWSK_SOCKET ConnectedMake(TEST_CLIENT *client, const ADDRESS *peer, PVOID context, const VOID *dispatch);
PWSK_SOCKET DatagramMake(TEST_CLIENT *client, const char *address, PVOID context, const VOID *dispatch, ADDRESS *bound);
PWSK_SOCKET AcceptOne(PWSK_SOCKET listener, PVOID context, const WSK_CLIENT_CONNECTION_DISPATCH *dispatch);

/* ---- Buffers --------------------------------------------------------------------------------------------------------- */

#define MAX_CHUNKS 8
typedef struct TEST_BUFFER {
    PUCHAR Memory[MAX_CHUNKS];
    ULONG Size[MAX_CHUNKS];
    ULONG Count;
    WSK_BUF Wsk;
} TEST_BUFFER;

/* One MDL per size (0 ends the list), filled with 0xCC; the WSK_BUF covers all behind `offset`. */
void BufferMake(TEST_BUFFER *buffer, ULONG offset, const ULONG *sizes);
void BufferOf(TEST_BUFFER *buffer, const void *bytes, ULONG size); /* one MDL; bytes may be NULL */
void BufferFree(TEST_BUFFER *buffer);
UCHAR BufferByte(const TEST_BUFFER *buffer, SIZE_T index); /* index from the start of the memory, not of the WSK_BUF */
void BufferPut(TEST_BUFFER *buffer, SIZE_T index, UCHAR byte);

NTSTATUS SendBytes(PWSK_SOCKET socket, const void *bytes, ULONG size, ULONG_PTR *information);
/* Up to `size` bytes. */
NTSTATUS ReceiveBytes(PWSK_SOCKET socket, void *bytes, ULONG size, ULONG flags, ULONG_PTR *information);
NTSTATUS Disconnect(PWSK_SOCKET socket, ULONG flags);

/* ---- The other side: plain sockets of the host ------------------------------------------------------------------------ */

int PeerListen(const char *address, ADDRESS *bound);
int PeerRefuses(const char *address, ADDRESS *bound); /* an address where connections are refused, until it is closed */
int PeerListenSmall(const char *address, ADDRESS *bound); /* its connections take a few kilobytes and no more */
int PeerAccept(int listener);
int PeerConnect(const ADDRESS *to); /* minus errno when it is refused */
int PeerDatagram(const char *address, ADDRESS *bound);
void PeerSend(int peer, const void *bytes, size_t size);
/* Exactly `size` bytes, or fewer when the stream ends; -errno when it is reset. */
ssize_t PeerReceive(int peer, void *bytes, size_t size);
void PeerSendTo(int peer, const void *bytes, size_t size, const ADDRESS *to);
ssize_t PeerReceiveFrom(int peer, void *bytes, size_t size, LONG waitMs, ADDRESS *from);
void PeerFinish(int peer);
void PeerReset(int peer);
void PeerClose(int peer); /* also of what PeerConnect did not get */
/* The connection was refused or ends without a byte. */
BOOLEAN PeerIsCutOff(int peer);
ADDRESS PeerAddress(int peer);

/* byte i of a pattern */
UCHAR PatternByte(ULONG seed, SIZE_T index);

#endif
