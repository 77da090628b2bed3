/*
 * request.c: one call that was given an IRP, until that IRP is completed.
 */
#include "request.h"

#include "client.h"
#include "poller.h"
#include "socket.h"

/* Done, but not to be completed yet: by their order, or by a delay. */
static LIST_ENTRY Held = {&Held, &Held};

static void RunWork(WSKP_WORK *work);

/* After the IRP is gone: what it kept alive may go. */
static void End(WSKP_REQUEST *request) {
    KIRQL irql = WskpLock();
    if (request->Socket != NULL) {
        WskpSocketRequestEnded(request->Socket, request->Operation == WSKP_CloseSocket);
        WskpDereference(&request->Socket->Object);
    }
    WskpClientRequestEnded(request->Client);
    WskpDereference(&request->Client->Object);
    WskpUnlock(irql);
    if (request->Operation == WSKP_SendMessages && request->SendTo.Messages != NULL) {
        ShimFree(request->SendTo.Messages);
    }
    ShimFree(request);
}

/* What is told of a result: itself, but for a provider that is wrong on purpose. */
static NTSTATUS Told(const WSKP_REQUEST *request, NTSTATUS status) {
    return request->Fault == WSKP_FAULT_SUCCEED && !NT_SUCCESS(status) ? STATUS_SUCCESS : status;
}

/* Without the lock: the one place where an IRP is given back. */
static void Complete(WSKP_REQUEST *request) {
    PIRP irp = request->Irp;
    PIO_STACK_LOCATION location = IoGetCurrentIrpStackLocation(irp);
    PIO_COMPLETION_ROUTINE routine = location->CompletionRoutine;
    PVOID context = location->Context;
    BOOLEAN twice = request->Fault == WSKP_FAULT_TWICE || MutantIs("WSK-IRP-001/twice") ||
                    (request->Operation == WSKP_Socket && MutantIs("WSK-SOCK-004/twice"));
    ULONG_PTR information = request->Information;

    if (!NT_SUCCESS(request->Status) && MutantIs("WSK-IRP-014/information-of-failures")) {
        information = 1;
    }
    WskpMutantCompletion(TRUE);
    ShimIrpComplete(irp, Told(request, request->Status), information);
    if (twice && routine != NULL) {
        routine(NULL, irp, context);
    }
    WskpMutantCompletion(FALSE);
    if (MutantIs("WSK-SOCK-007/touched-afterwards")) {
        irp->IoStatus.Status = STATUS_SUCCESS;
    }
    End(request);
}

static void RunWork(WSKP_WORK *work) {
    KIRQL previous, level = WskpKnobsCalloutIrql("completion level");
    WSKP_REQUEST *request = CONTAINING_RECORD(work, WSKP_REQUEST, Work);

    KeRaiseIrql(level, &previous);
    Complete(request);
    KeLowerIrql(previous);
}

/* Zeroed; NULL when there is no memory. */
static WSKP_REQUEST *Allocate(WSKP_OPERATION operation, WSKP_SOCKET *socket) {
    if (operation == WSKP_CloseSocket && socket->CloseMemory != NULL) {
        WSKP_REQUEST *request = socket->CloseMemory;
        socket->CloseMemory = NULL;
        return request;
    }
    return ShimAllocate("request", sizeof(WSKP_REQUEST));
}

WSKP_REQUEST *WskpRequestBegin(WSKP_OPERATION operation, WSKP_CLIENT *client, WSKP_SOCKET *socket, PIRP irp, NTSTATUS *status) {
    WSKP_REQUEST *request;
    ULONG delayMs = 0;
    WSKP_FAULT fault = WskpKnobsFaultOf(operation, status, &delayMs);
    KIRQL irql;

    if (fault == WSKP_FAULT_LOST) {
        return NULL;
    }
    if (WskpMutantRefuses(operation, client, socket, irp)) {
        fault = WSKP_FAULT_FAIL;
        *status = STATUS_INVALID_DEVICE_REQUEST;
    }
    ShimIrpAccept(WskpOperationName(operation), irp);
    request = Allocate(operation, socket);
    if (request == NULL) {
        *status = STATUS_INSUFFICIENT_RESOURCES;
        ShimIrpComplete(irp, *status, 0);
        return NULL;
    }
    request->Irp = irp;
    request->Operation = operation;
    request->Client = client;
    request->Socket = socket;
    request->Work.Run = RunWork;
    request->Order = WskpKnobsOrderOf(operation);
    request->Fault = fault;
    request->DueMs = fault == WSKP_FAULT_DELAY ? WskpNowMs() + delayMs : 0;
    irql = WskpLock();
    WskpReference(&client->Object);
    WskpClientRequestBegan(client);
    if (socket != NULL) {
        WskpReference(&socket->Object);
        WskpSocketRequestBegan(socket, operation == WSKP_CloseSocket);
    }
    WskpUnlock(irql);
    if (fault == WSKP_FAULT_FAIL) {
        *status = WskpRequestFinish(request, *status, 0);
        return NULL;
    }
    return request;
}

