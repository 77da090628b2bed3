/*
 * sample_listen.c: creating a listening socket as the page "Creating Sockets" shows it.
 *
 * The calls, their arguments and their order are the page's; a test compares them. The hooks (Watch...) only look:
 * they sit before or after the page's statements and call no WSK or IRP function. IoSetCompletionRoutine is the page's
 * choice; everything else in this driver uses IoSetCompletionRoutineEx, which also keeps the driver in memory.
 */
#include "sample_listen.h"

#include "completion.h"

static NTSTATUS NTAPI CreateListeningSocketComplete(PDEVICE_OBJECT DeviceObject, PIRP Irp, PVOID Context);

/* The IRP exists: fill in what shows later who wrote to it. */
static VOID WatchAllocated(PWSK_APP_SOCKET_CONTEXT SocketContext, PIRP Irp) {
    OPERATION *operation = SocketContext->Operation;
    operation->ExpectedIrp = Irp;
    operation->ExpectedContext = SocketContext;
    Irp->IoStatus.Status = (NTSTATUS)WSKLAB_PREFILL;
    Irp->IoStatus.Information = WSKLAB_PREFILL;
    LedgerAdd(&operation->Client->Ledger, LEDGER_COUNT(irps_allocated), 1);
}

/* No IRP, so no completion will come. */
static VOID WatchNotAllocated(PWSK_APP_SOCKET_CONTEXT SocketContext) {
    OPERATION *operation = SocketContext->Operation;
    operation->ExpectCompletion = FALSE;
    OperationDereference(operation); /* the provider's reference; the caller still has one */
}

static BOOLEAN WatchCompletion(PWSK_APP_SOCKET_CONTEXT SocketContext, PDEVICE_OBJECT DeviceObject, PIRP Irp) {
    return CompletionObserve(SocketContext->Operation, DeviceObject, Irp, SocketContext, TRUE);
}

static VOID WatchFreed(OPERATION *Operation, NTSTATUS Status) {
    KIRQL irql;
    KeAcquireSpinLock(&Operation->Client->Lock, &irql);
    Operation->Record.flags |= WSKLAB_RECORD_IRP_FREED;
    KeReleaseSpinLock(&Operation->Client->Lock, irql);
    LedgerAdd(&Operation->Client->Ledger, LEDGER_COUNT(irps_freed), 1);
    CompletionFinish(Operation, Status);
}

/* The page's IoAllocateIrp may fail on request, like every allocation of this driver. */
static PIRP SampleAllocateIrp(PWSK_APP_SOCKET_CONTEXT SocketContext, CCHAR StackSize, BOOLEAN ChargeQuota) {
    BOOLEAN denied = FaultsDeny(&SocketContext->Operation->Client->Ledger.Faults, WSKLAB_FAULT_IRP);
    return denied ? NULL : IoAllocateIrp(StackSize, ChargeQuota);
}
#define IoAllocateIrp(StackSize, ChargeQuota) SampleAllocateIrp(SocketContext, StackSize, ChargeQuota)

static NTSTATUS CreateListeningSocket(PWSK_PROVIDER_NPI WskProviderNpi, PWSK_APP_SOCKET_CONTEXT SocketContext,
                                      PWSK_CLIENT_LISTEN_DISPATCH Dispatch) {
    PIRP Irp;
    NTSTATUS Status;

    Irp = IoAllocateIrp(1, FALSE);
    if (!Irp) {
        WatchNotAllocated(SocketContext);
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    WatchAllocated(SocketContext, Irp);
    IoSetCompletionRoutine(Irp, CreateListeningSocketComplete, SocketContext, TRUE, TRUE, TRUE);
    Status = WskProviderNpi->Dispatch->WskSocket(WskProviderNpi->Client, AF_INET, SOCK_STREAM, IPPROTO_TCP,
                                                 WSK_FLAG_LISTEN_SOCKET, SocketContext, Dispatch, NULL, NULL, NULL, Irp);
    return Status;
}

static NTSTATUS NTAPI CreateListeningSocketComplete(PDEVICE_OBJECT DeviceObject, PIRP Irp, PVOID Context) {
    PWSK_APP_SOCKET_CONTEXT SocketContext = Context;
    OPERATION *operation = SocketContext->Operation;
    NTSTATUS status = Irp->IoStatus.Status;
    BOOLEAN first;

    if (Irp->IoStatus.Status == STATUS_SUCCESS) {
        SocketContext->Socket = (PWSK_SOCKET)Irp->IoStatus.Information;
    } else {
        SocketContext->Socket = NULL;
    }
    /* The page's "other initialisation": the socket becomes known to its client, or the placeholder goes. */
    first = WatchCompletion(SocketContext, DeviceObject, Irp);
    IoFreeIrp(Irp);
    if (first) {
        WatchFreed(operation, status);
    }
    return STATUS_MORE_PROCESSING_REQUIRED;
}

_Use_decl_annotations_ NTSTATUS SampleRun(OPERATION *Operation) {
    SOCKET *socket = Operation->NewSocket;

    socket->Sample.Operation = Operation;
    SocketSetOwnContext(socket, &socket->Sample);
    return CreateListeningSocket(&Operation->Npi, &socket->Sample,
                                 (PWSK_CLIENT_LISTEN_DISPATCH)(ULONG_PTR)Operation->Dispatch);
}
