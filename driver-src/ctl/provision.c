/* provision.c - `wskctl provision STEP`: which steps there are, and their report. See provision.h. */
#include "provision.h"

#include "verbs.h"

#include <winsvc.h>

#define COUNT(table) (sizeof(table) / sizeof((table)[0]))

typedef struct OPTIONS {
    const char *file;  /* --file: certificate, key */
    const char *from;  /* --from: folder of the OpenSSH package */
    const char *user;  /* --user */
    const char *token; /* --token */
} OPTIONS;

typedef struct STEP {
    const char *name;
    const char *help;
    void (*run)(REPORT *report, const OPTIONS *options);
} STEP;

static const char Crash[] = "SYSTEM\\CurrentControlSet\\Control\\CrashControl";
static const char MemoryManagement[] = "SYSTEM\\CurrentControlSet\\Control\\Session Manager\\Memory Management";
static const char System[] = "SOFTWARE\\Microsoft\\Windows\\CurrentVersion\\Policies\\System";
static const char Logon[] = "SOFTWARE\\Microsoft\\Windows NT\\CurrentVersion\\Winlogon";

/* A kernel dump into the page file, which is large enough for it; an NMI from the host makes one (sheet f.8, c.7). */
static void StepCrashControl(REPORT *report, const OPTIONS *options)
{
    static const REGISTRY_VALUE values[] = {
        {Crash, "CrashDumpEnabled", REG_DWORD, 2, NULL},
        {Crash, "AutoReboot", REG_DWORD, 1, NULL},
        {Crash, "Overwrite", REG_DWORD, 1, NULL},
        {Crash, "LogEvent", REG_DWORD, 1, NULL},
        {Crash, "AlwaysKeepMemoryDump", REG_DWORD, 1, NULL},
        {Crash, "NMICrashDump", REG_DWORD, 1, NULL},
        {Crash, "DumpFile", REG_EXPAND_SZ, 0, "%SystemRoot%\\MEMORY.DMP"},
        {Crash, "MinidumpDir", REG_EXPAND_SZ, 0, "%SystemRoot%\\Minidump"},
        {MemoryManagement, "PagingFiles", REG_MULTI_SZ, 0, "C:\\pagefile.sys 4608 5120"},
        {"SOFTWARE\\Microsoft\\Windows\\Windows Error Reporting", "DontShowUI", REG_DWORD, 1, NULL},
    };

    (void)options;
    ProvisionRegistry(report, values, COUNT(values));
}

/* Test signing, and no repair loop after a crash or a power cut (sheet f.1, f.9). In force after the next start. */
static void StepBoot(REPORT *report, const OPTIONS *options)
{
    static const COMMAND_SETTING settings[] = {
        {"testsigning", "bcdedit.exe /enum {current}", "testsigning yes", "bcdedit.exe /set {current} testsigning on"},
        {"bootstatuspolicy", "bcdedit.exe /enum {current}", "bootstatuspolicy ignoreallfailures",
         "bcdedit.exe /set {current} bootstatuspolicy IgnoreAllFailures"},
        {"recoveryenabled", "bcdedit.exe /enum {current}", "recoveryenabled no",
         "bcdedit.exe /set {current} recoveryenabled No"},
        {"timeout", "bcdedit.exe /enum {bootmgr}", "timeout 0", "bcdedit.exe /timeout 0"},
    };
    static const REGISTRY_VALUE values[] = {
        /* not a wish of ours: where Secure Boot is enforced, test signing is refused, and this says why */
        {"SYSTEM\\CurrentControlSet\\Control\\CI\\Policy", "VerifiedAndReputablePolicyState", REG_DWORD, 0, NULL},
    };

    (void)options;
    ProvisionCommands(report, settings, COUNT(settings));
    ProvisionRegistry(report, values, COUNT(values));
}

