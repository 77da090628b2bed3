/*
 * provision.h - `wskctl provision`: settings of a Windows that becomes a guest of the lab.
 *
 * Every setting is looked at, changed where it differs (never with --check), and looked at again: what is reported as
 * `after` was read back, not assumed. A step that finds everything as wanted changes nothing. All DLLs but kernel32 are
 * loaded when a step needs them, because each costs every start of wskctl.
 */
#ifndef WSKCTL_PROVISION_H
#define WSKCTL_PROVISION_H

#include "base.h"
#include "text.h"

#define PROVISION_REPORT_LIMIT (256u * 1024u)

typedef struct REPORT {
    TEXT text;
    int check;   /* look only */
    int ok;      /* every setting is as wanted */
    int changed; /* something was written */
} REPORT;

/* One setting of the report. Texts are UTF-8; before and after may be NULL (it is not there); why may be NULL. */
void ReportSetting(REPORT *report, const char *name, const char *wanted, const char *before, const char *after, int ok,
                   const char *why);
/* A setting that could not be looked at or changed: what was tried, and the Win32 code. */
void ReportError(REPORT *report, const char *name, const char *wanted, const char *tried, DWORD win32);

/* --- provision_registry.c: values below HKEY_LOCAL_MACHINE, in the 64-bit view --- */

typedef struct REGISTRY_VALUE {
    const char *key;
    const char *name;
    DWORD type;       /* REG_DWORD, REG_SZ, REG_EXPAND_SZ or REG_MULTI_SZ; REG_NONE: the value must not be there */
    DWORD number;     /* REG_DWORD */
    const char *text; /* the others; the strings of a REG_MULTI_SZ are separated by '\n' */
} REGISTRY_VALUE;

void ProvisionRegistry(REPORT *report, const REGISTRY_VALUE *values, size_t count);

/* --- provision_service.c --- */

typedef struct START_TYPE {
    const char *name;
    DWORD start;  /* SERVICE_AUTO_START, SERVICE_DEMAND_START, SERVICE_DISABLED */
    int optional; /* a machine without this service is as wanted */
} START_TYPE;

void ProvisionServices(REPORT *report, const START_TYPE *services, size_t count);
/* A service of its own process that starts with the machine and is started again a minute after it failed. */
void ProvisionOwnService(REPORT *report, const char *name, const char *display, const char *command);
/* Runs; with `restart` it is started anew when it runs already. `seconds` bound all waiting. */
void ProvisionStarted(REPORT *report, const char *name, int restart, unsigned seconds);

/* --- provision_file.c --- */

/* The file's content; the folder is made. */
void ProvisionFile(REPORT *report, const WCHAR *path, const void *content, size_t size);
/* The file's owner-independent access list, as SDDL; compared by what Windows makes of it. */
void ProvisionAccess(REPORT *report, const WCHAR *path, const char *sddl);
/* A file of at most `limit` bytes, to be freed; NULL and a Win32 code. */
void *ReadWhole(const WCHAR *path, size_t limit, size_t *size, DWORD *win32);
void ProvisionGone(REPORT *report, const WCHAR *path);
/* Copies a folder with everything below it. */
void ProvisionCopy(REPORT *report, const WCHAR *from, const WCHAR *to);

/* --- provision_command.c: programs of Windows, where there is no documented interface for C --- */

typedef struct COMMAND_RESULT {
    DWORD win32; /* it could not be started, or was ended at its deadline (ERROR_TIMEOUT); then code is nothing */
    DWORD code;
    char output[8192]; /* the beginning of standard output and error, terminated */
} COMMAND_RESULT;

void RunCommand(const char *command, unsigned seconds, COMMAND_RESULT *result);

/* Run `look` and find `sign` in its output (blanks count as one, letters' case does not); else run `change` and look again. */
typedef struct COMMAND_SETTING {
    const char *name;
    const char *look;
    const char *sign;
    const char *change;
} COMMAND_SETTING;

void ProvisionCommands(REPORT *report, const COMMAND_SETTING *settings, size_t count);

/* --- provision_identity.c --- */

/* A certificate (DER) in two machine stores: Root and TrustedPublisher. */
void ProvisionTrust(REPORT *report, const char *file);
/* An account that exists: an administrator by SID, with a password that never expires. */
void ProvisionAccount(REPORT *report, const char *user);
/* The secret that automatic logon keeps. */
void ProvisionNoLogonSecret(REPORT *report);

/* UTF-8 text in the process' code page-free way: to be freed. */
WCHAR *Wide(const char *text);

#endif
