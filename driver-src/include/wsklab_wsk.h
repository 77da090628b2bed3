/*
 * wsklab_wsk.h: the Winsock Kernel interface for mingw-w64, which has no wsk.h.
 *
 * Self-contained: needs the base types of <ntddk.h> (or of the shim) and brings its own socket types, because the
 * user-mode socket headers clash with ntddk.h. Names, order and meaning from the documentation pages ns-wsk-*,
 * nc-wsk-*, nf-wsk-* and ns-ws2def-*; numbers as the lab's rule catalogue confirmed them (at least two witnesses each).
 * Offsets are asserted at the end; the basic table is a named first member (`Basic`), which has the same layout.
 */
#ifndef WSKLAB_WSK_H
#define WSKLAB_WSK_H

#include <stddef.h>

#define WSKAPI NTAPI

#define MAKE_WSK_VERSION(major, minor) ((USHORT)(((major) << 8) | ((minor) & 0xff)))
#define WSK_MAJOR_VERSION(version) ((UCHAR)((version) >> 8))
#define WSK_MINOR_VERSION(version) ((UCHAR)(version))

#define WSK_INFINITE_WAIT 0xFFFFFFFFu
#define WSK_NO_WAIT 0u

#define WSK_FLAG_BASIC_SOCKET 0x00000000u
#define WSK_FLAG_LISTEN_SOCKET 0x00000001u
#define WSK_FLAG_CONNECTION_SOCKET 0x00000002u
#define WSK_FLAG_DATAGRAM_SOCKET 0x00000004u
#define WSK_FLAG_STREAM_SOCKET 0x00000008u

/* Flags are per function: the same number means other things elsewhere. */
#define WSK_FLAG_ABORTIVE 0x00000001u          /* WskDisconnect, disconnect event */
#define WSK_FLAG_RELEASE_ASAP 0x00000002u      /* receive event */
#define WSK_FLAG_ENTIRE_MESSAGE 0x00000004u    /* receive event */
#define WSK_FLAG_AT_DISPATCH_LEVEL 0x00000008u /* all events */
#define WSK_FLAG_NODELAY 0x00000002u           /* WskSend */
#define WSK_FLAG_WAITALL 0x00000002u           /* WskReceive */
#define WSK_FLAG_DRAIN 0x00000004u             /* WskReceive */

/* Control codes of WskControlClient. */
#define WSK_TRANSPORT_LIST_QUERY 2u
#define WSK_TRANSPORT_LIST_CHANGE 3u
#define WSK_CACHE_SD 4u
#define WSK_RELEASE_SD 5u
#define WSK_TDI_DEVICENAME_MAPPING 6u
#define WSK_SET_STATIC_EVENT_CALLBACKS 7u
#define WSK_TDI_BEHAVIOR 8u
#define WSK_TDI_BEHAVIOR_BYPASS_TDI 0x00000001u

#define WSK_EVENT_SEND_BACKLOG 0x00000010u
#define WSK_EVENT_RECEIVE 0x00000040u
#define WSK_EVENT_DISCONNECT 0x00000080u
#define WSK_EVENT_RECEIVE_FROM 0x00000100u
#define WSK_EVENT_ACCEPT 0x00000200u
#define WSK_EVENT_DISABLE 0x80000000u

/* Options and I/O controls of WskControlSocket; the first two and the SIO_WSK_ ones are WSK's own. */
#define SOL_SOCKET 0xFFFFu
#define SO_WSK_SECURITY 0x4001u
#define SO_WSK_EVENT_CALLBACK 0x4002u
#define SO_REUSEADDR 0x4u
#define SO_KEEPALIVE 0x8u
#define SO_BROADCAST 0x20u
#define SO_RCVBUF 0x1002u
#define SO_CONDITIONAL_ACCEPT 0x3002u
#define SO_EXCLUSIVEADDRUSE 0xFFFFFFFBu /* the complement of SO_REUSEADDR */
#define SIO_WSK_SET_REMOTE_ADDRESS 0x8F000001u
#define SIO_WSK_REGISTER_EXTENSION 0xCF000002u
#define SIO_WSK_QUERY_IDEAL_SEND_BACKLOG 0x4F000003u
#define SIO_WSK_QUERY_RECEIVE_BACKLOG 0x4F000004u
#define SIO_WSK_QUERY_INSPECT_ID 0x4F000005u
#define SIO_WSK_SET_SENDTO_ADDRESS 0x8F000006u
#define SIO_WSK_SET_TCP_SILENT_MODE 0x2F000007u /* one witness only */
#define SIO_ADDRESS_LIST_QUERY 0x48000016u
#define SIO_ADDRESS_LIST_CHANGE 0x28000017u