/* Nothing that works in the background, asks questions or goes to sleep (sheet g). */
static void StepQuiet(REPORT *report, const OPTIONS *options)
{
    static const char update[] = "SOFTWARE\\Policies\\Microsoft\\Windows\\WindowsUpdate\\AU";
    static const char cloud[] = "SOFTWARE\\Policies\\Microsoft\\Windows\\CloudContent";
    static const REGISTRY_VALUE values[] = {
        {update, "NoAutoUpdate", REG_DWORD, 1, NULL},
        {"SOFTWARE\\Policies\\Microsoft\\Windows\\DataCollection", "AllowTelemetry", REG_DWORD, 0, NULL},
        {cloud, "DisableWindowsConsumerFeatures", REG_DWORD, 1, NULL},
        {cloud, "DisableCloudOptimizedContent", REG_DWORD, 1, NULL},
        {"SYSTEM\\CurrentControlSet\\Control\\Session Manager\\Power", "HiberbootEnabled", REG_DWORD, 0, NULL},
        {"SOFTWARE\\Microsoft\\ServerManager", "DoNotOpenServerManagerAtLogon", REG_DWORD, 1, NULL},
        {"SOFTWARE\\Microsoft\\ServerManager\\Oobe", "DoNotOpenInitialConfigurationTasksAtLogon", REG_DWORD, 1, NULL},
        {"SOFTWARE\\Policies\\Microsoft\\Windows NT\\Reliability", "ShutdownReasonOn", REG_DWORD, 0, NULL},
        {System, "DisableCAD", REG_DWORD, 1, NULL},
        {"SYSTEM\\CurrentControlSet\\Control\\BitLocker", "PreventDeviceEncryption", REG_DWORD, 1, NULL},
        {"SOFTWARE\\Microsoft\\Windows\\Windows Error Reporting", "Disabled", REG_DWORD, 1, NULL},
        {"SOFTWARE\\Microsoft\\Windows NT\\CurrentVersion\\Schedule\\Maintenance", "MaintenanceDisabled", REG_DWORD, 1, NULL},
        {"SYSTEM\\CurrentControlSet\\Control\\TimeZoneInformation", "TimeZoneKeyName", REG_SZ, 0, "UTC"},
        {"SYSTEM\\CurrentControlSet\\Control\\TimeZoneInformation", "Bias", REG_DWORD, 0, NULL},
        {System, "LocalAccountTokenFilterPolicy", REG_DWORD, 1, NULL},
        {System, "EnableLUA", REG_DWORD, 0, NULL},
    };
    static const START_TYPE services[] = {
        {"wuauserv", SERVICE_DISABLED, 1}, {"DiagTrack", SERVICE_DISABLED, 1}, {"WSearch", SERVICE_DISABLED, 1},
        {"SysMain", SERVICE_DISABLED, 1},  {"W32Time", SERVICE_DISABLED, 1},
    };
    static const COMMAND_SETTING settings[] = {
        {"no sleep", "powercfg.exe /query SCHEME_CURRENT SUB_SLEEP STANDBYIDLE", "current ac power setting index: 0x00000000",
         "powercfg.exe /change standby-timeout-ac 0"},
        {"no dark screen", "powercfg.exe /query SCHEME_CURRENT SUB_VIDEO VIDEOIDLE",
         "current ac power setting index: 0x00000000", "powercfg.exe /change monitor-timeout-ac 0"},
        {"passwords do not expire", "net.exe accounts", "maximum password age (days): unlimited",
         "net.exe accounts /maxpwage:unlimited"},
    };

    (void)options;
    ProvisionRegistry(report, values, COUNT(values));
    ProvisionServices(report, services, COUNT(services));
    ProvisionCommands(report, settings, COUNT(settings));
}

static void StepTrust(REPORT *report, const OPTIONS *options)
{
    ProvisionTrust(report, options->file);
}

static void StepAccount(REPORT *report, const OPTIONS *options)
{
    ProvisionAccount(report, options->user);
}

/* Our own rule: those of the packages cover some network profiles only (sheet d.3). */
static void StepFirewall(REPORT *report, const OPTIONS *options)
{
    static const COMMAND_SETTING settings[] = {
        {"wsklab-sshd", "netsh.exe advfirewall firewall show rule name=wsklab-sshd", "wsklab-sshd",
         "netsh.exe advfirewall firewall add rule name=wsklab-sshd dir=in action=allow protocol=TCP localport=22 profile=any"},
    };

    (void)options;
    ProvisionCommands(report, settings, COUNT(settings));
}