void WskpRequestAttach(WSKP_REQUEST *request, WSKP_SOCKET *socket) {
    request->Socket = socket;
    WskpReference(&socket->Object);
    WskpSocketRequestBegan(socket, FALSE);
}

static WSKP_LANE *LaneOf(WSKP_REQUEST *request) {
    return request->Socket != NULL ? &request->Socket->CompletionLane : WskpClientLane(request->Client);
}

static void Cancel(PDEVICE_OBJECT device, PIRP irp);

/* A close that has begun cannot be taken back. */
static BOOLEAN IsCancellable(const WSKP_REQUEST *request) {
    if (request->Operation == WSKP_Connect && MutantIs("WSK-CONN-006/not-cancellable")) {
        return FALSE;
    }
    return request->Operation != WSKP_CloseSocket && !MutantIs("WSK-IRP-013/not-cancellable");
}

/* With the lock: from now on IoCancelIrp ends it. FALSE: it has been cancelled already, and nobody else will end it. */
static BOOLEAN ArmCancel(WSKP_REQUEST *request) {
    request->Irp->Tail.Overlay.DriverContext[0] = request;
    request->State = WSKP_WAITING;
    if (!IsCancellable(request)) {
        return TRUE;
    }
    IoSetCancelRoutine(request->Irp, Cancel);
    if (!request->Irp->Cancel) {
        return TRUE;
    }
    /* NULL: Cancel is on its way and will end it. */
    return IoSetCancelRoutine(request->Irp, NULL) == NULL;
}

static void Unqueue(WSKP_REQUEST *request) {
    if (request->Queued) {
        request->Queued = FALSE;
        RemoveEntryList(&request->Link);
    }
}

/* With the lock: its completion may run, unless its order or a delay says not yet. */
static void PostOrHold(WSKP_REQUEST *request) {
    BOOLEAN forClose = request->Order == WSKP_ORDER_AFTER_CLOSE && request->Socket != NULL && !WskpSocketIsClosing(request->Socket);
    BOOLEAN forCancel = request->Order == WSKP_ORDER_AFTER_CANCEL && !request->Irp->Cancel &&
                        (request->Socket == NULL || !WskpSocketIsClosing(request->Socket));

    request->State = WSKP_DONE;
    if (request->Operation != WSKP_CloseSocket && (forClose || forCancel || request->DueMs > WskpNowMs())) {
        request->Held = TRUE;
        request->Queued = TRUE;
        InsertTailList(&Held, &request->Link);
        if (forCancel && !ArmCancel(request)) {
            Unqueue(request);
            request->State = WSKP_DONE;
            WskpLanePost(LaneOf(request), &request->Work);
        }
        WskpPollerWake();
        return;
    }
    WskpLanePost(LaneOf(request), &request->Work);
}

/* Whether the order of completions tells the client the order of what it sent or got (DATA-011). */
static BOOLEAN IsOrdered(WSKP_OPERATION operation) {
    return operation == WSKP_Send || operation == WSKP_Receive || operation == WSKP_Disconnect || operation == WSKP_SendTo ||
           operation == WSKP_SendMessages || operation == WSKP_ReceiveFrom;
}

NTSTATUS WskpRequestFinish(WSKP_REQUEST *request, NTSTATUS status, ULONG_PTR information) {
    BOOLEAN isInline;
    KIRQL irql;

    if (request->Operation == WSKP_Accept && MutantIs("WSK-ACC-002/pends")) {
        request->Order = WSKP_ORDER_LATER;
    }
    if (request->Order == WSKP_ORDER_USUAL) {
        request->Order = WskpKnobsUsualOrder(request->Operation, status);
    }
    isInline = request->Order == WSKP_ORDER_INLINE && request->DueMs == 0;
    WskpAssert(status != STATUS_PENDING && !request->Queued);
    status = Told(request, status);
    request->Status = status;
    request->Information = information;
    irql = WskpLock();
    /* Not before an older one of the same socket. */
    if (isInline && (!IsOrdered(request->Operation) || WskpLaneIsIdle(LaneOf(request)))) {
        WskpUnlock(irql);
        Complete(request);
        return MutantIs("WSK-IRP-003/failure-as-success") ? STATUS_SUCCESS : status;
    }
    if (!MutantIs("WSK-IRP-004/not-marked")) {
        IoMarkIrpPending(request->Irp);
    }
    request->Pending = TRUE;
    PostOrHold(request);
    WskpUnlock(irql);
    return STATUS_PENDING;
}

void WskpRequestQueue(WSKP_REQUEST *request, LIST_ENTRY *queue) {
    request->Queued = TRUE;
    if (request->Operation == WSKP_Send && MutantIs("WSK-DATA-011/last-first")) {
        InsertHeadList(queue, &request->Link);
    } else {
        InsertTailList(queue, &request->Link);
    }
}