#define MSG_TRUNC 0x0100u
#define MSG_CTRUNC 0x0200u
#define MSG_BCAST 0x0400u
#define MSG_MCAST 0x0800u

#define NS_ALL 0u

/* Socket numbers of Windows (ws2def.h). */
#define AF_UNSPEC 0
#define AF_INET 2
#define AF_INET6 23
#define SOCK_STREAM 1
#define SOCK_DGRAM 2
#define SOCK_RAW 3
#define IPPROTO_TCP 6
#define IPPROTO_UDP 17

typedef USHORT ADDRESS_FAMILY;

typedef struct sockaddr {
    ADDRESS_FAMILY sa_family;
    CHAR sa_data[14];
} SOCKADDR, *PSOCKADDR;

/* Sizes of the families' own structures, SOCKADDR_IN and SOCKADDR_IN6. */
#define WSKLAB_SOCKADDR_IN_SIZE 16u
#define WSKLAB_SOCKADDR_IN6_SIZE 28u

typedef struct cmsghdr {
    SIZE_T cmsg_len;
    INT cmsg_level;
    INT cmsg_type;
} CMSGHDR, *PCMSGHDR;

/* ws2def.h: what SIO_ADDRESS_LIST_QUERY gives. */
typedef struct _SOCKET_ADDRESS {
    PSOCKADDR lpSockaddr;
    INT iSockaddrLength;
} SOCKET_ADDRESS, *PSOCKET_ADDRESS;

typedef struct _SOCKET_ADDRESS_LIST {
    INT iAddressCount;
    SOCKET_ADDRESS Address[1];
} SOCKET_ADDRESS_LIST, *PSOCKET_ADDRESS_LIST;

/* ws2def.h: ADDRINFOEXW, version 1. */
typedef struct addrinfoexW {
    INT ai_flags;
    INT ai_family;
    INT ai_socktype;
    INT ai_protocol;
    SIZE_T ai_addrlen;
    PWSTR ai_canonname;
    PSOCKADDR ai_addr;
    PVOID ai_blob;
    SIZE_T ai_bloblen;
    GUID *ai_provider;
    struct addrinfoexW *ai_next;
} ADDRINFOEXW, *PADDRINFOEXW;

/* {2227E803-8D8B-11D4-ABAD-009027719E09}: data of Microsoft's netio.lib, which mingw-w64's lacks. */
#define WSKLAB_NPI_WSK_INTERFACE_ID {0x2227E803, 0x8D8B, 0x11D4, {0xAB, 0xAD, 0x00, 0x90, 0x27, 0x71, 0x9E, 0x09}}
typedef GUID NPIID;
typedef const NPIID *PNPIID;

typedef PVOID PWSK_CLIENT;

typedef struct _WSK_SOCKET {
    const VOID *Dispatch;
} WSK_SOCKET, *PWSK_SOCKET;

typedef struct _WSK_BUF {
    PMDL Mdl;
    ULONG Offset;
    SIZE_T Length;
} WSK_BUF, *PWSK_BUF;

typedef struct _WSK_BUF_LIST {
    struct _WSK_BUF_LIST *Next;
    WSK_BUF Buffer;
} WSK_BUF_LIST, *PWSK_BUF_LIST;

typedef struct _WSK_DATA_INDICATION {
    struct _WSK_DATA_INDICATION *Next;
    WSK_BUF Buffer;
} WSK_DATA_INDICATION, *PWSK_DATA_INDICATION;

typedef struct _WSK_DATAGRAM_INDICATION {
    struct _WSK_DATAGRAM_INDICATION *Next;
    WSK_BUF Buffer;
    PCMSGHDR ControlInfo;
    ULONG ControlInfoLength;
    PSOCKADDR RemoteAddress;
} WSK_DATAGRAM_INDICATION, *PWSK_DATAGRAM_INDICATION;

