/*
 * lane.c: work that the provider does in threads of its own.
 */
#include "lane.h"

#define THREADS 3

static LIST_ENTRY Ready; /* lanes */
static KSEMAPHORE Waiting;
static BOOLEAN Stopping;
static SHIM_THREAD *Threads[THREADS];

void WskpLaneInitialize(WSKP_LANE *lane, WSKP_OBJECT *owner) {
    lane->Owner = owner;
    InitializeListHead(&lane->Works);
    lane->Scheduled = FALSE;
}

static void MakeReady(WSKP_LANE *lane) {
    InsertTailList(&Ready, &lane->Link);
    KeReleaseSemaphore(&Waiting, IO_NO_INCREMENT, 1, FALSE);
}

void WskpLanePost(WSKP_LANE *lane, WSKP_WORK *work) {
    if (work->Posted) {
        return;
    }
    work->Posted = TRUE;
    InsertTailList(&lane->Works, &work->Link);
    if (!lane->Scheduled) {
        lane->Scheduled = TRUE;
        WskpReference(lane->Owner);
        MakeReady(lane);
    }
}

BOOLEAN WskpLaneIsIdle(const WSKP_LANE *lane) {
    return !lane->Scheduled;
}

/* The first work of the lane that has waited longest; FALSE when there is none. */
static BOOLEAN RunOne(void) {
    WSKP_LANE *lane;
    WSKP_WORK *work;
    KIRQL irql = WskpLock();

    if (IsListEmpty(&Ready)) {
        WskpUnlock(irql);
        return FALSE;
    }
    lane = CONTAINING_RECORD(RemoveHeadList(&Ready), WSKP_LANE, Link);
    work = CONTAINING_RECORD(RemoveHeadList(&lane->Works), WSKP_WORK, Link);
    work->Posted = FALSE;
    WskpUnlock(irql);

    work->Run(work);

    irql = WskpLock();
    if (IsListEmpty(&lane->Works)) {
        lane->Scheduled = FALSE;
        WskpDereference(lane->Owner);
    } else {
        MakeReady(lane);
    }
    WskpUnlock(irql);
    return TRUE;
}

static void Thread(void *context) {
    (void)context;
    do {
        KeWaitForSingleObject(&Waiting, Executive, KernelMode, FALSE, NULL);
    } while (RunOne() || !Stopping);
}

void WskpLanesStart(void) {
    InitializeListHead(&Ready);
    KeInitializeSemaphore(&Waiting, 0, 0x7FFFFFFF);
    Stopping = FALSE;
    for (ULONG index = 0; index < THREADS; index++) {
        Threads[index] = ShimThreadStart("wsk-worker", Thread, NULL);
        WskpAssert(Threads[index] != NULL);
    }
}

void WskpLanesStop(void) {
    Stopping = TRUE;
    KeReleaseSemaphore(&Waiting, IO_NO_INCREMENT, THREADS, FALSE);
    for (ULONG index = 0; index < THREADS; index++) {
        ShimThreadJoin(Threads[index]);
    }
}