/* With the lock: cancelled, by whoever found out. */
static void BecomeCancelled(WSKP_REQUEST *request) {
    Unqueue(request);
    if (request->Undo != NULL) {
        request->Undo(request);
        request->Undo = NULL;
    }
    request->State = WSKP_CANCELLED;
    if (!request->Held) {
        request->Status = STATUS_CANCELLED;
        request->Information = 0;
    }
}

static void Cancel(PDEVICE_OBJECT device, PIRP irp) {
    WSKP_REQUEST *request = irp->Tail.Overlay.DriverContext[0];
    BOOLEAN here;
    KIRQL irql;

    (void)device;
    IoReleaseCancelSpinLock(irp->CancelIrql);
    irql = WskpLock();
    WskpAssert(request->State == WSKP_WAITING || request->State == WSKP_CANCELLED);
    BecomeCancelled(request);
    here = ShimChoose(2, "cancelled request") == 0;
    if (!here) {
        WskpLanePost(LaneOf(request), &request->Work);
    }
    WskpUnlock(irql);
    if (here) {
        Complete(request);
    }
}

NTSTATUS WskpRequestReturn(WSKP_REQUEST *request) {
    KIRQL irql = WskpLock();

    if (request->State == WSKP_DONE) {
        WskpUnlock(irql);
        return WskpRequestFinish(request, request->Status, request->Information);
    }
    WskpAssert(request->State == WSKP_RUNNING);
    if (!MutantIs("WSK-IRP-004/not-marked")) {
        IoMarkIrpPending(request->Irp);
    }
    request->Pending = TRUE;
    if (!ArmCancel(request)) {
        BecomeCancelled(request);
        WskpLanePost(LaneOf(request), &request->Work);
    }
    WskpUnlock(irql);
    return STATUS_PENDING;
}

BOOLEAN WskpRequestClaim(WSKP_REQUEST *request) {
    if (request->State == WSKP_RUNNING) {
        return TRUE;
    }
    WskpAssert(request->State == WSKP_WAITING);
    if (!IsCancellable(request) || IoSetCancelRoutine(request->Irp, NULL) != NULL) {
        return TRUE;
    }
    BecomeCancelled(request);
    return FALSE;
}

void WskpRequestUnclaim(WSKP_REQUEST *request) {
    if (request->State == WSKP_RUNNING) {
        return;
    }
    if (!ArmCancel(request)) {
        BecomeCancelled(request);
        WskpLanePost(LaneOf(request), &request->Work);
    }
}

void WskpRequestDone(WSKP_REQUEST *request, NTSTATUS status, ULONG_PTR information) {
    Unqueue(request);
    request->Undo = NULL;
    request->Status = status;
    request->Information = information;
    if (request->State == WSKP_RUNNING) {
        request->State = WSKP_DONE; /* its call completes it */
    } else {
        PostOrHold(request);
    }
}

void WskpRequestsEnd(LIST_ENTRY *queue, NTSTATUS status) {
    /* From the head every time: what ends one may end others. */
    while (!IsListEmpty(queue)) {
        WSKP_REQUEST *request = CONTAINING_RECORD(queue->Flink, WSKP_REQUEST, Link);
        if (WskpRequestClaim(request)) {
            WskpRequestDone(request, status, 0);
        }
    }
}

/* With the lock: off the held ones and into its lane. FALSE: its cancel routine has it. */
static void Release(WSKP_REQUEST *request) {
    if (request->State == WSKP_WAITING && IoSetCancelRoutine(request->Irp, NULL) == NULL) {
        BecomeCancelled(request);
        return;
    }
    Unqueue(request);
    request->State = WSKP_DONE;
    WskpLanePost(LaneOf(request), &request->Work);
}

void WskpRequestsReleaseHeld(WSKP_SOCKET *socket) {
    PLIST_ENTRY next;
    for (PLIST_ENTRY entry = Held.Flink; entry != &Held; entry = next) {
        WSKP_REQUEST *request = CONTAINING_RECORD(entry, WSKP_REQUEST, Link);
        next = entry->Flink;
        if (request->Socket == socket) {
            Release(request);
        }
    }
}

ULONG64 WskpRequestsTick(void) {
    ULONG64 now = WskpNowMs(), soonest = 0;
    PLIST_ENTRY next;
    for (PLIST_ENTRY entry = Held.Flink; entry != &Held; entry = next) {
        WSKP_REQUEST *request = CONTAINING_RECORD(entry, WSKP_REQUEST, Link);
        next = entry->Flink;
        if (request->DueMs == 0) {
            continue;
        }
        if (request->DueMs <= now) {
            Release(request);
        } else if (soonest == 0 || request->DueMs < soonest) {
            soonest = request->DueMs;
        }
    }
    return soonest;
}
