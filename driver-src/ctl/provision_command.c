/* provision_command.c - Windows' own programs, where C has no documented interface. See provision.h. */
#include "provision.h"

#define COMMAND_SECONDS 60u
#define PIPE_CHUNK 1024u

/* Reads what there is without waiting for more. */
static void Drain(HANDLE pipe, COMMAND_RESULT *result, size_t *used)
{
    char chunk[PIPE_CHUNK];
    DWORD waiting = 0, got = 0;

    while (PeekNamedPipe(pipe, NULL, 0, NULL, &waiting, NULL) && waiting != 0 &&
           ReadFile(pipe, chunk, sizeof(chunk), &got, NULL) && got != 0) {
        size_t room = sizeof(result->output) - 1 - *used;
        size_t taken = got < room ? got : room;
        memcpy(result->output + *used, chunk, taken);
        *used += taken;
    }
}

void RunCommand(const char *command, unsigned seconds, COMMAND_RESULT *result)
{
    SECURITY_ATTRIBUTES inherit = {.nLength = sizeof(inherit), .bInheritHandle = TRUE};
    ULONGLONG end = GetTickCount64() + seconds * 1000ull;
    STARTUPINFOW start = {.cb = sizeof(start), .dwFlags = STARTF_USESTDHANDLES};
    PROCESS_INFORMATION process = {0};
    HANDLE reading = NULL, writing = NULL;
    WCHAR *line = Wide(command);
    size_t used = 0;

    memset(result, 0, sizeof(*result));
    if (line == NULL || !CreatePipe(&reading, &writing, &inherit, 0)) {
        result->win32 = ERROR_NOT_ENOUGH_MEMORY;
        Free(line);
        return;
    }
    SetHandleInformation(reading, HANDLE_FLAG_INHERIT, 0);
    start.hStdOutput = start.hStdError = writing;
    if (!CreateProcessW(NULL, line, NULL, NULL, TRUE, CREATE_NO_WINDOW, NULL, NULL, &start, &process)) {
        result->win32 = GetLastError();
    }
    CloseHandle(writing);
    if (result->win32 == 0) {
        while (WaitForSingleObject(process.hProcess, 50) == WAIT_TIMEOUT) {
            Drain(reading, result, &used);
            if (GetTickCount64() > end) {
                TerminateProcess(process.hProcess, 1);
                result->win32 = ERROR_TIMEOUT;
                break;
            }
        }
        Drain(reading, result, &used);
        GetExitCodeProcess(process.hProcess, &result->code);
        CloseHandle(process.hThread);
        CloseHandle(process.hProcess);
    }
    CloseHandle(reading);
    Free(line);
}

static char Lower(char letter)
{
    return letter >= 'A' && letter <= 'Z' ? (char)(letter - 'A' + 'a') : letter;
}

static int IsBlank(char letter)
{
    return letter == ' ' || letter == '\t' || letter == '\r' || letter == '\n';
}

/* Whether the text at this place is the sign: any run of blanks is one, letters' case does not matter. */
static int Matches(const char *text, const char *sign)
{
    while (*sign != '\0') {
        if (*sign == ' ') {
            if (!IsBlank(*text)) {
                return 0;
            }
            while (IsBlank(*text)) {
                text += 1;
            }
            sign += 1;
        } else if (Lower(*text) != Lower(*sign)) {
            return 0;
        } else {
            text += 1;
            sign += 1;
        }
    }
    return 1;
}

static int Contains(const char *text, const char *sign)
{
    for (; *text != '\0'; text += 1) {
        if (Matches(text, sign)) {
            return 1;
        }
    }
    return 0;
}

static void ProvisionCommand(REPORT *report, const COMMAND_SETTING *setting, COMMAND_RESULT *result)
{
    const char *shown = NULL;
    int before, after;

    RunCommand(setting->look, COMMAND_SECONDS, result);
    if (result->win32 != 0) {
        ReportError(report, setting->name, setting->sign, setting->look, result->win32);
        return;
    }
    before = after = Contains(result->output, setting->sign);
    if (!before && !report->check) {
        RunCommand(setting->change, COMMAND_SECONDS, result);
        if (result->win32 != 0 || result->code != 0) {
            /* its own words say why, e.g. that Secure Boot protects the value */
            result->output[400] = '\0';
            ReportSetting(report, setting->name, setting->sign, "otherwise", NULL, 0,
                          result->output[0] != '\0' ? result->output : setting->change);
            return;
        }
        report->changed = 1;
        RunCommand(setting->look, COMMAND_SECONDS, result);
        after = result->win32 == 0 && Contains(result->output, setting->sign);
    }
    if (!after) {
        result->output[400] = '\0';
        shown = result->output[0] != '\0' ? result->output : "it printed nothing";
    }
    ReportSetting(report, setting->name, setting->sign, before ? setting->sign : "otherwise",
                  after ? setting->sign : "otherwise", after, shown);
}

void ProvisionCommands(REPORT *report, const COMMAND_SETTING *settings, size_t count)
{
    COMMAND_RESULT *result = Allocate(sizeof(*result));

    if (result == NULL) {
        ReportError(report, "commands", "", "get memory", ERROR_NOT_ENOUGH_MEMORY);
        return;
    }
    for (size_t index = 0; index < count; index += 1) {
        ProvisionCommand(report, &settings[index], result);
    }
    Free(result);
}