typedef struct _WSK_INSPECT_ID {
    ULONG_PTR Key;
    ULONG SerialNumber;
} WSK_INSPECT_ID, *PWSK_INSPECT_ID;

typedef enum _WSK_INSPECT_ACTION { WskInspectReject, WskInspectAccept, WskInspectPend, WskInspectMax } WSK_INSPECT_ACTION;
typedef enum _WSK_CONTROL_SOCKET_TYPE { WskSetOption, WskGetOption, WskIoctl, WskControlMax } WSK_CONTROL_SOCKET_TYPE;

struct _WSK_CLIENT_CONNECTION_DISPATCH;

/* Event callbacks of the client. */
typedef NTSTATUS(WSKAPI *PFN_WSK_CLIENT_EVENT)(PVOID ClientContext, ULONG EventType, PVOID Information, SIZE_T InformationLength);
typedef NTSTATUS(WSKAPI *PFN_WSK_ACCEPT_EVENT)(PVOID SocketContext, ULONG Flags, PSOCKADDR LocalAddress, PSOCKADDR RemoteAddress,
                                               PWSK_SOCKET AcceptSocket, PVOID *AcceptSocketContext,
                                               const struct _WSK_CLIENT_CONNECTION_DISPATCH **AcceptSocketDispatch);
typedef WSK_INSPECT_ACTION(WSKAPI *PFN_WSK_INSPECT_EVENT)(PVOID SocketContext, PSOCKADDR LocalAddress, PSOCKADDR RemoteAddress,
                                                          PWSK_INSPECT_ID InspectID);
typedef NTSTATUS(WSKAPI *PFN_WSK_ABORT_EVENT)(PVOID SocketContext, PWSK_INSPECT_ID InspectID);
typedef NTSTATUS(WSKAPI *PFN_WSK_RECEIVE_FROM_EVENT)(PVOID SocketContext, ULONG Flags, PWSK_DATAGRAM_INDICATION DataIndication);
typedef NTSTATUS(WSKAPI *PFN_WSK_RECEIVE_EVENT)(PVOID SocketContext, ULONG Flags, PWSK_DATA_INDICATION DataIndication,
                                                SIZE_T BytesIndicated, SIZE_T *BytesAccepted);
typedef NTSTATUS(WSKAPI *PFN_WSK_DISCONNECT_EVENT)(PVOID SocketContext, ULONG Flags);
typedef NTSTATUS(WSKAPI *PFN_WSK_SEND_BACKLOG_EVENT)(PVOID SocketContext, SIZE_T IdealBacklogSize);

typedef struct _WSK_CLIENT_DISPATCH {
    USHORT Version;
    USHORT Reserved;
    PFN_WSK_CLIENT_EVENT WskClientEvent;
} WSK_CLIENT_DISPATCH, *PWSK_CLIENT_DISPATCH;

typedef struct _WSK_CLIENT_LISTEN_DISPATCH {
    PFN_WSK_ACCEPT_EVENT WskAcceptEvent;
    PFN_WSK_INSPECT_EVENT WskInspectEvent;
    PFN_WSK_ABORT_EVENT WskAbortEvent;
} WSK_CLIENT_LISTEN_DISPATCH, *PWSK_CLIENT_LISTEN_DISPATCH;

typedef struct _WSK_CLIENT_DATAGRAM_DISPATCH {
    PFN_WSK_RECEIVE_FROM_EVENT WskReceiveFromEvent;
} WSK_CLIENT_DATAGRAM_DISPATCH, *PWSK_CLIENT_DATAGRAM_DISPATCH;

typedef struct _WSK_CLIENT_CONNECTION_DISPATCH {
    PFN_WSK_RECEIVE_EVENT WskReceiveEvent;
    PFN_WSK_DISCONNECT_EVENT WskDisconnectEvent;
    PFN_WSK_SEND_BACKLOG_EVENT WskSendBacklogEvent;
} WSK_CLIENT_CONNECTION_DISPATCH, *PWSK_CLIENT_CONNECTION_DISPATCH;

