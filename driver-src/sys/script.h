/*
 * script.h: what callbacks answer, as a client has laid it down before they come.
 *
 * One script per socket number and callback; socket 0 is for every socket without one of its own. A script belongs to
 * its client, not to the socket: an accepted socket is called back before anybody could look at it.
 */
#ifndef WSKLAB_SCRIPT_H
#define WSKLAB_SCRIPT_H

#include "platform.h"

struct CLIENT;

/* Whether a callback can give these answers. */
NTSTATUS ScriptCheck(const WSKLAB_SCRIPT *Script, const WSKLAB_ANSWER *Answers);
/* Put a checked script in place of the one that there was; no answers: only take that away. */
_IRQL_requires_max_(DISPATCH_LEVEL) _Must_inspect_result_ NTSTATUS ScriptSet(struct CLIENT *Client, const WSKLAB_SCRIPT *Script,
                                                                            const WSKLAB_ANSWER *Answers,
                                                                            WSKLAB_SCRIPT_RESULT *Replaced);
/* The next answer, with the numbers of this use; FALSE: the default. */
_IRQL_requires_max_(DISPATCH_LEVEL) BOOLEAN ScriptNext(struct CLIENT *Client, ULONG Socket, ULONG Callback, WSKLAB_ANSWER *Out);
_IRQL_requires_max_(DISPATCH_LEVEL) VOID ScriptsFree(struct CLIENT *Client);

#endif
