/*
 * members.c: the functions of a socket, by name.
 */
#include "members.h"

#define BUILD_1703 15063u /* Windows 10 1703 added WskConnectEx and stream sockets */

/* In pointers from the start of the table, plus one; 0 = the category does not have it. Columns in the order of
 * CATEGORY_COLUMN. */
#define AT(table, member) (offsetof(WSK_PROVIDER_##table##_DISPATCH, member) / sizeof(PVOID) + 1)
#define COLUMNS 5u
static const UCHAR g_Places[MEMBER_COUNT][COLUMNS] = {
    /* basic, listen, connection, datagram, stream. Control and close sit at the start of every table (WSK-CAT-007). */
    [MEMBER_CONTROL] = {1, 1, 1, 1, 1},
    [MEMBER_CLOSE] = {2, 2, 2, 2, 2},
    [MEMBER_BIND] = {0, AT(LISTEN, WskBind), AT(CONNECTION, WskBind), AT(DATAGRAM, WskBind), AT(STREAM, WskBind)},
    [MEMBER_ACCEPT] = {0, AT(LISTEN, WskAccept), 0, 0, AT(STREAM, WskAccept)},
    [MEMBER_INSPECT_COMPLETE] = {0, AT(LISTEN, WskInspectComplete), 0, 0, 0},
    [MEMBER_LISTEN] = {0, 0, 0, 0, AT(STREAM, WskListen)},
    [MEMBER_CONNECT] = {0, 0, AT(CONNECTION, WskConnect), 0, AT(STREAM, WskConnect)},
    [MEMBER_CONNECT_EX] = {0, 0, AT(CONNECTION, WskConnectEx), 0, AT(STREAM, WskConnectEx)},
    [MEMBER_GET_LOCAL_ADDRESS] = {0, AT(LISTEN, WskGetLocalAddress), AT(CONNECTION, WskGetLocalAddress),
                                  AT(DATAGRAM, WskGetLocalAddress), AT(STREAM, WskGetLocalAddress)},
    [MEMBER_GET_REMOTE_ADDRESS] = {0, 0, AT(CONNECTION, WskGetRemoteAddress), 0, AT(STREAM, WskGetRemoteAddress)},
    [MEMBER_SEND] = {0, 0, AT(CONNECTION, WskSend), 0, AT(STREAM, WskSend)},
    [MEMBER_RECEIVE] = {0, 0, AT(CONNECTION, WskReceive), 0, AT(STREAM, WskReceive)},
    [MEMBER_DISCONNECT] = {0, 0, AT(CONNECTION, WskDisconnect), 0, AT(STREAM, WskDisconnect)},
    [MEMBER_RELEASE] = {0, 0, AT(CONNECTION, WskRelease), AT(DATAGRAM, WskRelease), AT(STREAM, WskRelease)},
    [MEMBER_SEND_TO] = {0, 0, 0, AT(DATAGRAM, WskSendTo), 0},
    [MEMBER_RECEIVE_FROM] = {0, 0, 0, AT(DATAGRAM, WskReceiveFrom), 0},
    [MEMBER_SEND_MESSAGES] = {0, 0, 0, AT(DATAGRAM, WskSendMessages), 0},
};

static ULONG Column(ULONG Category) {
    switch (Category) {
    case WSKLAB_CATEGORY_LISTEN:
        return 1;
    case WSKLAB_CATEGORY_CONNECTION:
        return 2;
    case WSKLAB_CATEGORY_DATAGRAM:
        return 3;
    case WSKLAB_CATEGORY_STREAM:
        return 4;
    default:
        return 0;
    }
}

_Use_decl_annotations_ ULONG MemberCount(const SOCKET *Socket) {
    static const UCHAR counts[COLUMNS] = {
        sizeof(WSK_PROVIDER_BASIC_DISPATCH) / sizeof(PVOID), sizeof(WSK_PROVIDER_LISTEN_DISPATCH) / sizeof(PVOID),
        sizeof(WSK_PROVIDER_CONNECTION_DISPATCH) / sizeof(PVOID), sizeof(WSK_PROVIDER_DATAGRAM_DISPATCH) / sizeof(PVOID),
        sizeof(WSK_PROVIDER_STREAM_DISPATCH) / sizeof(PVOID)};
    ULONG count = counts[Column(Socket->Category)];

    if (Socket->Category == WSKLAB_CATEGORY_CONNECTION && PlatformFacts()->Build < BUILD_1703) {
        count--; /* WskConnectEx came last */
    }
    return count;
}

_Use_decl_annotations_ MEMBER_POINTER MemberOf(const SOCKET *Socket, MEMBER Member) {
    const MEMBER_POINTER *table = Socket->Wsk->Dispatch;
    ULONG place = g_Places[Member][Column(Socket->Category)];

    return table != NULL && place != 0 && place <= MemberCount(Socket) ? table[place - 1] : NULL;
}
