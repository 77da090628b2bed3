/* verbs.h - what main.c dispatches to. Each returns an exit code of base.h; arguments are UTF-8. */
#ifndef WSKCTL_VERBS_H
#define WSKCTL_VERBS_H

#include "base.h"
#include "text.h"

/* The conversation on standard input and output: see docs of lab/wsklab/channel/device.py for the wire. */
int VerbStdio(int count, char **arguments);
/* The conversation on two handles, until the input ends. */
int Converse(HANDLE input, HANDLE output);
/* The guest's TCP and UDP tables as one JSON document. */
int VerbNet(int count, char **arguments);
/* Sockets of this machine for cases that run elsewhere: the peer on a second guest. */
int VerbPeer(int count, char **arguments);
/* The time here, and moving it, one number a line. */
int VerbClock(int count, char **arguments);
/* Operations of the wsklab driver, by hand. */
int VerbOp(int count, char **arguments);
/* Smoke test of the driver on a machine without a lab: one JSON document. */
int VerbKit(int count, char **arguments);

/* Unload a driver's service and load it again. */
int VerbReload(int count, char **arguments);
/* Settings of a Windows that becomes a guest of the lab. */
int VerbProvision(int count, char **arguments);

/* Members that say who answers: versions, digests, system. driver is a path, or NULL for wsklab.sys beside us. */
void IdentityMembers(TEXT *line, const char *driver);
/* Members `tcp`, `udp` (arrays) and `left_out` (rows that did not fit limit); 0 and *win32 when a table cannot be read. */
int NetMembers(TEXT *line, size_t limit, DWORD *win32);

/* Prints to standard output or standard error; the text may be long. */
void Print(const char *text, size_t length);
void Complain(const char *text);

#endif