/* Windows 10 1703: pointers to tables, not tables. */
typedef struct _WSK_CLIENT_STREAM_DISPATCH {
    const WSK_CLIENT_LISTEN_DISPATCH *Listen;
    const WSK_CLIENT_CONNECTION_DISPATCH *Connect;
} WSK_CLIENT_STREAM_DISPATCH, *PWSK_CLIENT_STREAM_DISPATCH;

typedef struct _WSK_CLIENT_NPI {
    PVOID ClientContext;
    const WSK_CLIENT_DISPATCH *Dispatch;
} WSK_CLIENT_NPI, *PWSK_CLIENT_NPI;

typedef struct _WSK_TRANSPORT {
    USHORT Version;
    USHORT SocketType;
    ULONG Protocol;
    ADDRESS_FAMILY AddressFamily;
    GUID ProviderId;
} WSK_TRANSPORT, *PWSK_TRANSPORT;

typedef struct _WSK_EVENT_CALLBACK_CONTROL {
    PNPIID NpiId;
    ULONG EventMask;
} WSK_EVENT_CALLBACK_CONTROL, *PWSK_EVENT_CALLBACK_CONTROL;

typedef struct _WSK_EXTENSION_CONTROL_IN {
    PNPIID NpiId;
    PVOID ClientContext;
    const VOID *ClientDispatch;
} WSK_EXTENSION_CONTROL_IN, *PWSK_EXTENSION_CONTROL_IN;

typedef struct _WSK_EXTENSION_CONTROL_OUT {
    PVOID ProviderContext;
    const VOID *ProviderDispatch;
} WSK_EXTENSION_CONTROL_OUT, *PWSK_EXTENSION_CONTROL_OUT;

typedef struct _WSK_TDI_MAP {
    USHORT SocketType;
    ADDRESS_FAMILY AddressFamily;
    ULONG Protocol;
    PCWSTR TdiDeviceName;
} WSK_TDI_MAP, *PWSK_TDI_MAP;

typedef struct _WSK_TDI_MAP_INFO {
    ULONG ElementCount;
    const WSK_TDI_MAP *Map;
} WSK_TDI_MAP_INFO, *PWSK_TDI_MAP_INFO;

/* Functions of the provider. */
typedef NTSTATUS(WSKAPI *PFN_WSK_SOCKET)(PWSK_CLIENT Client, ADDRESS_FAMILY AddressFamily, USHORT SocketType, ULONG Protocol,
                                         ULONG Flags, PVOID SocketContext, const VOID *Dispatch, PEPROCESS OwningProcess,
                                         PETHREAD OwningThread, PSECURITY_DESCRIPTOR SecurityDescriptor, PIRP Irp);
typedef NTSTATUS(WSKAPI *PFN_WSK_SOCKET_CONNECT)(PWSK_CLIENT Client, USHORT SocketType, ULONG Protocol, PSOCKADDR LocalAddress,
                                                 PSOCKADDR RemoteAddress, ULONG Flags, PVOID SocketContext,
                                                 const WSK_CLIENT_CONNECTION_DISPATCH *Dispatch, PEPROCESS OwningProcess,
                                                 PETHREAD OwningThread, PSECURITY_DESCRIPTOR SecurityDescriptor, PIRP Irp);
typedef NTSTATUS(WSKAPI *PFN_WSK_CONTROL_CLIENT)(PWSK_CLIENT Client, ULONG ControlCode, SIZE_T InputSize, PVOID InputBuffer,
                                                 SIZE_T OutputSize, PVOID OutputBuffer, SIZE_T *OutputSizeReturned, PIRP Irp);
typedef NTSTATUS(WSKAPI *PFN_WSK_GET_ADDRESS_INFO)(PWSK_CLIENT Client, PUNICODE_STRING NodeName, PUNICODE_STRING ServiceName,
                                                   ULONG NameSpace, GUID *Provider, PADDRINFOEXW Hints, PADDRINFOEXW *Result,
                                                   PEPROCESS OwningProcess, PETHREAD OwningThread, PIRP Irp);
typedef VOID(WSKAPI *PFN_WSK_FREE_ADDRESS_INFO)(PWSK_CLIENT Client, PADDRINFOEXW AddrInfo);
typedef NTSTATUS(WSKAPI *PFN_WSK_GET_NAME_INFO)(PWSK_CLIENT Client, PSOCKADDR SockAddr, ULONG SockAddrLength,
                                                PUNICODE_STRING NodeName, PUNICODE_STRING ServiceName, ULONG Flags,
                                                PEPROCESS OwningProcess, PETHREAD OwningThread, PIRP Irp);

