/*
 * dispatch.c: the tables of functions that WSK hands out.
 */
#include "dispatch.h"

#include "client.h"
#include "functions.h"

/* From which build on a table has its later members (A.3). */
#define BUILD_SEND_MESSAGES 9200u /* Windows 8 */
#define BUILD_CONNECT_EX 15063u   /* Windows 10 1703 */
#define BUILD_RESERVED 16299u     /* Windows 10 1709: two slots that no client may call */
#define RESERVED_SLOTS 2u
#define LONGEST 16u               /* more slots than any table has */

static PVOID Basic, Listen, Connection, Datagram, Stream;
static PVOID Closed[LONGEST];

static NTSTATUS Reserved(void) {
    WskpClientError("WSK-CAT-004", "a reserved slot of a provider dispatch table was called");
}

static NTSTATUS OfClosedSocket(void) {
    WskpClientError("WSK-CLOSE-001", "a function was called through the dispatch table of a closed socket");
}

static NTSTATUS OfReleasedNpi(void) {
    WskpClientError("WSK-DET-007", "a function was called through a provider dispatch that has been released");
}

static PVOID Make(const VOID *members, SIZE_T size, BOOLEAN reserved) {
    SIZE_T whole = size + (reserved ? RESERVED_SLOTS * sizeof(PVOID) : 0);
    PVOID *table = ShimAllocate("dispatch table", whole);

    WskpAssert(table != NULL);
    memcpy(table, members, size);
    for (SIZE_T slot = size / sizeof(PVOID); slot < whole / sizeof(PVOID); slot++) {
        table[slot] = (PVOID)Reserved;
    }
    return table;
}

static void MakeListen(void) {
    WSK_PROVIDER_LISTEN_DISPATCH members = {
        .Basic = {WskpControlSocket, WskpCloseSocket}, .WskBind = WskpBind, .WskAccept = WskpAccept,
        .WskInspectComplete = WskpInspectComplete, .WskGetLocalAddress = WskpGetLocalAddress};
    if (MutantIs("WSK-CAT-002/accept-missing")) {
        members.WskAccept = NULL;
    }
    Listen = Make(&members, sizeof(members), FALSE);
}

static void MakeConnection(ULONG build) {
    WSK_PROVIDER_CONNECTION_DISPATCH members = {
        .Basic = {WskpControlSocket, WskpCloseSocket}, .WskBind = WskpBind, .WskConnect = WskpConnect,
        .WskGetLocalAddress = WskpGetLocalAddress, .WskGetRemoteAddress = WskpGetRemoteAddress, .WskSend = WskpSend,
        .WskReceive = WskpReceive, .WskDisconnect = WskpDisconnect, .WskRelease = WskpReleaseData, .WskConnectEx = WskpConnectEx};
    SIZE_T size = build >= BUILD_CONNECT_EX ? sizeof(members) : offsetof(WSK_PROVIDER_CONNECTION_DISPATCH, WskConnectEx);

    if (MutantIs("WSK-CAT-004/send-missing")) {
        members.WskSend = NULL;
    }
    Connection = Make(&members, size, build >= BUILD_RESERVED);
}

static void MakeDatagram(ULONG build) {
    WSK_PROVIDER_DATAGRAM_DISPATCH members = {
        .Basic = {WskpControlSocket, WskpCloseSocket}, .WskBind = WskpBind, .WskSendTo = WskpSendTo,
        .WskReceiveFrom = WskpReceiveFrom, .WskRelease = WskpReleaseDatagram, .WskGetLocalAddress = WskpGetLocalAddress,
        .WskSendMessages = WskpSendMessages};
    SIZE_T size = build >= BUILD_SEND_MESSAGES ? sizeof(members) : offsetof(WSK_PROVIDER_DATAGRAM_DISPATCH, WskSendMessages);

    if (MutantIs("WSK-CAT-003/send-to-missing")) {
        members.WskSendTo = NULL;
    }
    Datagram = Make(&members, size, FALSE);
}

static void MakeStream(ULONG build) {
    WSK_PROVIDER_STREAM_DISPATCH members = {
        .Basic = {WskpControlSocket, WskpCloseSocket}, .WskBind = WskpBind, .WskAccept = WskpAccept, .WskConnect = WskpConnect,
        .WskListen = WskpListen, .WskSend = WskpSend, .WskReceive = WskpReceive, .WskDisconnect = WskpDisconnect,
        .WskRelease = WskpReleaseData, .WskGetLocalAddress = WskpGetLocalAddress, .WskGetRemoteAddress = WskpGetRemoteAddress,
        .WskConnectEx = WskpConnectEx};
    Stream = Make(&members, sizeof(members), build >= BUILD_RESERVED);
}

void WskpDispatchStart(void) {
    WSK_PROVIDER_BASIC_DISPATCH basic = {WskpControlSocket, WskpCloseSocket};
    ULONG build = ShimOsBuild();

    Basic = Make(&basic, sizeof(basic), FALSE);
    MakeListen();
    MakeConnection(build);
    MakeDatagram(build);
    MakeStream(build);
    for (ULONG slot = 0; slot < LONGEST; slot++) {
        Closed[slot] = (PVOID)OfClosedSocket;
    }
}

void WskpDispatchStop(void) {
    PVOID *tables[] = {&Basic, &Listen, &Connection, &Datagram, &Stream};
    for (ULONG index = 0; index < RTL_NUMBER_OF(tables); index++) {
        ShimFree(*tables[index]);
        *tables[index] = NULL;
    }
}

const VOID *WskpDispatchOf(ULONG category) {
    switch (category) {
    case WSK_FLAG_LISTEN_SOCKET:
        return Listen;
    case WSK_FLAG_CONNECTION_SOCKET:
        return Connection;
    case WSK_FLAG_DATAGRAM_SOCKET:
        return Datagram;
    case WSK_FLAG_STREAM_SOCKET:
        return Stream;
    default:
        return Basic;
    }
}

const VOID *WskpDispatchClosed(void) {
    return Closed;
}

void WskpDispatchProvider(WSK_PROVIDER_DISPATCH *dispatch) {
    *dispatch = (WSK_PROVIDER_DISPATCH){.Version = MutantIs("WSK-REG-003/other-major") ? 0x0200 : WSKP_HIGHEST_VERSION,
                                        .WskSocket = WskpSocketFunction,
                                        .WskSocketConnect = WskpSocketConnect,
                                        .WskControlClient = MutantIs("WSK-REG-004/control-missing") ? NULL : WskpControlClient,
                                        .WskGetAddressInfo = WskpGetAddressInfo,
                                        .WskFreeAddressInfo = WskpFreeAddressInfo,
                                        .WskGetNameInfo = WskpGetNameInfo};
}

void WskpDispatchProviderReleased(WSK_PROVIDER_DISPATCH *dispatch) {
    PVOID *slots = (PVOID *)&dispatch->WskSocket;
    dispatch->Version = 0;
    for (ULONG slot = 0; slot < (sizeof(*dispatch) - offsetof(WSK_PROVIDER_DISPATCH, WskSocket)) / sizeof(PVOID); slot++) {
        slots[slot] = (PVOID)OfReleasedNpi;
    }
}
