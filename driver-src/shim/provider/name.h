/*
 * name.h: results of WskGetAddressInfo that clients hold.
 */
#ifndef WSKLAB_PROVIDER_NAME_H
#define WSKLAB_PROVIDER_NAME_H

#include "provider.h"

/* With the lock: aborts when the client ends and has not freed one (NAME-009). */
void WskpAddressListsRequireNone(WSKP_CLIENT *client);

#endif