typedef NTSTATUS(WSKAPI *PFN_WSK_CONTROL_SOCKET)(PWSK_SOCKET Socket, WSK_CONTROL_SOCKET_TYPE RequestType, ULONG ControlCode,
                                                 ULONG Level, SIZE_T InputSize, PVOID InputBuffer, SIZE_T OutputSize,
                                                 PVOID OutputBuffer, SIZE_T *OutputSizeReturned, PIRP Irp);
typedef NTSTATUS(WSKAPI *PFN_WSK_CLOSE_SOCKET)(PWSK_SOCKET Socket, PIRP Irp);
typedef NTSTATUS(WSKAPI *PFN_WSK_LISTEN)(PWSK_SOCKET Socket, PIRP Irp);
typedef NTSTATUS(WSKAPI *PFN_WSK_BIND)(PWSK_SOCKET Socket, PSOCKADDR LocalAddress, ULONG Flags, PIRP Irp);
typedef NTSTATUS(WSKAPI *PFN_WSK_CONNECT)(PWSK_SOCKET Socket, PSOCKADDR RemoteAddress, ULONG Flags, PIRP Irp);
typedef NTSTATUS(WSKAPI *PFN_WSK_CONNECT_EX)(PWSK_SOCKET Socket, PSOCKADDR RemoteAddress, PWSK_BUF Buffer, ULONG Flags, PIRP Irp);
typedef NTSTATUS(WSKAPI *PFN_WSK_ACCEPT)(PWSK_SOCKET ListenSocket, ULONG Flags, PVOID AcceptSocketContext,
                                         const WSK_CLIENT_CONNECTION_DISPATCH *AcceptSocketDispatch, PSOCKADDR LocalAddress,
                                         PSOCKADDR RemoteAddress, PIRP Irp);
typedef NTSTATUS(WSKAPI *PFN_WSK_INSPECT_COMPLETE)(PWSK_SOCKET ListenSocket, PWSK_INSPECT_ID InspectID, WSK_INSPECT_ACTION Action,
                                                   PIRP Irp);
typedef NTSTATUS(WSKAPI *PFN_WSK_GET_LOCAL_ADDRESS)(PWSK_SOCKET Socket, PSOCKADDR LocalAddress, PIRP Irp);
typedef NTSTATUS(WSKAPI *PFN_WSK_GET_REMOTE_ADDRESS)(PWSK_SOCKET Socket, PSOCKADDR RemoteAddress, PIRP Irp);
typedef NTSTATUS(WSKAPI *PFN_WSK_SEND)(PWSK_SOCKET Socket, PWSK_BUF Buffer, ULONG Flags, PIRP Irp);
typedef NTSTATUS(WSKAPI *PFN_WSK_RECEIVE)(PWSK_SOCKET Socket, PWSK_BUF Buffer, ULONG Flags, PIRP Irp);
typedef NTSTATUS(WSKAPI *PFN_WSK_DISCONNECT)(PWSK_SOCKET Socket, PWSK_BUF Buffer, ULONG Flags, PIRP Irp);
typedef NTSTATUS(WSKAPI *PFN_WSK_RELEASE_DATA_INDICATION_LIST)(PWSK_SOCKET Socket, PWSK_DATA_INDICATION DataIndication);
typedef NTSTATUS(WSKAPI *PFN_WSK_RELEASE_DATAGRAM_INDICATION_LIST)(PWSK_SOCKET Socket, PWSK_DATAGRAM_INDICATION DatagramIndication);
typedef NTSTATUS(WSKAPI *PFN_WSK_SEND_TO)(PWSK_SOCKET Socket, PWSK_BUF Buffer, ULONG Flags, PSOCKADDR RemoteAddress,
                                          ULONG ControlInfoLength, PCMSGHDR ControlInfo, PIRP Irp);
typedef NTSTATUS(WSKAPI *PFN_WSK_SEND_MESSAGES)(PWSK_SOCKET Socket, PWSK_BUF_LIST BufferList, ULONG Flags, PSOCKADDR RemoteAddress,
                                                ULONG ControlInfoLength, PCMSGHDR ControlInfo, PIRP Irp);
