/*
 * names.h: WskGetAddressInfo, WskFreeAddressInfo, WskGetNameInfo: what goes in, what comes out.
 *
 * The functions are for PASSIVE_LEVEL and may take as long as a name server does: they run on a thread of their own.
 * The list that WSK makes is the client's object; what is in it is copied into the extra bytes of the record, bounded
 * and without pointers (WSKLAB_ADDRESS_INFO). Nothing says that the list is in nonpaged memory, so it is read at
 * PASSIVE_LEVEL: by a work item where the completion comes above it.
 */
#ifndef WSKLAB_NAMES_H
#define WSKLAB_NAMES_H

#include "operation.h"

/* Whether names, hints and lengths of the request fit together. */
BOOLEAN NamesAreValid(const WSKLAB_SUBMIT *Submit);
/* Strings, buffers, hints; a work item for the result. `Extra`: the names behind the request. */
_IRQL_requires_max_(PASSIVE_LEVEL) _Must_inspect_result_ NTSTATUS NamesPrepare(OPERATION *Operation, const UCHAR *Extra);
/* Whether the provider has the function: Windows 7 and later. */
_IRQL_requires_max_(DISPATCH_LEVEL) _Must_inspect_result_ NTSTATUS NamesBegin(const OPERATION *Operation);
/* The end, once: at the completion, or when a call without IRP has returned. */
_IRQL_requires_max_(DISPATCH_LEVEL) VOID NamesEnd(OPERATION *Operation, NTSTATUS Status);
/* From CompletionFinish: TRUE when the result is still to be read; CompletionFinish is called again then. */
_IRQL_requires_max_(DISPATCH_LEVEL) BOOLEAN NamesDefer(OPERATION *Operation);

_IRQL_requires_max_(PASSIVE_LEVEL) NTSTATUS NamesGetAddressInfo(OPERATION *Operation);
_IRQL_requires_max_(PASSIVE_LEVEL) NTSTATUS NamesFreeAddressInfo(OPERATION *Operation);
_IRQL_requires_max_(PASSIVE_LEVEL) NTSTATUS NamesGetNameInfo(OPERATION *Operation);

#endif
