/*
 * cancel.h: a cancel at any moment of an operation's life.
 */
#ifndef WSKLAB_CANCEL_H
#define WSKLAB_CANCEL_H

#include "operation.h"

/* WSKLAB_CANCEL_* */
_IRQL_requires_max_(DISPATCH_LEVEL) ULONG OperationCancel(OPERATION *Operation);

#endif
