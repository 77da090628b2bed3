/*
 * program.h: wsklab-shim, a guest without a machine: services, logins and the device bridge around the kernel shim.
 */
#ifndef WSKLAB_SHIM_PROGRAM_H
#define WSKLAB_SHIM_PROGRAM_H

#include "harness.h"

/* Where a command of a login speaks to, and the code that it ends with. */
typedef struct LOGIN {
    int Connection;
    int Code;
} LOGIN;

void Say(LOGIN *login, const char *format, ...) __attribute__((format(printf, 2, 3)));
void ComplainTo(LOGIN *login, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Further commands: a test program has some. FALSE: not one of them. */
BOOLEAN MoreCommands(LOGIN *login, int count, char **arguments) __attribute__((weak));

/* `sc VERB ...` with the words and numbers of Windows' own. */
void ServiceControl(LOGIN *login, int count, char **arguments);
/* Unloads the driver and loads it again, and says so in the words of `wskctl reload`; FALSE when a step failed. */
BOOLEAN ServiceReload(LOGIN *login, const char *name);
/* A service that exists and runs, for `stdio`: FALSE and a complaint when the driver does not start. */
BOOLEAN ServiceRun(const char *name, const char *file);
/* Stops every service; drivers whose handles are open go, too. */
void ServicesEnd(void);

/* The file that a guest path such as C:\wsklab\x.sys stands for; FALSE for a path that leads elsewhere. */
BOOLEAN DriveFile(const char *guestPath, char *file, size_t size);
void DriveSetRoot(const char *root);
/* The file of the driver that was started last, for `hello`; "" without one. */
const char *ServiceLastFile(void);

/* One login: its first line is a command. */
void LoginServe(int connection);

/* Who answers: the file of this program. */
void IdentityStart(void);

#endif
