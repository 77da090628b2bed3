/*
 * clock.c - `wskctl clock`: what the time is here, and setting it.
 *
 * Each line of standard input is a number of nanoseconds that the clock is moved by, 0 to leave it; each is answered with
 * {"unix_ns": N}, the time afterwards. A difference, and a conversation: so neither the start of this program nor the way
 * to it makes the clock wrong. A machine that continues from a saved memory has the time of when it was saved.
 */
#include "lines.h"
#include "verbs.h"

/* 1970 in 100 ns since 1601. */
#define UNIX_EPOCH 116444736000000000ull
#define HALF_A_MILLISECOND 5000
/* 285 years: what a signed number of nanoseconds holds. */
#define LARGEST_MOVE 9000000000000000000ull

static uint64_t Now(void)
{
    FILETIME time;

    GetSystemTimePreciseAsFileTime(&time);
    return (uint64_t)time.dwHighDateTime << 32 | time.dwLowDateTime;
}

/* Moves the clock by units of 100 ns; SetSystemTime enables the privilege that it needs by itself. Returns a Win32 code. */
static DWORD MoveClock(uint64_t units, int back)
{
    uint64_t wanted;
    FILETIME time;
    SYSTEMTIME parts;

    wanted = Now() + HALF_A_MILLISECOND; /* SYSTEMTIME has milliseconds: the nearest one */
    wanted = back ? wanted - units : wanted + units;
    time.dwHighDateTime = (DWORD)(wanted >> 32);
    time.dwLowDateTime = (DWORD)wanted;
    return FileTimeToSystemTime(&time, &parts) && SetSystemTime(&parts) ? ERROR_SUCCESS : GetLastError();
}

static void Answer(const char *line)
{
    int back = line[0] == '-';
    uint64_t nanoseconds = 0;
    DWORD code = ERROR_INVALID_PARAMETER;
    char buffer[128];
    TEXT text;

    TextStart(&text, buffer, sizeof(buffer));
    TextAppendString(&text, "{");
    if (ParseNumber(line + back, LARGEST_MOVE, &nanoseconds)) {
        code = nanoseconds == 0 ? ERROR_SUCCESS : MoveClock(nanoseconds / 100, back);
    }
    if (code == ERROR_SUCCESS) {
        TextMemberUnsigned(&text, "unix_ns", (Now() - UNIX_EPOCH) * 100);
    } else {
        TextMemberUnsigned(&text, "win32", code);
    }
    TextAppendString(&text, "}\n");
    Print(text.data, text.length);
}

int VerbClock(int count, char **arguments)
{
    LINE_READER reader;
    char *line;
    size_t length;
    LINE_RESULT result;

    (void)arguments;
    if (count != 0) {
        Complain("wskctl: clock takes no arguments, only lines\n");
        return EXIT_USAGE;
    }
    if (!LineReaderStart(&reader, GetStdHandle(STD_INPUT_HANDLE))) {
        Complain("wskctl: no memory\n");
        return EXIT_FAILED;
    }
    while ((result = LineReaderNext(&reader, &line, &length)) != LINE_END) {
        if (result == LINE_READY) {
            line[length] = '\0'; /* in the place of the newline */
            Answer(line);
        } else {
            Answer("");
        }
    }
    LineReaderEnd(&reader);
    return EXIT_OK;
}
