/*
 * function.h: what each function of the ABI needs and does, as one table. Everything else asks it.
 */
#ifndef WSKLAB_FUNCTION_H
#define WSKLAB_FUNCTION_H

#include "platform.h"

#define FUNCTION_KNOWN 0x1u       /* there is one with this number */
#define FUNCTION_SOCKET 0x4u      /* acts on a socket */
#define FUNCTION_CREATES 0x8u     /* makes a socket */
#define FUNCTION_IRP 0x10u        /* hands an IRP to WSK */
#define FUNCTION_PROVIDER 0x20u   /* reached through the provider dispatch: the client has to be attached */
#define FUNCTION_READS 0x40u      /* WSK reads the data buffer */
#define FUNCTION_WRITES 0x80u     /* WSK writes the data buffer */
#define FUNCTION_LOCAL_IN 0x100u  /* takes the local address, which has at least a family */
#define FUNCTION_REMOTE_IN 0x200u /* takes the remote address, likewise */
#define FUNCTION_REMOTE_MAY 0x400u /* ... which may be NULL */
#define FUNCTION_LOCAL_OUT 0x800u
#define FUNCTION_REMOTE_OUT 0x1000u
#define FUNCTION_PASSIVE 0x2000u  /* PASSIVE_LEVEL only */
#define FUNCTION_THREAD 0x4000u   /* may block: on a thread of its own */
#define FUNCTION_CONTROL 0x8000u  /* WskControlSocket, WskControlClient */
#define FUNCTION_TAKES 0x10000u   /* takes the object that `object` names */
#define FUNCTION_SENDS_CONTROL 0x20000u /* control information goes out with the data */
#define FUNCTION_NAMES 0x40000u   /* node and service names */

/* FUNCTION_* of a number of the ABI, 0 for any other. */
ULONG FunctionTraits(ULONG Function);

#endif
