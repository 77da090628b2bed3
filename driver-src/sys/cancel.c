/*
 * cancel.c: an operation is cancelled: given up before its call, or its IRP cancelled at any moment of its life.
 */
#include "cancel.h"

#include "completion.h"
#include "issue.h"
#include "keeper.h"

/* Ends with the client's lock, which the caller has taken. */
static ULONG CancelUnstarted(OPERATION *Operation, KIRQL Irql) {
    BOOLEAN waitsForKeeper = Operation->Watched;
    BOOLEAN launched = Operation->Launched;

    Operation->Abandon = TRUE;
    KeReleaseSpinLock(&Operation->Client->Lock, Irql);
    if (!launched) {
        OperationAbandon(Operation, STATUS_CANCELLED);
    } else if (waitsForKeeper) {
        /* The delay is cut short; Start sees the mark and gives up. */
        KeeperWake();
    }
    return WSKLAB_CANCEL_ABANDONED;
}

_Use_decl_annotations_ ULONG OperationCancel(OPERATION *Operation) {
    CLIENT *client = Operation->Client;
    ULONG outcome = WSKLAB_CANCEL_TOO_LATE;
    BOOLEAN dispose = FALSE;
    PIRP irp = NULL;
    KIRQL irql;

    KeAcquireSpinLock(&client->Lock, &irql);
    Operation->Record.flags |= WSKLAB_RECORD_CANCEL_REQUESTED;
    /* A close that waits for running calls has its socket already; it cannot be taken back. */
    if (Operation->Record.state == WSKLAB_STATE_NEW && Operation->Socket == NULL) {
        if (Operation->Watched) {
            Operation->DueNs = 0;
        }
        Operation->Record.cancel_outcome = WSKLAB_CANCEL_ABANDONED;
        return CancelUnstarted(Operation, irql);
    }
    if ((Operation->Record.state == WSKLAB_STATE_OUTSTANDING || Operation->Record.state == WSKLAB_STATE_CALLING) &&
        Operation->Irp != NULL && !Operation->IrpGone && Operation->ExpectCompletion) {
        /* While we are counted, the completion routine leaves the IRP to us. */
        irp = Operation->Irp;
        Operation->Cancellers++;
    }
    KeReleaseSpinLock(&client->Lock, irql);

    if (irp != NULL) {
        outcome = IoCancelIrp(irp) ? WSKLAB_CANCEL_CALLED : WSKLAB_CANCEL_MARKED;
        KeAcquireSpinLock(&client->Lock, &irql);
        dispose = --Operation->Cancellers == 0 && Operation->DisposeLater;
        if (dispose) {
            Operation->DisposeLater = FALSE;
        }
        KeReleaseSpinLock(&client->Lock, irql);
        if (dispose) {
            CompletionDisposeIrp(Operation);
        }
    }
    KeAcquireSpinLock(&client->Lock, &irql);
    Operation->Record.cancel_outcome = outcome;
    KeReleaseSpinLock(&client->Lock, irql);
    OperationRecordEvent(Operation, WSKLAB_EVENT_CANCEL, STATUS_SUCCESS, outcome);
    return outcome;
}