/* The SSH server: its files (unless the system has them), keys and access lists, its service (sheet d.1, d.2, d.4). */
static void StepSsh(REPORT *report, const OPTIONS *options)
{
    static const char config[] =
        "# wsklab\nPubkeyAuthentication yes\nPasswordAuthentication no\nUseDNS no\nSubsystem sftp sftp-server.exe\n"
        "Match Group administrators\n       AuthorizedKeysFile __PROGRAMDATA__/ssh/administrators_authorized_keys\n";
    static const char folderAccess[] = "D:P(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)(A;OICI;0x1200a9;;;AU)";
    static const char secretAccess[] = "D:P(A;;FA;;;SY)(A;;FA;;;BA)";
    static const WCHAR folder[] = L"C:\\ProgramData\\ssh";
    static const WCHAR keys[] = L"C:\\ProgramData\\ssh\\administrators_authorized_keys";
    static const WCHAR program[] = L"C:\\Program Files\\OpenSSH";
    WCHAR *source = Wide(options->file);
    size_t size = 0;
    DWORD win32 = 0;
    void *key = source == NULL ? NULL : ReadWhole(source, 16384, &size, &win32);

    if (key == NULL) {
        ReportError(report, "key", options->file, "read the public key", win32);
        Free(source);
        return;
    }
    if (options->from != NULL) {
        WCHAR *from = Wide(options->from);
        ProvisionCopy(report, from, program);
        Free(from);
        ProvisionOwnService(report, "sshd", "OpenSSH SSH Server", "\"C:\\Program Files\\OpenSSH\\sshd.exe\"");
    } else {
        static const START_TYPE service[] = {{"sshd", SERVICE_AUTO_START, 0}};
        ProvisionServices(report, service, COUNT(service));
    }
    ProvisionFile(report, L"C:\\ProgramData\\ssh\\sshd_config", config, sizeof(config) - 1);
    ProvisionFile(report, keys, key, size);
    ProvisionAccess(report, folder, folderAccess);
    ProvisionAccess(report, keys, secretAccess);
    ProvisionStarted(report, "sshd", report->changed, 60); /* it reads its settings at its start only */
    Free(key);
    Free(source);
}

/* The last step: nothing of the installation's secrets stays, and a sign that this installation is done. */
static void StepSeal(REPORT *report, const OPTIONS *options)
{
    static const REGISTRY_VALUE values[] = {
        {Logon, "AutoAdminLogon", REG_SZ, 0, "0"},
        {Logon, "DefaultPassword", REG_NONE, 0, NULL},
        {Logon, "AutoLogonCount", REG_NONE, 0, NULL},
    };

    ProvisionRegistry(report, values, COUNT(values));
    ProvisionNoLogonSecret(report);
    ProvisionGone(report, L"C:\\Windows\\Panther\\unattend.xml");
    ProvisionGone(report, L"C:\\Windows\\Panther\\unattend-original.xml");
    ProvisionFile(report, L"C:\\wsklab\\token", options->token, strlen(options->token));
}

static const STEP Steps[] = {
    {"crash-control", "kernel dumps, page file, a dump on NMI", StepCrashControl},
    {"boot", "test signing on, no repair loops", StepBoot},
    {"quiet", "no updates, telemetry, sleep, questions; clock in UTC", StepQuiet},
    {"trust", "--file CERTIFICATE.cer: into Root and TrustedPublisher", StepTrust},
    {"account", "--user NAME: an administrator whose password does not expire", StepAccount},
    {"firewall", "the SSH port, on all network profiles", StepFirewall},
    {"ssh", "--file KEY.pub [--from FOLDER]: the SSH server, with its files from the folder", StepSsh},
    {"seal", "--token TEXT: forget the installation's secrets, leave the token", StepSeal},
};

static const STEP *FindStep(const char *name)
{
    for (size_t index = 0; index < COUNT(Steps); index += 1) {
        if (SameText(name, Steps[index].name)) {
            return &Steps[index];
        }
    }
    return NULL;
}

