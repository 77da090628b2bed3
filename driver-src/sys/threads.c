/*
 * threads.c: system threads for calls that may block.
 *
 * A thread may run our code until it has really ended, so each is joined (by its handle) before the driver goes.
 */
#include "threads.h"

#include "keeper.h"
#include "memory.h"

typedef struct THREAD {
    LIST_ENTRY Link;
    HANDLE Handle;
    THREAD_ROUTINE Routine;
    PVOID Context;
    volatile LONG Done;
} THREAD;

static KSPIN_LOCK g_Lock;
static LIST_ENTRY g_Threads;

VOID ThreadsInitialize(VOID) {
    KeInitializeSpinLock(&g_Lock);
    InitializeListHead(&g_Threads);
}

static VOID NTAPI Run(PVOID Context) {
    THREAD *thread = Context;
    thread->Routine(thread->Context);
    InterlockedExchange(&thread->Done, 1);
    KeeperWake();
    PsTerminateSystemThread(STATUS_SUCCESS);
}

_Use_decl_annotations_ NTSTATUS ThreadStart(LEDGER *Ledger, THREAD_ROUTINE Routine, PVOID Context) {
    /* Not the client's memory: it is freed when the thread is joined, and the client may be gone by then. */
    THREAD *thread = FaultsDeny(&Ledger->Faults, WSKLAB_FAULT_THREAD) ? NULL : MemoryAllocate(NULL, sizeof(THREAD));
    OBJECT_ATTRIBUTES attributes;
    NTSTATUS status;
    KIRQL irql;

    if (thread == NULL) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    thread->Routine = Routine;
    thread->Context = Context;
    InitializeObjectAttributes(&attributes, NULL, OBJ_KERNEL_HANDLE, NULL, NULL);
    status = PsCreateSystemThread(&thread->Handle, THREAD_ALL_ACCESS, &attributes, NULL, NULL, Run, thread);
    if (!NT_SUCCESS(status)) {
        MemoryFree(thread);
        return status;
    }
    KeAcquireSpinLock(&g_Lock, &irql);
    InsertTailList(&g_Threads, &thread->Link);
    KeReleaseSpinLock(&g_Lock, irql);
    return STATUS_SUCCESS;
}

/* Take a thread out of the list: one that is done, or any. */
static THREAD *TakeThread(BOOLEAN Any) {
    THREAD *found = NULL;
    KIRQL irql;

    KeAcquireSpinLock(&g_Lock, &irql);
    for (PLIST_ENTRY entry = g_Threads.Flink; entry != &g_Threads; entry = entry->Flink) {
        THREAD *thread = CONTAINING_RECORD(entry, THREAD, Link);
        if (Any || thread->Done) {
            RemoveEntryList(&thread->Link);
            found = thread;
            break;
        }
    }
    KeReleaseSpinLock(&g_Lock, irql);
    return found;
}

static VOID Join(THREAD *Thread) {
    ZwWaitForSingleObject(Thread->Handle, FALSE, NULL);
    ZwClose(Thread->Handle);
    MemoryFree(Thread);
}

_Use_decl_annotations_ VOID ThreadsReap(VOID) {
    THREAD *thread;
    while ((thread = TakeThread(FALSE)) != NULL) {
        Join(thread); /* it is done: a few instructions at most */
    }
}

_Use_decl_annotations_ VOID ThreadsJoin(VOID) {
    THREAD *thread;
    while ((thread = TakeThread(TRUE)) != NULL) {
        Join(thread);
    }
}
