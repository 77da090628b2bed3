/*
 * failures.h: deliberate failures, for the test of whoever has to notice them. Only in a build with WSKLAB_FAILURES
 * (presets mingw-failures and shim-failures): the driver that is tested and deployed has no such code.
 */
#ifndef WSKLAB_FAILURES_H
#define WSKLAB_FAILURES_H

#include "operation.h"

/* Whether this build can fail in that way: a WSKLAB_FN_FAIL_* number. */
BOOLEAN FailureIsOffered(ULONG Function);
/* Do it. Returns only where nobody notices: from the leak, and where the system lets a failure pass. */
_IRQL_requires_max_(DISPATCH_LEVEL) NTSTATUS FailureRun(OPERATION *Operation);

#endif
