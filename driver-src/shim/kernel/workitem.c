/*
 * workitem.c: work items, and the threads that run them.
 */
#include "internal.h"

#define WORKERS 3

struct _IO_WORKITEM {
    LIST_ENTRY Link;
    PDEVICE_OBJECT Device;
    BOOLEAN Queued;
    PIO_WORKITEM_ROUTINE Routine;
    PIO_WORKITEM_ROUTINE_EX RoutineEx;
    PVOID Context;
};

static LIST_ENTRY g_Queue = {&g_Queue, &g_Queue};
static ULONG g_QueueCount;
static SHIM_THREAD *g_Workers[WORKERS];
static SHIM_THREAD *g_Idle[WORKERS];
static BOOLEAN g_Stop;

static void Worker(void *context) {
    ULONG index = (ULONG)(uintptr_t)context;
    SHIM_THREAD *self = ThreadSelf();

    SchedLock();
    while (!g_Stop || g_QueueCount > 0) {
        struct _IO_WORKITEM item;
        PIO_WORKITEM pointer;
        SHIM_CALLOUT callout;
        PLIST_ENTRY entry = g_Queue.Flink;

        if (g_QueueCount == 0) {
            g_Idle[index] = self;
            SchedBlock(NEVER);
            g_Idle[index] = NULL;
            continue;
        }
        for (ULONG skip = ShimChoose(g_QueueCount, "which work item"); skip > 0; skip--) {
            entry = entry->Flink;
        }
        RemoveEntryList(entry);
        g_QueueCount--;
        pointer = CONTAINING_RECORD(entry, struct _IO_WORKITEM, Link);
        pointer->Queued = FALSE;
        item = *pointer; /* the routine may free or queue it again */
        SchedUnlock();
        ShimCalloutBegin(&callout, "a work item", PASSIVE_LEVEL, TRUE);
        if (item.RoutineEx != NULL) {
            item.RoutineEx(item.Device, item.Context, pointer);
        } else {
            item.Routine(item.Device, item.Context);
        }
        ShimCalloutEnd(&callout);
        ObjectDrop(item.Device); /* the reference that keeps the driver while its routine runs */
        SchedLock();
    }
    SchedUnlock();
}

void WorkersInitialize(void) {
    g_Stop = FALSE;
    for (ULONG i = 0; i < WORKERS; i++) {
        g_Workers[i] = ShimThreadStart("worker", Worker, (void *)(uintptr_t)i);
    }
}

void WorkersStop(void) {
    SchedLock();
    g_Stop = TRUE;
    for (ULONG i = 0; i < WORKERS; i++) {
        if (g_Idle[i] != NULL) {
            SchedWake(g_Idle[i]);
        }
    }
    SchedUnlock();
    for (ULONG i = 0; i < WORKERS; i++) {
        ShimThreadJoin(g_Workers[i]);
    }
}

PIO_WORKITEM NTAPI IoAllocateWorkItem(PDEVICE_OBJECT DeviceObject) {
    PIO_WORKITEM item;

    ShimRequireIrql("IoAllocateWorkItem", DISPATCH_LEVEL);
    ObjectKind("IoAllocateWorkItem", DeviceObject);
    ShimYield("IoAllocateWorkItem");
    item = MemoryGet(MEMORY_WORK_ITEM, sizeof(*item), 0, "IoAllocateWorkItem", CALLER());
    if (item != NULL) {
        memset(item, 0, sizeof(*item));
        item->Device = DeviceObject;
    }
    return item;
}

VOID NTAPI IoFreeWorkItem(PIO_WORKITEM IoWorkItem) {
    BOOLEAN queued;

    ShimRequireIrql("IoFreeWorkItem", DISPATCH_LEVEL);
    if (!MemoryIs(MEMORY_WORK_ITEM, IoWorkItem)) {
        ShimAbort("bad-pointer", "IoFreeWorkItem of %p, which is no work item", (void *)IoWorkItem);
    }
    ShimYield("IoFreeWorkItem");
    SchedLock();
    queued = IoWorkItem->Queued;
    SchedUnlock();
    if (queued) {
        ShimAbort("freed-in-use", "IoFreeWorkItem of a work item that is queued");
    }
    MemoryPut(MEMORY_WORK_ITEM, IoWorkItem, 0, "IoFreeWorkItem");
}

static void QueueItem(const char *function, PIO_WORKITEM item, PIO_WORKITEM_ROUTINE routine, PIO_WORKITEM_ROUTINE_EX routineEx,
                      PVOID context) {
    ShimRequireIrql(function, DISPATCH_LEVEL);
    if (!MemoryIs(MEMORY_WORK_ITEM, item)) {
        ShimAbort("bad-pointer", "%s of %p, which is no work item", function, (void *)item);
    }
    ShimYield(function);
    SchedLock();
    if (item->Queued) {
        SchedUnlock();
        ShimAbort("work-item-queued-twice", "%s of a work item that is queued already", function);
    }
    item->Queued = TRUE;
    item->Routine = routine;
    item->RoutineEx = routineEx;
    item->Context = context;
    ObjectHold(item->Device);
    InsertTailList(&g_Queue, &item->Link);
    g_QueueCount++;
    for (ULONG i = 0; i < WORKERS; i++) {
        if (g_Idle[i] != NULL) {
            SchedWake(g_Idle[i]);
            g_Idle[i] = NULL;
            break;
        }
    }
    SchedUnlock();
    ShimYield(function);
}

VOID NTAPI IoQueueWorkItem(PIO_WORKITEM IoWorkItem, PIO_WORKITEM_ROUTINE WorkerRoutine, WORK_QUEUE_TYPE QueueType, PVOID Context) {
    UNREFERENCED_PARAMETER(QueueType);
    QueueItem("IoQueueWorkItem", IoWorkItem, WorkerRoutine, NULL, Context);
}

VOID NTAPI IoQueueWorkItemEx(PIO_WORKITEM IoWorkItem, PIO_WORKITEM_ROUTINE_EX WorkerRoutine, WORK_QUEUE_TYPE QueueType,
                             PVOID Context) {
    UNREFERENCED_PARAMETER(QueueType);
    QueueItem("IoQueueWorkItemEx", IoWorkItem, NULL, WorkerRoutine, Context);
}
