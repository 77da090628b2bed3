/*
 * routines.h: one routine per function of the ABI that makes the call: for call.c only.
 */
#ifndef WSKLAB_ROUTINES_H
#define WSKLAB_ROUTINES_H

#include "operation.h"

typedef NTSTATUS (*CALL_ROUTINE)(OPERATION *Operation);

/* routines_client.c: registration, provider dispatch. */
_IRQL_requires_max_(PASSIVE_LEVEL) NTSTATUS RoutineRegister(OPERATION *Operation);
_IRQL_requires_max_(DISPATCH_LEVEL) NTSTATUS RoutineCapture(OPERATION *Operation);
_IRQL_requires_max_(DISPATCH_LEVEL) NTSTATUS RoutineReleaseNpi(OPERATION *Operation);
_IRQL_requires_max_(PASSIVE_LEVEL) NTSTATUS RoutineDeregister(OPERATION *Operation);
_IRQL_requires_max_(PASSIVE_LEVEL) NTSTATUS RoutineNmrRegister(OPERATION *Operation);
_IRQL_requires_max_(PASSIVE_LEVEL) NTSTATUS RoutineNmrDeregister(OPERATION *Operation);
_IRQL_requires_max_(DISPATCH_LEVEL) NTSTATUS RoutineQueryCharacteristics(OPERATION *Operation);
_IRQL_requires_max_(DISPATCH_LEVEL) NTSTATUS RoutineProviderInfo(OPERATION *Operation);
_IRQL_requires_max_(DISPATCH_LEVEL) NTSTATUS RoutineSocket(OPERATION *Operation);
_IRQL_requires_max_(DISPATCH_LEVEL) NTSTATUS RoutineSocketConnect(OPERATION *Operation);

/* routines_socket.c: a socket's life. */
_IRQL_requires_max_(DISPATCH_LEVEL) NTSTATUS RoutineBind(OPERATION *Operation);
_IRQL_requires_max_(DISPATCH_LEVEL) NTSTATUS RoutineListen(OPERATION *Operation);
_IRQL_requires_max_(DISPATCH_LEVEL) NTSTATUS RoutineAccept(OPERATION *Operation);
_IRQL_requires_max_(DISPATCH_LEVEL) NTSTATUS RoutineInspectComplete(OPERATION *Operation);
_IRQL_requires_max_(DISPATCH_LEVEL) NTSTATUS RoutineConnect(OPERATION *Operation);
_IRQL_requires_max_(DISPATCH_LEVEL) NTSTATUS RoutineConnectEx(OPERATION *Operation);
_IRQL_requires_max_(DISPATCH_LEVEL) NTSTATUS RoutineGetLocalAddress(OPERATION *Operation);
_IRQL_requires_max_(DISPATCH_LEVEL) NTSTATUS RoutineGetRemoteAddress(OPERATION *Operation);
_IRQL_requires_max_(DISPATCH_LEVEL) NTSTATUS RoutineClose(OPERATION *Operation);
_IRQL_requires_max_(DISPATCH_LEVEL) NTSTATUS RoutineSocketInfo(OPERATION *Operation);

/* routines_data.c: what goes through it. */
_IRQL_requires_max_(DISPATCH_LEVEL) NTSTATUS RoutineSend(OPERATION *Operation);
_IRQL_requires_max_(DISPATCH_LEVEL) NTSTATUS RoutineReceive(OPERATION *Operation);
_IRQL_requires_max_(DISPATCH_LEVEL) NTSTATUS RoutineDisconnect(OPERATION *Operation);
_IRQL_requires_max_(DISPATCH_LEVEL) NTSTATUS RoutineSendTo(OPERATION *Operation);
_IRQL_requires_max_(DISPATCH_LEVEL) NTSTATUS RoutineSendMessages(OPERATION *Operation);
_IRQL_requires_max_(DISPATCH_LEVEL) NTSTATUS RoutineReceiveFrom(OPERATION *Operation);
_IRQL_requires_max_(DISPATCH_LEVEL) NTSTATUS RoutineReleaseData(OPERATION *Operation);
_IRQL_requires_max_(DISPATCH_LEVEL) NTSTATUS RoutineReleaseDatagram(OPERATION *Operation);
_IRQL_requires_max_(DISPATCH_LEVEL) NTSTATUS RoutineIndicationInfo(OPERATION *Operation);

/* The security context that the request asks for. */
_IRQL_requires_max_(DISPATCH_LEVEL) PEPROCESS RoutineOwningProcess(const WSKLAB_SUBMIT *Submit);
_IRQL_requires_max_(DISPATCH_LEVEL) PETHREAD RoutineOwningThread(const WSKLAB_SUBMIT *Submit);
/* Bit i: the i-th of `Count` pointers is not NULL. */
ULONG64 RoutineNonNull(const VOID *FirstMember, ULONG Count);
/* How many of the pointers lie inside a loaded image; all ones where nobody can tell. */
ULONG RoutineInsideImages(const VOID *FirstMember, ULONG Count);
/* What a routine has to say in the record. */
typedef struct TOLD {
    ULONG Flags;
    USHORT Version;
    USHORT LowestVersion;
    USHORT HighestVersion;
    ULONG MemberCount;
    ULONG64 Members;
    ULONG Count;
    ULONG Object;
    WSKLAB_ADDRESS Remote;
} TOLD;

/* Put it into the record, with how often the provider is captured now. */
_IRQL_requires_max_(DISPATCH_LEVEL) VOID RoutineTell(OPERATION *Operation, const TOLD *Told);

#endif
