/*
 * sample_listen.h: the published sample of the page "Creating Sockets", and the hooks that watch it.
 */
#ifndef WSKLAB_SAMPLE_LISTEN_H
#define WSKLAB_SAMPLE_LISTEN_H

#include "operation.h"

/* Run the sample for an operation; the status that it returns. */
_IRQL_requires_max_(DISPATCH_LEVEL) NTSTATUS SampleRun(OPERATION *Operation);

#endif
