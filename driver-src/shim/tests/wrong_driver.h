/*
 * wrong_driver.h: what the mistakes of wrong.c have in common, by the noun that they are made with.
 */
#ifndef WSKLAB_SHIM_TESTS_WRONG_DRIVER_H
#define WSKLAB_SHIM_TESTS_WRONG_DRIVER_H

#include <ntddk.h>

#include "wrong.h"
#include "wsklab_wsk.h"

#define TAG 0x676E7257u /* "Wrng" */

typedef struct REQUEST {
    PIRP Irp;
    PUCHAR Buffer;
    ULONG OutputBytes;
    ULONG_PTR Information;
    BOOLEAN Completed;
} REQUEST;

extern PDEVICE_OBJECT g_Device;
extern PDRIVER_OBJECT g_Driver;
extern PIRP g_Pended;
extern KEVENT g_Event;
extern KSPIN_LOCK g_First;
extern KSPIN_LOCK g_Second;
extern KSPIN_LOCK g_Kind[2];
extern KTIMER g_Timer;
extern KDPC g_Dpc;
extern PIO_WORKITEM g_Item;
extern BOOLEAN g_KeepDevice;
extern BOOLEAN g_KeepLink;

PVOID Pool(POOL_TYPE Type, SIZE_T Size);
LARGE_INTEGER Ms(LONGLONG Milliseconds);
VOID Sleep(LONGLONG Milliseconds);
NTSTATUS NTAPI Keep(PDEVICE_OBJECT Device, PIRP Irp, PVOID Context);
NTSTATUS NTAPI KeepNot(PDEVICE_OBJECT Device, PIRP Irp, PVOID Context);
NTSTATUS NTAPI FreeAndContinue(PDEVICE_OBJECT Device, PIRP Irp, PVOID Context);
NTSTATUS NTAPI WaitAndKeep(PDEVICE_OBJECT Device, PIRP Irp, PVOID Context);
VOID NTAPI DoNothingCancel(PDEVICE_OBJECT Device, PIRP Irp);
/* Holds a worker until somebody sets the event. */
VOID NTAPI WaitWork(PDEVICE_OBJECT Device, PVOID Context);
VOID NTAPI DoNothingDpc(PKDPC Dpc, PVOID Context, PVOID Argument1, PVOID Argument2);
VOID NTAPI SleepingThread(PVOID Context);
/* An IRP of our own, sent to our own device: the dispatch of internal requests keeps it in g_Pended. */
PIRP Send(PIRP Irp, PIO_COMPLETION_ROUTINE Routine);
VOID Complete(PIRP Irp, NTSTATUS Status);
VOID StartThread(PKSTART_ROUTINE Routine, BOOLEAN Close);

/* One function for each mistake. */
#define WRONG_PROTOTYPE(name, rule) VOID name(REQUEST *r);
WRONG_LIST(WRONG_PROTOTYPE)
#undef WRONG_PROTOTYPE

#endif