typedef NTSTATUS(WSKAPI *PFN_WSK_RECEIVE_FROM)(PWSK_SOCKET Socket, PWSK_BUF Buffer, ULONG Flags, PSOCKADDR RemoteAddress,
                                               PULONG ControlInfoLength, PCMSGHDR ControlInfo, PULONG ControlFlags, PIRP Irp);

typedef struct _WSK_PROVIDER_DISPATCH {
    USHORT Version;
    USHORT Reserved;
    PFN_WSK_SOCKET WskSocket;
    PFN_WSK_SOCKET_CONNECT WskSocketConnect;
    PFN_WSK_CONTROL_CLIENT WskControlClient;
    PFN_WSK_GET_ADDRESS_INFO WskGetAddressInfo; /* Windows 7 and later, like the next two */
    PFN_WSK_FREE_ADDRESS_INFO WskFreeAddressInfo;
    PFN_WSK_GET_NAME_INFO WskGetNameInfo;
} WSK_PROVIDER_DISPATCH, *PWSK_PROVIDER_DISPATCH;

typedef struct _WSK_PROVIDER_BASIC_DISPATCH {
    PFN_WSK_CONTROL_SOCKET WskControlSocket;
    PFN_WSK_CLOSE_SOCKET WskCloseSocket;
} WSK_PROVIDER_BASIC_DISPATCH, *PWSK_PROVIDER_BASIC_DISPATCH;

typedef struct _WSK_PROVIDER_LISTEN_DISPATCH {
    WSK_PROVIDER_BASIC_DISPATCH Basic;
    PFN_WSK_BIND WskBind;
    PFN_WSK_ACCEPT WskAccept;
    PFN_WSK_INSPECT_COMPLETE WskInspectComplete;
    PFN_WSK_GET_LOCAL_ADDRESS WskGetLocalAddress;
} WSK_PROVIDER_LISTEN_DISPATCH, *PWSK_PROVIDER_LISTEN_DISPATCH;

typedef struct _WSK_PROVIDER_DATAGRAM_DISPATCH {
    WSK_PROVIDER_BASIC_DISPATCH Basic;
    PFN_WSK_BIND WskBind;
    PFN_WSK_SEND_TO WskSendTo;
    PFN_WSK_RECEIVE_FROM WskReceiveFrom;
    PFN_WSK_RELEASE_DATAGRAM_INDICATION_LIST WskRelease;
    PFN_WSK_GET_LOCAL_ADDRESS WskGetLocalAddress;
    PFN_WSK_SEND_MESSAGES WskSendMessages; /* Windows 8 and later */
} WSK_PROVIDER_DATAGRAM_DISPATCH, *PWSK_PROVIDER_DATAGRAM_DISPATCH;

typedef struct _WSK_PROVIDER_CONNECTION_DISPATCH {
    WSK_PROVIDER_BASIC_DISPATCH Basic;
    PFN_WSK_BIND WskBind;
    PFN_WSK_CONNECT WskConnect;
    PFN_WSK_GET_LOCAL_ADDRESS WskGetLocalAddress;
    PFN_WSK_GET_REMOTE_ADDRESS WskGetRemoteAddress;
    PFN_WSK_SEND WskSend;
    PFN_WSK_RECEIVE WskReceive;
    PFN_WSK_DISCONNECT WskDisconnect;
    PFN_WSK_RELEASE_DATA_INDICATION_LIST WskRelease;
    PFN_WSK_CONNECT_EX WskConnectEx; /* Windows 10 1703 and later */
} WSK_PROVIDER_CONNECTION_DISPATCH, *PWSK_PROVIDER_CONNECTION_DISPATCH;

/* Windows 10 1703 and later. */
typedef struct _WSK_PROVIDER_STREAM_DISPATCH {
    WSK_PROVIDER_BASIC_DISPATCH Basic;
    PFN_WSK_BIND WskBind;
    PFN_WSK_ACCEPT WskAccept;
    PFN_WSK_CONNECT WskConnect;
    PFN_WSK_LISTEN WskListen;
    PFN_WSK_SEND WskSend;
    PFN_WSK_RECEIVE WskReceive;
    PFN_WSK_DISCONNECT WskDisconnect;
    PFN_WSK_RELEASE_DATA_INDICATION_LIST WskRelease;
    PFN_WSK_GET_LOCAL_ADDRESS WskGetLocalAddress;
    PFN_WSK_GET_REMOTE_ADDRESS WskGetRemoteAddress;
    PFN_WSK_CONNECT_EX WskConnectEx;
} WSK_PROVIDER_STREAM_DISPATCH, *PWSK_PROVIDER_STREAM_DISPATCH;

