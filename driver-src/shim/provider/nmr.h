/*
 * nmr.h: the Network Module Registrar, as far as clients of the WSK NPI need it (REG-012).
 */
#ifndef WSKLAB_PROVIDER_NMR_H
#define WSKLAB_PROVIDER_NMR_H

#include "provider.h"

/* For ProviderStop: aborts when a client is registered. */
void WskpNmrRequireNone(void);

/* WSK goes by itself: the next attached client is asked to detach, in a thread of the system. FALSE: there is none. */
BOOLEAN WskpNmrLeave(void);

#endif
