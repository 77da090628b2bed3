/*
 * kit.c - `wskctl kit run` and `wskctl kit report`: what run.cmd calls.
 *
 *   kit run --output FILE                   cases on the loaded driver; the report as JSON
 *   kit report RUN STEPS --output FILE      RUN's report and the lines of STEPS ("name code") as one document
 *
 * run.cmd knows only cmd's own commands, so the second verb puts its steps into the JSON.
 */
#include "kit.h"

#include "json.h"
#include "lines.h"
#include "verbs.h"

#define REPORT_LIMIT (1u << 20)
#define STEPS_LIMIT 65536u
#define MAX_STEPS 256

static const char Usage[] = "usage: wskctl kit run --output FILE\n"
                            "       wskctl kit report RUN-FILE STEPS-FILE --output FILE\n";

int KitCheck(KIT *kit, const char *text, int held)
{
    TEXT *report = kit->report;

    TextAppendString(report, kit->checks == 0 ? "{" : ",{");
    TextMemberString(report, "text", text);
    TextMemberBoolean(report, "held", held);
    TextAppendString(report, "}");
    kit->checks += 1;
    kit->failures += held ? 0 : 1;
    return held;
}

void KitObserve(KIT *kit, const WSKLAB_RECORD *record)
{
    TEXT *report = kit->report;

    TextAppendString(report, kit->checks == 0 ? "{" : ",{");
    TextMemberName(report, "record");
    TextAppendString(report, "{");
    RecordMembers(report, record);
    TextAppendString(report, "}}");
    kit->checks += 1;
}

static void RunCase(KIT *kit, const KIT_CASE *one, int first)
{
    TEXT *report = kit->report;

    kit->checks = 0;
    kit->failures = 0;
    TextAppendString(report, first ? "{" : ",{");
    TextMemberString(report, "rule", one->rule);
    TextMemberString(report, "name", one->name);
    TextMemberName(report, "findings");
    TextAppendString(report, "[");
    one->run(kit);
    TextAppendString(report, "]");
    TextMemberString(report, "verdict", kit->checks == 0 ? "not_run" : kit->failures == 0 ? "passed" : "failed");
    TextAppendString(report, "}");
}

/* RFC 3339, UTC. */
static void TimeMember(TEXT *line, const char *name)
{
    SYSTEMTIME now;
    const WORD *const parts[] = {&now.wYear, &now.wMonth, &now.wDay, &now.wHour, &now.wMinute, &now.wSecond};
    static const char separators[] = "--T::Z";
    size_t index;

    GetSystemTime(&now);
    TextMemberName(line, name);
    TextAppend(line, "\"", 1);
    for (index = 0; index < 6; index += 1) {
        if (*parts[index] < 10) {
            TextAppend(line, "0", 1);
        }
        TextAppendUnsigned(line, *parts[index]);
        TextAppend(line, separators + index, 1);
    }
    TextAppend(line, "\"", 1);
}

static void EnvironmentMember(TEXT *line, const char *name, const WCHAR *variable)
{
    WCHAR value[256];
    DWORD length = GetEnvironmentVariableW(variable, value, 256);
    char *text = length > 0 && length < 256 ? Utf8FromUtf16(value) : NULL;

    TextMemberString(line, name, text);
    Free(text);
}

/* The driver's hello with the sizes of both sides; 0 when they do not fit together. */
static int AbiMembers(TEXT *line, KIT *kit)
{
    WSKLAB_HELLO_REQUEST request = {{sizeof(request), WSKLAB_ABI_VERSION, 0}};
    WSKLAB_HELLO hello;
    size_t returned = 0;
    NTSTATUS status = ClientIoctl(&kit->client, IOCTL_WSKLAB_HELLO, &request, sizeof(request), &hello, sizeof(hello),
                                  CLIENT_WAIT_MS, &returned);
    int fits = status >= 0 && returned == sizeof(hello) && hello.size == sizeof(hello) &&
               hello.abi == WSKLAB_ABI_VERSION && hello.submit_size == sizeof(WSKLAB_SUBMIT) &&
               hello.record_size == sizeof(WSKLAB_RECORD) && hello.socket_entry_size == sizeof(WSKLAB_SOCKET_ENTRY) &&
               hello.event_size == sizeof(WSKLAB_EVENT) && hello.ledger_size == sizeof(WSKLAB_LEDGER);

    TextMemberName(line, "driver");
    TextAppendString(line, "{");
    TextMemberUnsigned(line, "hello_status", (uint32_t)status);
    TextMemberBoolean(line, "abi_fits", fits);
    if (status >= 0 && returned == sizeof(hello)) {
        HelloMembers(line, &hello);
        kit->wine = (hello.flags & WSKLAB_HELLO_WINE) != 0;
        kit->os_build = hello.os_build;
    }
    TextAppendString(line, "}");
    return fits;
}

static int WriteFileWhole(const char *path, const char *data, size_t length)
{
    WCHAR *wide = Utf16FromUtf8(path, strlen(path));
    HANDLE file = wide == NULL ? INVALID_HANDLE_VALUE
                               : CreateFileW(wide, GENERIC_WRITE, 0, NULL, CREATE_ALWAYS, FILE_ATTRIBUTE_NORMAL, NULL);
    int written = file != INVALID_HANDLE_VALUE && WriteAll(file, data, length);

    if (file != INVALID_HANDLE_VALUE) {
        CloseHandle(file);
    }
    Free(wide);
    return written;
}

