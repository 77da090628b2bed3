/*
 * claim.h: which local transport addresses are taken, and who may share one: appendix A.8, which Linux does differently.
 */
#ifndef WSKLAB_PROVIDER_CLAIM_H
#define WSKLAB_PROVIDER_CLAIM_H

#include "provider.h"

typedef struct WSKP_CLAIM {
    LIST_ENTRY Link;
    BOOLEAN Active;
} WSKP_CLAIM;

/*
 * With the lock: bind the host's socket to the address, if the sharing matrix allows it (BIND-006 to BIND-009), and claim
 * it until WskpClaimRelease. Sets the socket's Local to what was bound.
 */
NTSTATUS WskpClaimBind(WSKP_SOCKET *socket, const HOST_ADDRESS *address);
void WskpClaimRelease(WSKP_SOCKET *socket);

#endif
