/*
 * routines_socket.c: calls on a socket that bring it to life and to its end.
 */
#include "routines.h"

#include "members.h"

#define CALL(type, member) MEMBER_AS(type, Operation->Socket, member)
#define WSK Operation->Socket->Wsk

_Use_decl_annotations_ NTSTATUS RoutineBind(OPERATION *Operation) {
    return CALL(PFN_WSK_BIND, MEMBER_BIND)(WSK, (PSOCKADDR)Operation->Local.Bytes, Operation->Submit.flags, Operation->Irp);
}

_Use_decl_annotations_ NTSTATUS RoutineListen(OPERATION *Operation) {
    return CALL(PFN_WSK_LISTEN, MEMBER_LISTEN)(WSK, Operation->Irp);
}

_Use_decl_annotations_ NTSTATUS RoutineAccept(OPERATION *Operation) {
    const WSKLAB_SUBMIT *submit = &Operation->Submit;

    return CALL(PFN_WSK_ACCEPT, MEMBER_ACCEPT)(
        WSK, submit->flags, (PVOID)(ULONG_PTR)submit->socket_context, Operation->Dispatch,
        submit->address_use & WSKLAB_ADDRESS_LOCAL ? (PSOCKADDR)Operation->Local.Bytes : NULL,
        submit->address_use & WSKLAB_ADDRESS_REMOTE ? (PSOCKADDR)Operation->Remote.Bytes : NULL, Operation->Irp);
}

_Use_decl_annotations_ NTSTATUS RoutineInspectComplete(OPERATION *Operation) {
    return CALL(PFN_WSK_INSPECT_COMPLETE, MEMBER_INSPECT_COMPLETE)(
        WSK, &Operation->InspectId, (WSK_INSPECT_ACTION)Operation->Submit.inspect_action, Operation->Irp);
}

_Use_decl_annotations_ NTSTATUS RoutineConnect(OPERATION *Operation) {
    return CALL(PFN_WSK_CONNECT, MEMBER_CONNECT)(WSK, (PSOCKADDR)Operation->Remote.Bytes, Operation->Submit.flags, Operation->Irp);
}

_Use_decl_annotations_ NTSTATUS RoutineConnectEx(OPERATION *Operation) {
    PWSK_BUF buffer = Operation->Submit.mdl_shape != WSKLAB_MDL_NULL ? &Operation->Buffer.Wsk : NULL;

    return CALL(PFN_WSK_CONNECT_EX, MEMBER_CONNECT_EX)(WSK, (PSOCKADDR)Operation->Remote.Bytes, buffer, Operation->Submit.flags,
                                                       Operation->Irp);
}

_Use_decl_annotations_ NTSTATUS RoutineGetLocalAddress(OPERATION *Operation) {
    return CALL(PFN_WSK_GET_LOCAL_ADDRESS, MEMBER_GET_LOCAL_ADDRESS)(WSK, (PSOCKADDR)Operation->Local.Bytes, Operation->Irp);
}

_Use_decl_annotations_ NTSTATUS RoutineGetRemoteAddress(OPERATION *Operation) {
    return CALL(PFN_WSK_GET_REMOTE_ADDRESS, MEMBER_GET_REMOTE_ADDRESS)(WSK, (PSOCKADDR)Operation->Remote.Bytes, Operation->Irp);
}

_Use_decl_annotations_ NTSTATUS RoutineClose(OPERATION *Operation) {
    return CALL(PFN_WSK_CLOSE_SOCKET, MEMBER_CLOSE)(WSK, Operation->Irp);
}

_Use_decl_annotations_ NTSTATUS RoutineSocketInfo(OPERATION *Operation) {
    const SOCKET *socket = Operation->Socket;

    TOLD told = {.MemberCount = MemberCount(socket)}; /* members that this Windows does not have are never read */

    told.Members = RoutineNonNull(socket->Wsk->Dispatch, told.MemberCount);
    told.Count = RoutineInsideImages(socket->Wsk->Dispatch, told.MemberCount);
    told.Flags = socket->Wsk->Dispatch == socket->Dispatch ? WSKLAB_RECORD_SAME_DISPATCH : 0;
    RoutineTell(Operation, &told);
    return STATUS_SUCCESS;
}
