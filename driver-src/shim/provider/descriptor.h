/*
 * descriptor.h: security descriptors that WSK has cached for a client.
 */
#ifndef WSKLAB_PROVIDER_DESCRIPTOR_H
#define WSKLAB_PROVIDER_DESCRIPTOR_H

#include "provider.h"

/* All with the lock. NULL when there is no memory or it is no valid descriptor (*status). */
PSECURITY_DESCRIPTOR WskpDescriptorCache(WSKP_CLIENT *client, PSECURITY_DESCRIPTOR uncached, NTSTATUS *status);
/* The client gives back its own hold. Aborts for a pointer that is none of its cached ones. */
void WskpDescriptorRelease(WSKP_CLIENT *client, PSECURITY_DESCRIPTOR cached);
/* The client gets one more hold, for the same pointer (OPT-013). */
void WskpDescriptorHandOut(PSECURITY_DESCRIPTOR cached);
/* A socket uses it: aborts for a pointer that is not cached (SOCK-013). */
void WskpDescriptorReference(const char *function, WSKP_CLIENT *client, PSECURITY_DESCRIPTOR cached);
void WskpDescriptorDereference(PSECURITY_DESCRIPTOR cached);
/* Whether it lets that process share an address (BIND-008); NULL is the default, which lets nobody. */
BOOLEAN WskpDescriptorGrants(PSECURITY_DESCRIPTOR cached, PEPROCESS process);
void WskpDescriptorsRequireNone(WSKP_CLIENT *client);

#endif
