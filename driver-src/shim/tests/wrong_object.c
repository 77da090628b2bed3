/*
 * wrong_object.c: mistakes with work items, handles, references, lists and threads (wrong.h).
 */
#include "wrong_driver.h"

static VOID QueueBehind(ULONG Times) {
    /* The workers are busy until the event is set, so that the last item stays queued. */
    for (ULONG i = 0; i < 8; i++) {
        IoQueueWorkItem(IoAllocateWorkItem(g_Device), WaitWork, DelayedWorkQueue, NULL);
    }
    g_Item = IoAllocateWorkItem(g_Device);
    for (ULONG i = 0; i < Times; i++) {
        IoQueueWorkItem(g_Item, WaitWork, DelayedWorkQueue, NULL);
    }
}

VOID FreeQueuedWorkItem(REQUEST *r) {
    UNREFERENCED_PARAMETER(r);
    QueueBehind(1);
    IoFreeWorkItem(g_Item);
}

VOID QueueWorkItemTwice(REQUEST *r) {
    UNREFERENCED_PARAMETER(r);
    QueueBehind(2);
}

VOID UserHandle(REQUEST *r) {
    HANDLE thread;
    UNREFERENCED_PARAMETER(r);
    PsCreateSystemThread(&thread, THREAD_ALL_ACCESS, NULL, NULL, NULL, SleepingThread, NULL);
}

VOID CloseTwice(REQUEST *r) {
    HANDLE handle;
    UNREFERENCED_PARAMETER(r);
    if (NT_SUCCESS(ObOpenObjectByPointer(g_Device, OBJ_KERNEL_HANDLE, NULL, WRITE_DAC, NULL, KernelMode, &handle))) {
        ZwClose(handle);
        ZwClose(handle);
    }
}

VOID DereferenceTooOften(REQUEST *r) {
    PFILE_OBJECT file = IoGetCurrentIrpStackLocation(r->Irp)->FileObject;
    for (ULONG i = 0; i < 3; i++) {
        ObDereferenceObject(file);
    }
}

/* The harness closes its handle, and then has us drop the last reference from a DPC. */
static VOID NTAPI DropFile(PKDPC Dpc, PVOID Context, PVOID Argument1, PVOID Argument2) {
    UNREFERENCED_PARAMETER(Dpc);
    UNREFERENCED_PARAMETER(Argument1);
    UNREFERENCED_PARAMETER(Argument2);
    ObDereferenceObject(Context);
}

VOID LastReferenceRaised(REQUEST *r) {
    PFILE_OBJECT file = IoGetCurrentIrpStackLocation(r->Irp)->FileObject;
    ObReferenceObject(file);
    KeInitializeDpc(&g_Dpc, DropFile, file);
    KeSetTimer(&g_Timer, Ms(20), &g_Dpc);
}

VOID ListRemovedTwice(REQUEST *r) {
    LIST_ENTRY head;
    LIST_ENTRY entry;
    UNREFERENCED_PARAMETER(r);
    InitializeListHead(&head);
    InsertTailList(&head, &entry);
    RemoveEntryList(&entry);
    RemoveEntryList(&entry);
}

VOID LeaveCriticalRegion(REQUEST *r) {
    UNREFERENCED_PARAMETER(r);
    KeLeaveCriticalRegion();
}

VOID UnknownFormat(REQUEST *r) {
    UNREFERENCED_PARAMETER(r);
    DbgPrint("%y\n", 1);
}

VOID RundownReleased(REQUEST *r) {
    EX_RUNDOWN_REF rundown;
    UNREFERENCED_PARAMETER(r);
    ExInitializeRundownProtection(&rundown);
    ExReleaseRundownProtection(&rundown);
}

VOID SemaphoreTooFar(REQUEST *r) {
    KSEMAPHORE semaphore;
    UNREFERENCED_PARAMETER(r);
    KeInitializeSemaphore(&semaphore, 1, 1);
    KeReleaseSemaphore(&semaphore, 0, 1, FALSE);
}

VOID ThreadInProcess(REQUEST *r) {
    OBJECT_ATTRIBUTES attributes;
    HANDLE thread;
    UNREFERENCED_PARAMETER(r);
    InitializeObjectAttributes(&attributes, NULL, OBJ_KERNEL_HANDLE, NULL, NULL);
    PsCreateSystemThread(&thread, THREAD_ALL_ACCESS, &attributes, (HANDLE)-1, NULL, SleepingThread, NULL);
}

VOID WaitForMany(REQUEST *r) {
    LARGE_INTEGER now = {.QuadPart = 0};
    PVOID objects[4] = {&g_Event, &g_Event, &g_Event, &g_Event};
    UNREFERENCED_PARAMETER(r);
    KeWaitForMultipleObjects(4, objects, WaitAny, Executive, KernelMode, FALSE, &now, NULL);
}

static VOID NTAPI WaitForEver(PVOID Context) {
    UNREFERENCED_PARAMETER(Context);
    KeWaitForSingleObject(&g_Event, Executive, KernelMode, FALSE, NULL);
    PsTerminateSystemThread(STATUS_SUCCESS);
}

VOID Deadlock(REQUEST *r) {
    UNREFERENCED_PARAMETER(r);
    StartThread(WaitForEver, TRUE);
}