/* The whole file with a zero behind it, to be freed; NULL when it cannot be read or is longer than limit. */
static char *ReadFileWhole(const char *path, size_t limit, size_t *length)
{
    WCHAR *wide = Utf16FromUtf8(path, strlen(path));
    HANDLE file = wide == NULL ? INVALID_HANDLE_VALUE
                               : CreateFileW(wide, GENERIC_READ, FILE_SHARE_READ, NULL, OPEN_EXISTING, 0, NULL);
    char *data = Allocate(limit + 1);
    DWORD got = 0;

    *length = 0;
    while (file != INVALID_HANDLE_VALUE && data != NULL && *length <= limit &&
           ReadFile(file, data + *length, (DWORD)(limit + 1 - *length), &got, NULL) && got > 0) {
        *length += got;
    }
    if (file == INVALID_HANDLE_VALUE || (data != NULL && *length > limit)) {
        Free(data);
        data = NULL;
    } else if (data != NULL) {
        data[*length] = '\0';
    }
    if (file != INVALID_HANDLE_VALUE) {
        CloseHandle(file);
    }
    Free(wide);
    return data;
}

static int KitRun(const char *output)
{
    char *buffer = Allocate(REPORT_LIMIT);
    TEXT report;
    KIT kit;
    DWORD win32;
    size_t index;

    if (buffer == NULL) {
        return EXIT_FAILED;
    }
    memset(&kit, 0, sizeof(kit));
    kit.report = &report;
    TextStart(&report, buffer, REPORT_LIMIT);
    TextAppendString(&report, "{");
    TimeMember(&report, "started");
    win32 = ClientOpen(&kit.client);
    TextMemberUnsigned(&report, "open_win32", win32);
    if (win32 == 0) {
        int fits = AbiMembers(&report, &kit);
        TextMemberName(&report, "cases");
        TextAppendString(&report, "[");
        for (index = 0; fits && index < KitCaseCount; index += 1) {
            RunCase(&kit, &KitCases[index], index == 0);
        }
        TextAppendString(&report, "]");
        ClientClose(&kit.client);
    }
    TimeMember(&report, "ended");
    TextAppendString(&report, "}\n");
    if (report.overflow || !WriteFileWhole(output, report.data, report.length)) {
        Complain("wskctl: the report cannot be written\n");
        return EXIT_FAILED;
    }
    return win32 == 0 ? EXIT_OK : EXIT_FAILED;
}

/* Lines of "name code"; what does not look so is left out. */
static void StepMembers(TEXT *line, char *steps)
{
    int count = 0;

    TextMemberName(line, "steps");
    TextAppendString(line, "[");
    while (*steps != '\0' && count < MAX_STEPS) {
        char *name = steps;
        char *code;
        char *end;
        uint64_t value;

        while (*steps != '\0' && *steps != '\n') {
            steps += 1;
        }
        end = steps;
        if (*steps == '\n') {
            steps += 1;
        }
        while (end > name && (end[-1] == '\r' || end[-1] == ' ')) {
            end -= 1;
        }
        *end = '\0';
        code = strchr(name, ' ');
        if (code == NULL) {
            continue;
        }
        *code = '\0';
        code += 1;
        TextAppendString(line, count == 0 ? "{" : ",{");
        TextMemberString(line, "name", name);
        TextMemberName(line, "code");
        /* errorlevel is signed: sc gives small numbers, a crashed program a negative one. */
        if (code[0] == '-' && ParseNumber(code + 1, 1ULL << 31, &value)) {
            TextAppendString(line, "-");
            TextAppendUnsigned(line, value);
        } else if (ParseNumber(code, UINT32_MAX, &value)) {
            TextAppendUnsigned(line, value);
        } else {
            TextAppendString(line, "null");
        }
        TextAppendString(line, "}");
        count += 1;
    }
    TextAppendString(line, "]");
}

static int KitReport(const char *run_file, const char *steps_file, const char *output)
{
    size_t run_length;
    size_t steps_length;
    char *run = ReadFileWhole(run_file, REPORT_LIMIT, &run_length);
    char *steps = ReadFileWhole(steps_file, STEPS_LIMIT, &steps_length);
    char *buffer = Allocate(2 * REPORT_LIMIT);
    TEXT report;

    if (buffer == NULL || steps == NULL) {
        Complain("wskctl: the steps cannot be read\n");
        return EXIT_FAILED;
    }
    while (run != NULL && run_length > 0 && (run[run_length - 1] == '\n' || run[run_length - 1] == '\r')) {
        run_length -= 1;
    }
    TextStart(&report, buffer, 2 * REPORT_LIMIT);
    TextAppendString(&report, "{");
    TextMemberString(&report, "kind", "wsklab-kit");
    TextMemberUnsigned(&report, "schema", 1);
    TimeMember(&report, "reported");
    EnvironmentMember(&report, "computer", L"COMPUTERNAME");
    EnvironmentMember(&report, "user", L"USERNAME");
    TextMemberName(&report, "wskctl");
    TextAppendString(&report, "{");
    IdentityMembers(&report, NULL);
    TextAppendString(&report, "}");
    StepMembers(&report, steps);
    TextMemberName(&report, "run");
    if (run == NULL || run_length == 0) {
        TextAppendString(&report, "null");
    } else {
        TextAppend(&report, run, run_length);
    }
    TextAppendString(&report, "}\n");
    if (report.overflow || !WriteFileWhole(output, report.data, report.length)) {
        Complain("wskctl: the report cannot be written\n");
        return EXIT_FAILED;
    }
    return EXIT_OK;
}

int VerbKit(int count, char **arguments)
{
    if (count == 3 && SameText(arguments[0], "run") && SameText(arguments[1], "--output")) {
        return KitRun(arguments[2]);
    }
    if (count == 5 && SameText(arguments[0], "report") && SameText(arguments[3], "--output")) {
        return KitReport(arguments[1], arguments[2], arguments[4]);
    }
    Complain(Usage);
    return EXIT_USAGE;
}
