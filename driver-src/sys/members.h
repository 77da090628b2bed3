/*
 * members.h: the functions of a socket, by name: where each category's table has them, and since which Windows.
 */
#ifndef WSKLAB_MEMBERS_H
#define WSKLAB_MEMBERS_H

#include "socket.h"

typedef enum MEMBER {
    MEMBER_CONTROL,
    MEMBER_CLOSE,
    MEMBER_BIND,
    MEMBER_ACCEPT,
    MEMBER_INSPECT_COMPLETE,
    MEMBER_LISTEN,
    MEMBER_CONNECT,
    MEMBER_CONNECT_EX,
    MEMBER_GET_LOCAL_ADDRESS,
    MEMBER_GET_REMOTE_ADDRESS,
    MEMBER_SEND,
    MEMBER_RECEIVE,
    MEMBER_DISCONNECT,
    MEMBER_RELEASE,
    MEMBER_SEND_TO,
    MEMBER_RECEIVE_FROM,
    MEMBER_SEND_MESSAGES,
    MEMBER_COUNT
} MEMBER;

typedef VOID (*MEMBER_POINTER)(VOID);

/* A member of the socket's table; NULL where its category or this version of Windows has none: a wrong offset would run
 * into unrelated memory (appendix C, 7). */
_IRQL_requires_max_(DISPATCH_LEVEL) MEMBER_POINTER MemberOf(const SOCKET *Socket, MEMBER Member);
/* How many pointers the category's table has here. */
_IRQL_requires_max_(DISPATCH_LEVEL) ULONG MemberCount(const SOCKET *Socket);

/* The member as the function it is; the socket was entered and the member looked at before. */
#define MEMBER_AS(type, socket, member) ((type)MemberOf((socket), (member)))

#endif
