/*
 * wrong_leak.c: mistakes with what outlives its driver (wrong.h).
 */
#include "wrong_driver.h"

VOID LeakReference(REQUEST *r) {
    UNREFERENCED_PARAMETER(r);
    ObReferenceObject(g_Device);
}

VOID LeakPool(REQUEST *r) {
    UNREFERENCED_PARAMETER(r);
    Pool(NonPagedPoolNx, 48);
}

VOID LeakIrp(REQUEST *r) {
    UNREFERENCED_PARAMETER(r);
    IoAllocateIrp(2, FALSE);
}

VOID LeakMdl(REQUEST *r) {
    IoAllocateMdl(r->Buffer, 8, FALSE, FALSE, NULL);
}

VOID LeakWorkItem(REQUEST *r) {
    UNREFERENCED_PARAMETER(r);
    IoAllocateWorkItem(g_Device);
}

VOID LeakThread(REQUEST *r) {
    UNREFERENCED_PARAMETER(r);
    StartThread(SleepingThread, TRUE);
}

VOID LeakDevice(REQUEST *r) {
    UNREFERENCED_PARAMETER(r);
    g_KeepDevice = TRUE;
}

VOID LeakLink(REQUEST *r) {
    UNREFERENCED_PARAMETER(r);
    g_KeepLink = TRUE;
}

VOID LeakHandle(REQUEST *r) {
    HANDLE handle;
    UNREFERENCED_PARAMETER(r);
    (VOID)ObOpenObjectByPointer(g_Device, OBJ_KERNEL_HANDLE, NULL, WRITE_DAC, NULL, KernelMode, &handle);
}

VOID LeakTimer(REQUEST *r) {
    UNREFERENCED_PARAMETER(r);
    KeInitializeDpc(&g_Dpc, DoNothingDpc, NULL);
    KeSetTimer(&g_Timer, Ms(60000), &g_Dpc);
}

VOID LeakCompletionContext(REQUEST *r) {
    PIRP irp = IoAllocateIrp(1, FALSE);
    UNREFERENCED_PARAMETER(r);
    (VOID)IoSetCompletionRoutineEx(g_Device, irp, Keep, NULL, TRUE, TRUE, TRUE);
    IoFreeIrp(irp);
}

VOID UnloadRunning(REQUEST *r) {
    UNREFERENCED_PARAMETER(r);
    IoQueueWorkItem(g_Item = IoAllocateWorkItem(g_Device), WaitWork, DelayedWorkQueue, NULL);
}