typedef struct _WSK_PROVIDER_NPI {
    PWSK_CLIENT Client;
    const WSK_PROVIDER_DISPATCH *Dispatch;
} WSK_PROVIDER_NPI, *PWSK_PROVIDER_NPI;

typedef struct _WSK_REGISTRATION {
    ULONGLONG ReservedRegistrationState;
    PVOID ReservedRegistrationContext;
    KSPIN_LOCK ReservedRegistrationLock;
} WSK_REGISTRATION, *PWSK_REGISTRATION;

typedef struct _WSK_PROVIDER_CHARACTERISTICS {
    USHORT HighestVersion;
    USHORT LowestVersion;
} WSK_PROVIDER_CHARACTERISTICS, *PWSK_PROVIDER_CHARACTERISTICS;

/* Exported by NETIO.SYS. */
NTSTATUS WSKAPI WskRegister(PWSK_CLIENT_NPI WskClientNpi, PWSK_REGISTRATION WskRegistration);
VOID WSKAPI WskDeregister(PWSK_REGISTRATION WskRegistration);
NTSTATUS WSKAPI WskCaptureProviderNPI(PWSK_REGISTRATION WskRegistration, ULONG WaitTimeout, PWSK_PROVIDER_NPI WskProviderNpi);
VOID WSKAPI WskReleaseProviderNPI(PWSK_REGISTRATION WskRegistration);
NTSTATUS WSKAPI WskQueryProviderCharacteristics(PWSK_REGISTRATION WskRegistration,
                                                PWSK_PROVIDER_CHARACTERISTICS WskProviderCharacteristics);

#define WSK_ASSERT_SIZE(type, bytes) _Static_assert(sizeof(type) == (bytes), #type " has the wrong size")
#define WSK_ASSERT_OFFSET(type, member, bytes) _Static_assert(offsetof(type, member) == (bytes), #type "." #member " moved")

