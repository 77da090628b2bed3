/*
 * device.h: the control device \\.\wsklab: who may open it, and its handles' lives.
 */
#ifndef WSKLAB_DEVICE_H
#define WSKLAB_DEVICE_H

#include "platform.h"

_IRQL_requires_max_(PASSIVE_LEVEL) _Must_inspect_result_ NTSTATUS DeviceCreate(PDRIVER_OBJECT Driver);
/* No new handles. */
_IRQL_requires_max_(PASSIVE_LEVEL) VOID DeviceHide(VOID);
/* Delete the device and wait until nobody is inside a dispatch routine. */
_IRQL_requires_max_(PASSIVE_LEVEL) VOID DeviceDelete(VOID);
_IRQL_requires_max_(DISPATCH_LEVEL) PDEVICE_OBJECT DeviceObject(VOID);
/* WSKLAB_HELLO_DACL_SET and WSKLAB_HELLO_ADMIN_CHECKED as they are; `DaclStatus`: why the list is not set. */
_IRQL_requires_max_(DISPATCH_LEVEL) ULONG DeviceFlags(NTSTATUS *DaclStatus);

/* Every dispatch routine is between these two, so that Unload on Wine does not pull the code away. */
_IRQL_requires_max_(DISPATCH_LEVEL) VOID DeviceEnter(VOID);
_IRQL_requires_max_(DISPATCH_LEVEL) VOID DeviceLeave(VOID);

NTSTATUS NTAPI DeviceDispatchCreate(PDEVICE_OBJECT Device, PIRP Irp);
NTSTATUS NTAPI DeviceDispatchCleanup(PDEVICE_OBJECT Device, PIRP Irp);
NTSTATUS NTAPI DeviceDispatchClose(PDEVICE_OBJECT Device, PIRP Irp);

#endif
