/*
 * provider.h: what all parts of the WSK provider share: its one lock, its clock, its abort.
 *
 * The provider is the Winsock Kernel of the shim: facts/wsk-rules.md, rule by rule, over Linux sockets. README.md
 * beside this file tells how it is built and which rules it cannot prove. Comments name the rule that a line decides.
 *
 * One spin lock guards everything of the provider. It is never held while the client is called (completion routines,
 * cancel routines that we call, event callbacks), so the client may call back from there.
 */
#ifndef WSKLAB_PROVIDER_PROVIDER_H
#define WSKLAB_PROVIDER_PROVIDER_H

#include "shim.h"
#include "wsklab_wsk.h"

#include "host/host_address.h"
#include "mutants.h"

typedef struct WSKP_CLIENT WSKP_CLIENT;
typedef struct WSKP_SOCKET WSKP_SOCKET;
typedef struct WSKP_REQUEST WSKP_REQUEST;

KIRQL WskpLock(void);
void WskpUnlock(KIRQL irql);
/* Milliseconds of the shim's clock. */
ULONG64 WskpNowMs(void);

/* A client that breaks a rule of WSK: `rule` is the catalogue's id. */
#define WskpClientError(rule, ...) ShimAbort(rule, __VA_ARGS__)
/* A fault of the provider itself. */
#define WskpAssert(condition) ((condition) ? (void)0 : ShimAbort("provider", "%s:%d: %s", __FILE__, __LINE__, #condition))

/* A choice that WSK leaves open, 0 to count - 1: in shapes (how data is cut into buffers), where the ordinary way is as
 * good as any. Drawn even in plain mode, from a seed of its own. */
ULONG WskpDraw(ULONG count, const char *what);

/* The status for a Linux error of an operation. */
NTSTATUS WskpStatusOf(int error);

#endif
