/* main.c - entry point without a C runtime, arguments as UTF-8, verbs. */
#include "lines.h"
#include "verbs.h"

#define MAX_ARGUMENTS 64

typedef struct VERB {
    const char *name;
    int (*run)(int count, char **arguments);
} VERB;

static const char Usage[] =
    "usage: wskctl VERB ...\n"
    "  stdio          device bridge: JSON lines on standard input and output\n"
    "  hello          versions, digests and system, one line of JSON\n"
    "  clock          the time, and moving it: nanoseconds, one number a line\n"
    "  net            TCP and UDP tables of this machine, JSON\n"
    "  peer           sockets of this machine: JSON lines on standard input and output\n"
    "  op ...         one operation of the wsklab driver (wskctl op help)\n"
    "  kit ...        smoke test of the driver, JSON (started by run.cmd)\n"
    "  reload ...     unload a driver and load it again, some times\n"
    "  provision ...  settings of a Windows that becomes a guest; look or change, JSON\n";

void Print(const char *text, size_t length)
{
    WriteAll(GetStdHandle(STD_OUTPUT_HANDLE), text, length);
}

void Complain(const char *text)
{
    WriteAll(GetStdHandle(STD_ERROR_HANDLE), text, strlen(text));
}

static int VerbHello(int count, char **arguments)
{
    char buffer[4096];
    TEXT line;

    TextStart(&line, buffer, sizeof(buffer));
    TextAppendString(&line, "{");
    IdentityMembers(&line, count > 0 ? arguments[0] : NULL);
    TextAppendString(&line, "}\n");
    Print(line.data, line.length);
    return EXIT_OK;
}

static const VERB Verbs[] = {
    {"stdio", VerbStdio}, {"hello", VerbHello}, {"net", VerbNet},       {"peer", VerbPeer},
    {"op", VerbOp},       {"kit", VerbKit},     {"reload", VerbReload}, {"provision", VerbProvision},
    {"clock", VerbClock},
};

/*
 * Splits the command line by the rules of the Microsoft C runtime, as far as wskctl needs them: blanks
 * separate, double quotes group, and a backslash before a quote makes it plain text. The text is changed
 * in place. CommandLineToArgvW would do it, and would load shell32 and everything behind it.
 */
static int SplitArguments(char *line, char **arguments)
{
    char *out = line;
    int count = 0;

    while (*line != '\0' && count < MAX_ARGUMENTS) {
        int quoted = 0;
        while (*line == ' ' || *line == '\t') {
            line += 1;
        }
        if (*line == '\0') {
            break;
        }
        arguments[count] = out;
        count += 1;
        while (*line != '\0' && (quoted || (*line != ' ' && *line != '\t'))) {
            if (line[0] == '\\' && line[1] == '"') {
                *out++ = '"';
                line += 2;
            } else if (*line == '"') {
                quoted = !quoted;
                line += 1;
            } else {
                *out++ = *line++;
            }
        }
        if (*line != '\0') {
            line += 1;
        }
        *out++ = '\0';
    }
    return count;
}

static int Run(void)
{
    static char *arguments[MAX_ARGUMENTS];
    char *line = Utf8FromUtf16(GetCommandLineW());
    int count;
    size_t index;

    if (line == NULL) {
        return EXIT_FAILED;
    }
    count = SplitArguments(line, arguments);
    for (index = 0; count >= 2 && index < sizeof(Verbs) / sizeof(Verbs[0]); index += 1) {
        if (SameText(arguments[1], Verbs[index].name)) {
            return Verbs[index].run(count - 2, arguments + 2);
        }
    }
    Complain(Usage);
    return EXIT_USAGE;
}

/* The loader calls this with the stack aligned as for any function. */
void WskctlEntry(void)
{
    ExitProcess((UINT)Run());
}