static int Usage(void)
{
    Complain("usage: wskctl provision STEP [--check] [options]   (look only with --check; one line of JSON)\n");
    for (size_t index = 0; index < COUNT(Steps); index += 1) {
        Complain("  ");
        Complain(Steps[index].name);
        Complain("\t");
        Complain(Steps[index].help);
        Complain("\n");
    }
    return EXIT_USAGE;
}

/* 0 when an option is unknown, has no value, or the step misses one. */
static int ParseOptions(const STEP *step, int count, char **arguments, OPTIONS *options, int *check)
{
    for (int index = 0; index < count; index += 1) {
        const char **slot = SameText(arguments[index], "--file")    ? &options->file
                            : SameText(arguments[index], "--from")  ? &options->from
                            : SameText(arguments[index], "--user")  ? &options->user
                            : SameText(arguments[index], "--token") ? &options->token
                                                                    : NULL;
        if (SameText(arguments[index], "--check")) {
            *check = 1;
        } else if (slot == NULL || index + 1 == count) {
            return 0;
        } else {
            index += 1;
            *slot = arguments[index];
        }
    }
    return !((step->run == StepTrust || step->run == StepSsh) && options->file == NULL) &&
           !(step->run == StepAccount && options->user == NULL) && !(step->run == StepSeal && options->token == NULL);
}

void ReportSetting(REPORT *report, const char *name, const char *wanted, const char *before, const char *after, int ok,
                   const char *why)
{
    TEXT *text = &report->text;

    TextAppendString(text, text->data[text->length - 1] == '[' ? "{" : ",{");
    TextMemberString(text, "name", name);
    TextMemberString(text, "wanted", wanted);
    TextMemberName(text, "before");
    before == NULL ? TextAppendString(text, "null") : TextAppendQuoted(text, before, strlen(before));
    TextMemberName(text, "after");
    after == NULL ? TextAppendString(text, "null") : TextAppendQuoted(text, after, strlen(after));
    TextMemberBoolean(text, "ok", ok);
    if (why != NULL) {
        TextMemberString(text, "why", why);
    }
    TextAppendString(text, "}");
    report->ok &= ok;
}

void ReportError(REPORT *report, const char *name, const char *wanted, const char *tried, DWORD win32)
{
    char buffer[512];
    TEXT why;

    TextStart(&why, buffer, sizeof(buffer) - 1);
    TextAppendString(&why, "cannot ");
    TextAppendString(&why, tried);
    TextAppendString(&why, ": Win32 error ");
    TextAppendUnsigned(&why, win32);
    buffer[why.length] = '\0';
    ReportSetting(report, name, wanted == NULL ? "" : wanted, NULL, NULL, 0, buffer);
}

WCHAR *Wide(const char *text)
{
    return text == NULL ? NULL : Utf16FromUtf8(text, strlen(text));
}

int VerbProvision(int count, char **arguments)
{
    OPTIONS options = {0};
    const STEP *step = count > 0 ? FindStep(arguments[0]) : NULL;
    REPORT report = {.ok = 1};
    char *buffer;

    if (step == NULL || !ParseOptions(step, count - 1, arguments + 1, &options, &report.check)) {
        return Usage();
    }
    buffer = Allocate(PROVISION_REPORT_LIMIT);
    if (buffer == NULL) {
        Complain("wskctl: out of memory\n");
        return EXIT_FAILED;
    }
    TextStart(&report.text, buffer, PROVISION_REPORT_LIMIT);
    TextAppendString(&report.text, "{");
    TextMemberString(&report.text, "step", step->name);
    TextMemberName(&report.text, "settings");
    TextAppendString(&report.text, "[");
    step->run(&report, &options);
    TextAppendString(&report.text, "]");
    TextMemberBoolean(&report.text, "ok", report.ok);
    TextMemberBoolean(&report.text, "changed", report.changed);
    TextAppendString(&report.text, "}\n");
    if (report.text.overflow) {
        Complain("wskctl: the report is too long\n");
        return EXIT_FAILED;
    }
    Print(report.text.data, report.text.length);
    Free(buffer);
    return report.ok ? EXIT_OK : EXIT_FAILED;
}
