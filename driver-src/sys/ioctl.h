/*
 * ioctl.h: the requests. Everything that arrives is hostile until it has been checked.
 */
#ifndef WSKLAB_IOCTL_DISPATCH_H
#define WSKLAB_IOCTL_DISPATCH_H

#include "platform.h"

NTSTATUS NTAPI IoctlDispatch(PDEVICE_OBJECT Device, PIRP Irp);

#endif
