/*
 * program.h: wsklab-shim, a guest without a machine: services, logins and the device bridge around the kernel shim.
 */
#ifndef WSKLAB_SHIM_PROGRAM_H
#define WSKLAB_SHIM_PROGRAM_H

#include "harness.h"

/* What a command of a login said. */
typedef struct OUTPUT {
    char Out[16384];
    char Error[4096];
    int Code;
} OUTPUT;

void OutputSay(OUTPUT *output, const char *format, ...) __attribute__((format(printf, 2, 3)));
void OutputComplain(OUTPUT *output, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* `sc VERB ...` with the words and numbers of Windows' own. */
void ServiceControl(OUTPUT *output, int count, char **arguments);
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
