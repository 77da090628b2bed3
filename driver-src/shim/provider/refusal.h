/*
 * refusal.h: wrong providers that refuse what they must do.
 */
#ifndef WSKLAB_PROVIDER_REFUSAL_H
#define WSKLAB_PROVIDER_REFUSAL_H

#include "operation.h"

/* Of a new socket: what WskSocket was asked; of anything else: NULL. */
typedef struct WSKP_SOCKET_MODEL WSKP_SOCKET_MODEL;

/* TRUE: a mutant refuses this call. Before the IRP is taken over. */
BOOLEAN WskpMutantRefuses(WSKP_OPERATION operation, const WSKP_CLIENT *client, const WSKP_SOCKET *socket, PIRP irp);
BOOLEAN WskpMutantRefusesSocket(const WSKP_SOCKET_MODEL *model);
/* Around completion routines that the provider calls: for the mutant that refuses what they start. */
void WskpMutantCompletion(BOOLEAN inside);

#endif