WSK_ASSERT_SIZE(SOCKADDR, 16);
WSK_ASSERT_SIZE(CMSGHDR, 16);
WSK_ASSERT_SIZE(WSK_SOCKET, 8);
WSK_ASSERT_SIZE(WSK_BUF, 24);
WSK_ASSERT_OFFSET(WSK_BUF, Offset, 8);
WSK_ASSERT_OFFSET(WSK_BUF, Length, 16);
WSK_ASSERT_SIZE(WSK_BUF_LIST, 32);
WSK_ASSERT_SIZE(WSK_TRANSPORT, 28);
WSK_ASSERT_OFFSET(WSK_TRANSPORT, ProviderId, 12);
WSK_ASSERT_SIZE(WSK_EVENT_CALLBACK_CONTROL, 16);
WSK_ASSERT_SIZE(WSK_EXTENSION_CONTROL_IN, 24);
WSK_ASSERT_SIZE(WSK_EXTENSION_CONTROL_OUT, 16);
WSK_ASSERT_SIZE(WSK_TDI_MAP, 16);
WSK_ASSERT_SIZE(WSK_TDI_MAP_INFO, 16);
WSK_ASSERT_SIZE(SOCKET_ADDRESS, 16);
WSK_ASSERT_SIZE(SOCKET_ADDRESS_LIST, 24);
WSK_ASSERT_SIZE(ADDRINFOEXW, 72);
WSK_ASSERT_OFFSET(ADDRINFOEXW, ai_addr, 32);
WSK_ASSERT_OFFSET(ADDRINFOEXW, ai_next, 64);
WSK_ASSERT_SIZE(WSK_DATA_INDICATION, 32);
WSK_ASSERT_SIZE(WSK_DATAGRAM_INDICATION, 56);
WSK_ASSERT_OFFSET(WSK_DATAGRAM_INDICATION, ControlInfoLength, 40);
WSK_ASSERT_OFFSET(WSK_DATAGRAM_INDICATION, RemoteAddress, 48);
WSK_ASSERT_SIZE(WSK_INSPECT_ID, 16);
WSK_ASSERT_SIZE(WSK_CLIENT_DISPATCH, 16);
WSK_ASSERT_OFFSET(WSK_CLIENT_DISPATCH, WskClientEvent, 8);
WSK_ASSERT_SIZE(WSK_CLIENT_LISTEN_DISPATCH, 24);
WSK_ASSERT_SIZE(WSK_CLIENT_DATAGRAM_DISPATCH, 8);
WSK_ASSERT_SIZE(WSK_CLIENT_CONNECTION_DISPATCH, 24);
WSK_ASSERT_SIZE(WSK_CLIENT_STREAM_DISPATCH, 16);
WSK_ASSERT_SIZE(WSK_CLIENT_NPI, 16);
WSK_ASSERT_SIZE(WSK_PROVIDER_NPI, 16);
WSK_ASSERT_SIZE(WSK_REGISTRATION, 24);
WSK_ASSERT_OFFSET(WSK_REGISTRATION, ReservedRegistrationLock, 16);
WSK_ASSERT_SIZE(WSK_PROVIDER_CHARACTERISTICS, 4);
WSK_ASSERT_SIZE(WSK_PROVIDER_DISPATCH, 56);
WSK_ASSERT_OFFSET(WSK_PROVIDER_DISPATCH, WskSocket, 8);
WSK_ASSERT_OFFSET(WSK_PROVIDER_DISPATCH, WskGetAddressInfo, 32);
WSK_ASSERT_OFFSET(WSK_PROVIDER_DISPATCH, WskGetNameInfo, 48);
WSK_ASSERT_SIZE(WSK_PROVIDER_BASIC_DISPATCH, 16);
WSK_ASSERT_OFFSET(WSK_PROVIDER_BASIC_DISPATCH, WskCloseSocket, 8);
WSK_ASSERT_SIZE(WSK_PROVIDER_LISTEN_DISPATCH, 48);
WSK_ASSERT_OFFSET(WSK_PROVIDER_LISTEN_DISPATCH, WskBind, 16);
WSK_ASSERT_OFFSET(WSK_PROVIDER_LISTEN_DISPATCH, WskAccept, 24);
WSK_ASSERT_OFFSET(WSK_PROVIDER_LISTEN_DISPATCH, WskGetLocalAddress, 40);
WSK_ASSERT_SIZE(WSK_PROVIDER_DATAGRAM_DISPATCH, 64);
WSK_ASSERT_OFFSET(WSK_PROVIDER_DATAGRAM_DISPATCH, WskReceiveFrom, 32);
WSK_ASSERT_OFFSET(WSK_PROVIDER_DATAGRAM_DISPATCH, WskSendMessages, 56);
WSK_ASSERT_SIZE(WSK_PROVIDER_CONNECTION_DISPATCH, 88);
WSK_ASSERT_OFFSET(WSK_PROVIDER_CONNECTION_DISPATCH, WskConnect, 24);
WSK_ASSERT_OFFSET(WSK_PROVIDER_CONNECTION_DISPATCH, WskSend, 48);
WSK_ASSERT_OFFSET(WSK_PROVIDER_CONNECTION_DISPATCH, WskReceive, 56);
WSK_ASSERT_OFFSET(WSK_PROVIDER_CONNECTION_DISPATCH, WskConnectEx, 80);
WSK_ASSERT_SIZE(WSK_PROVIDER_STREAM_DISPATCH, 104);
WSK_ASSERT_OFFSET(WSK_PROVIDER_STREAM_DISPATCH, WskConnect, 32);
WSK_ASSERT_OFFSET(WSK_PROVIDER_STREAM_DISPATCH, WskListen, 40);
WSK_ASSERT_OFFSET(WSK_PROVIDER_STREAM_DISPATCH, WskSend, 48);
WSK_ASSERT_OFFSET(WSK_PROVIDER_STREAM_DISPATCH, WskGetLocalAddress, 80);
WSK_ASSERT_OFFSET(WSK_PROVIDER_STREAM_DISPATCH, WskConnectEx, 96);

#endif
